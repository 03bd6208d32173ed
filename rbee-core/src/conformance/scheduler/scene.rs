//! Questions about clusters that are generated from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    cluster::{ClusterView, HiveView, LaneKey, LaneView, WorkerState, WorkerView},
    device::{Device, DeviceKind},
    error::{Error, ErrorKind},
    id::{CorrelationId, HiveId, JobId, WorkerId},
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
    scheduler::Ask,
    task::{Prompt, Sampling, Task},
    time::{Now, Time, WallTime},
    worker::{Capabilities, WorkerInfo},
};

/// A question, and its cluster.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) ask: Ask,
    pub(super) cluster: ClusterView,
}

/// The state of the workers in a large cluster.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// All have the job's model, and no jobs.
    Free,
    /// All have the job's model, and all their slots are taken.
    Busy,
    /// None has the job's model, and all their slots are taken.
    OtherModels,
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `bound`, which must not be 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, random: u64) -> bool {
        self.below(100) < random
    }

    fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

const GIB: u64 = 1 << 30;
/// A time after all generated events.
const NOW: Time = Time::from_micros(3_600_000_000);

impl Scene {
    /// A few hives and workers in every possible state.
    pub(super) fn random(seed: u64) -> Self {
        let random = &mut Random(seed);
        let hives: Vec<HiveView> = (0..random.below(5)).map(|n| hive(random, n)).collect();
        let mut cluster = ClusterView::default();
        let mut workers = Vec::new();
        if !hives.is_empty() {
            for _ in 0..random.below(13) {
                let home = &hives[random.below(hives.len() as u64) as usize];
                let worker = worker(random, home);
                workers.push(worker.info.id);
                cluster.put_worker(worker);
            }
        }
        let ask = ask(random, &workers, &hives);
        for hive in hives {
            cluster.put_hive(hive);
        }
        cluster.put_lane(
            &LaneKey { model: ask.job.model.clone(), tenant: None },
            Some(LaneView { depth: 1, oldest: NOW }),
        );
        Self { ask, cluster }
    }

    /// This many workers, on 100 hives.
    pub(super) fn large(seed: u64, count: usize, load: Load) -> Self {
        let random = &mut Random(seed);
        let mut scene = Self { ask: ask(random, &[], &[]), cluster: ClusterView::default() };
        let hives: Vec<HiveView> =
            (0..100).map(|n| HiveView { online: true, ..hive(random, n) }).collect();
        for n in 0..count {
            let mut view = worker(random, &hives[n % hives.len()]);
            let info = Arc::make_mut(&mut view.info);
            info.model = match load {
                Load::OtherModels => model(1 + random.below(50)),
                Load::Free | Load::Busy => model(0),
            };
            info.capabilities = Capabilities { generate: true, embed: true, ..info.capabilities };
            view.state = WorkerState::Ready;
            view.leased = match load {
                Load::Free => 0,
                Load::Busy | Load::OtherModels => view.info.slots,
            };
            scene.cluster.put_worker(view);
        }
        for hive in hives {
            scene.cluster.put_hive(hive);
        }
        Arc::make_mut(&mut scene.ask.job).model = model(0);
        scene
    }

    /// The same cluster, built in reverse order.
    pub(super) fn cluster_put_together_backwards(&self) -> ClusterView {
        let mut cluster = ClusterView::default();
        for (key, lane) in self.cluster.lanes() {
            cluster.put_lane(key, Some(lane.clone()));
        }
        let hives: Vec<_> = self.cluster.hives().cloned().collect();
        for hive in hives.iter().rev() {
            cluster.put_hive(HiveView::clone(hive));
        }
        let workers: Vec<_> = self.cluster.workers().cloned().collect();
        for worker in workers.iter().rev() {
            cluster.put_worker(WorkerView::clone(worker));
        }
        cluster
    }
}

fn model(number: u64) -> ModelRef {
    let name = format!("model-{number}");
    name.parse().expect("letters, digits and a dash")
}

fn hive(random: &mut Random, number: u64) -> HiveView {
    let devices: Arc<[Device]> = (0..random.below(4))
        .map(|index| {
            let memory_total = (1 + random.below(32)) * GIB;
            Device {
                index: index as u32,
                kind: match index {
                    0 => DeviceKind::Cpu,
                    _ => DeviceKind::Cuda,
                },
                name: format!("device-{index}"),
                memory_total,
                memory_free: random.below(memory_total),
            }
        })
        .collect();
    let mut models = BTreeMap::new();
    for number in 0..3 {
        if random.percent(40) {
            let bytes = (1 + random.below(16)) * GIB / 2;
            models.insert(
                model(number),
                crate::model_on_disk::ModelOnDisk::new(model(number), bytes),
            );
        }
    }
    HiveView {
        id: HiveId::new(format!("hive-{number}")).expect("letters, digits and a dash"),
        draining: false,
        online: random.percent(80),
        devices,
        memory_budget: None,
        labels: Arc::default(),
        models: Arc::new(models),
        engines: None,
        reserved: if random.percent(20) {
            BTreeMap::from([(random.below(4) as u32, random.below(4 * GIB))])
        } else {
            BTreeMap::new()
        },
    }
}

fn worker(random: &mut Random, home: &HiveView) -> WorkerView {
    let mut info = WorkerInfo::new(model(random.below(3)), "test");
    info.id = WorkerId::from_random_bits(random.bits());
    info.hive = home.id.clone();
    info.slots = 1 + random.below(4) as u32;
    info.numerics = numerics(random.below(2));
    info.devices = match home.devices.len() as u64 {
        0 => Vec::new(),
        count => vec![random.below(count) as u32],
    };
    info.capabilities = Capabilities {
        generate: random.percent(80),
        embed: random.percent(40),
        ..Capabilities::default()
    };
    let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(random.below(1000)));
    view.state = match random.below(10) {
        0 => WorkerState::Loading,
        1 => WorkerState::Draining,
        2 => WorkerState::Failed,
        _ => WorkerState::Ready,
    };
    if view.state != WorkerState::Loading && random.percent(50) {
        view.leased = random.below(u64::from(view.info.slots) + 1) as u32;
    }
    view.memory_bytes = random.below(8 * GIB);
    view.pinned = random.percent(15);
    view
}

fn numerics(number: u64) -> Arc<str> {
    format!("numerics-{number}").into()
}

fn ask(random: &mut Random, workers: &[WorkerId], hives: &[HiveView]) -> Ask {
    let task = if random.percent(75) {
        Task::Generate { prompt: Prompt::Text("hello".into()), sampling: Sampling::default() }
    } else {
        Task::embed(["hello"])
    };
    let job = Job {
        id: JobId::from_random_bits(random.bits()),
        // Sometimes a model that no hive has.
        model: model(random.below(4)),
        priority: Priority::Interactive,
        task,
        seed: random.next(),
        prefix: Arc::from([random.next()]),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::new("conformance").expect("letters"),
        idempotency: None,
        streamed: true,
    };
    let attempts = random.below(3) as u32;
    let avoid: BTreeSet<WorkerId> =
        workers.iter().filter(|_| attempts > 0 && random.percent(40)).copied().collect();
    let refused = hives
        .iter()
        .filter(|_| random.percent(15))
        .map(|hive| {
            let error = Error::new(ErrorKind::ModelIncompatible, "an odd model");
            (hive.id.clone(), error)
        })
        .collect();
    Ask {
        job: Arc::new(job),
        now: Now { at: NOW, wall: WallTime::from_millis(1_800_000_000_000) },
        random: random.next(),
        waited: Duration::ZERO,
        attempts,
        avoid: Arc::new(avoid),
        must_match: random.percent(25).then(|| numerics(random.below(3))),
        refused: Arc::new(refused),
    }
}
