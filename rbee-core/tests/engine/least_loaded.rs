//! The decisions of the built-in policy, and the reasons it gives.

mod readable;
mod running;
mod starting;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Ask, ClusterView, CorrelationId, Error, ErrorKind, HiveId, Job, JobId, LeastLoaded, Placement,
    Priority, Scheduler, WorkerId, WorkerInfo,
    cluster::{HiveView, WorkerState, WorkerView},
    hive::{Device, DeviceKind, EngineSupport},
    models::{CachePool, CacheType, ModelInfo, ModelOnDisk, WorkerLimits},
    request::{Prompt, Sampling, Task},
    scheduler::{Candidate, Fit, Sizing, Verdict},
    time::{Now, Time},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn ask() -> Ask {
    let task =
        Task::Generate { prompt: Prompt::Text("hello".into()), sampling: Sampling::default() };
    Ask {
        job: Arc::new(Job {
            id: JobId::from_random_bits(1),
            model: "m".parse().unwrap(),
            priority: Priority::Interactive,
            task,
            seed: 1,
            prefix: Arc::default(),
            timeout: Duration::from_secs(300),
            deadline: None,
            detached: false,
            stored: false,
            metadata: None,
            tenant: None,
            rank: 0,
            correlation_id: CorrelationId::new("test").unwrap(),
            idempotency: None,
            streamed: true,
        }),
        now: Now::default(),
        random: 0,
        waited: Duration::ZERO,
        attempts: 0,
        avoid: Arc::default(),
        must_match: None,
        refused: Arc::default(),
    }
}

fn embed() -> Ask {
    let mut ask = ask();
    Arc::make_mut(&mut ask.job).task = Task::embed(["hello"]);
    ask
}

fn matching(numerics: &str) -> Ask {
    Ask { must_match: Some(numerics.into()), ..ask() }
}

fn refused_by(hives: &[&str]) -> Ask {
    let error = |hive: &str| Error::new(ErrorKind::ModelIncompatible, format!("{hive} cannot"));
    let refused = hives.iter().map(|hive| (id(hive), error(hive))).collect();
    Ask { refused: Arc::new(refused), ..ask() }
}

fn retry(avoid: &[u128]) -> Ask {
    Ask {
        attempts: 1,
        avoid: Arc::new(avoid.iter().map(|n| worker_id(*n)).collect::<BTreeSet<_>>()),
        ..ask()
    }
}

fn id(hive: &str) -> HiveId {
    HiveId::new(hive).unwrap()
}

fn worker_id(number: u128) -> WorkerId {
    WorkerId::from_random_bits(number)
}

/// An idle worker of the model with two slots, on device 1 of the hive.
fn worker(number: u128, hive: &str, model: &str) -> WorkerView {
    let mut info = WorkerInfo::new(model.parse().unwrap(), "test");
    info.id = worker_id(number);
    info.hive = id(hive);
    info.slots = 2;
    info.devices = vec![1];
    let mut view = WorkerView::ready(Arc::new(info), Time::default());
    view.memory_bytes = 4 * GIB;
    view
}

fn device(index: u32, total: u64, free: u64) -> Device {
    Device {
        index,
        kind: if index == 0 { DeviceKind::Cpu } else { DeviceKind::Cuda },
        name: format!("chip {index}"),
        memory_total: total,
        memory_free: free,
    }
}

/// An online hive with these devices. If a size is given, model `m` is on its disk.
fn hive(name: &str, devices: impl Into<Arc<[Device]>>, size: Option<u64>) -> HiveView {
    HiveView {
        id: id(name),
        online: true,
        draining: false,
        devices: devices.into(),
        memory_budget: None,
        labels: Arc::default(),
        models: Arc::new(
            size.map(|size| ("m".parse().unwrap(), ModelOnDisk::new("m".parse().unwrap(), size)))
                .into_iter()
                .collect(),
        ),
        engines: None,
        reserved: BTreeMap::new(),
    }
}

fn cluster(hives: Vec<HiveView>, workers: Vec<WorkerView>) -> ClusterView {
    let mut cluster = ClusterView::default();
    hives.into_iter().for_each(|hive| cluster.put_hive(hive));
    workers.into_iter().for_each(|worker| cluster.put_worker(worker));
    cluster
}

fn place(ask: &Ask, cluster: &ClusterView) -> Placement {
    LeastLoaded::default().place(ask, cluster).unwrap()
}

fn assigned(number: u128) -> Placement {
    Placement::Assign(worker_id(number))
}

/// Hive, device and evicted workers of a spawn.
fn spawned(placement: Placement) -> (String, u32, Vec<WorkerId>) {
    match placement {
        Placement::Spawn { hive, spec, evict } => (hive.to_string(), spec.devices[0], evict),
        other => panic!("{other:?} is no spawn"),
    }
}

fn rejected(placement: Placement) -> Error {
    match placement {
        Placement::Reject(error) => error,
        other => panic!("{other:?} is no rejection"),
    }
}

/// Why the candidate was refused.
fn reason(ask: &Ask, cluster: &ClusterView, candidate: &Candidate) -> String {
    let explanation = LeastLoaded::default().explain(ask, cluster);
    let found = explanation.candidates.into_iter().find(|(c, _)| c == candidate);
    match found.expect("a candidate").1 {
        Verdict::Refused(why) => why,
        other => panic!("{other} is no refusal"),
    }
}
