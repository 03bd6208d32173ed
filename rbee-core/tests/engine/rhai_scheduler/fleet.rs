//! A small fleet, and questions about it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rbee_core::{
    Ask, ClusterView, CorrelationId, HiveId, Job, JobId, ModelRef, Placement, Priority, Scheduler,
    WorkerId, WorkerInfo,
    cluster::{HiveView, WorkerView},
    hive::{Device, DeviceKind},
    models::ModelOnDisk,
    request::{Prompt, Sampling, Task},
    time::{Now, Time, WallTime},
};

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

pub(crate) fn id(number: u128) -> WorkerId {
    WorkerId::from_random_bits(number << 64 | number)
}

/// A hive with GPUs of these sizes in GiB, all free, and models on its disk with their sizes in GiB.
pub(crate) fn hive(
    name: &str,
    gpus: &[u64],
    models: &[(&str, u64)],
    labels: &[(&str, &str)],
) -> HiveView {
    let devices = gpus.iter().zip(1..).map(|(gib, index)| Device {
        index,
        kind: DeviceKind::Cuda,
        name: "gpu".into(),
        memory_total: gib * GIB,
        memory_free: gib * GIB,
    });
    let models =
        models.iter().map(|(name, gib)| (model(name), ModelOnDisk::new(model(name), gib * GIB)));
    let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    HiveView {
        id: HiveId::new(name).unwrap(),
        online: true,
        draining: false,
        devices: devices.collect(),
        memory_budget: None,
        labels: Arc::new(labels.collect()),
        models: Arc::new(models.collect()),
        engines: None,
        reserved: BTreeMap::new(),
    }
}

/// A ready worker with four slots, `leased` of them taken, on the first GPU.
pub(crate) fn worker(number: u128, hive: &str, name: &str, leased: u32) -> WorkerView {
    let mut info = WorkerInfo::new(model(name), "candle");
    info.id = id(number);
    info.hive = HiveId::new(hive).unwrap();
    info.devices = vec![1];
    info.slots = 4;
    let mut view = WorkerView::ready(Arc::new(info), Time::from_micros(number as u64));
    view.leased = leased;
    view.memory_bytes = 10 * GIB;
    view
}

pub(crate) fn on_devices(mut worker: WorkerView, devices: &[u32]) -> WorkerView {
    worker.info = Arc::new(WorkerInfo { devices: devices.to_vec(), ..(*worker.info).clone() });
    worker
}

pub(crate) fn cluster(
    hives: impl IntoIterator<Item = HiveView>,
    workers: impl IntoIterator<Item = WorkerView>,
) -> ClusterView {
    let mut cluster = ClusterView::default();
    hives.into_iter().for_each(|hive| cluster.put_hive(hive));
    workers.into_iter().for_each(|worker| cluster.put_worker(worker));
    cluster
}

pub(crate) fn ask(name: &str) -> Ask {
    Ask {
        job: Arc::new(Job {
            id: JobId::from_random_bits(1),
            model: model(name),
            priority: Priority::Interactive,
            task: Task::Generate {
                prompt: Prompt::Text("hi".into()),
                sampling: Sampling::default(),
            },
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
        now: Now { at: Time::from_micros(1_000_000_000), wall: WallTime::from_millis(0) },
        random: 7,
        waited: Duration::ZERO,
        attempts: 0,
        avoid: Arc::default(),
        must_match: None,
        refused: Arc::default(),
    }
}

pub(crate) fn with_job(ask: Ask, change: impl FnOnce(&mut Job)) -> Ask {
    let mut job = Job::clone(&ask.job);
    change(&mut job);
    Ask { job: Arc::new(job), ..ask }
}

/// The worker that the policy chooses; a message if it decides otherwise.
pub(crate) fn chosen(
    policy: &dyn Scheduler,
    ask: &Ask,
    cluster: &ClusterView,
) -> Result<WorkerId, String> {
    match policy.place(ask, cluster) {
        Ok(Placement::Assign(worker)) => Ok(worker),
        other => Err(format!("{other:?}")),
    }
}

/// Where the policy starts a worker, on which devices, and which workers it stops for that.
pub(crate) fn started(
    policy: &dyn Scheduler,
    ask: &Ask,
    cluster: &ClusterView,
) -> Result<(String, Vec<u32>, Vec<WorkerId>), String> {
    match policy.place(ask, cluster) {
        Ok(Placement::Spawn { hive, spec, evict }) => Ok((hive.to_string(), spec.devices, evict)),
        other => Err(format!("{other:?}")),
    }
}
