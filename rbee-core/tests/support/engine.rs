//! Parts for the tests of the engine alone.
#![allow(unreachable_pub, reason = "a module of a test binary")]

use std::{sync::Arc, time::Duration};

use rbee_core::{
    CorrelationId, HiveId, Job, JobId, ModelRef, Priority, WorkerId, WorkerInfo, WorkerSpec,
    engine::HiveFact,
    hive::{Device, DeviceKind, HiveInfo, HiveReport, WorkerReport},
    request::{Prompt, Sampling, Task},
    worker::WorkerHealth,
};

pub const GIB: u64 = 1 << 30;

pub fn model(n: usize) -> ModelRef {
    format!("hf:org/model-{n}").parse().unwrap()
}

pub fn hive(n: usize) -> HiveId {
    HiveId::new(format!("hive-{n}")).unwrap()
}

/// A hive of this process joins the fleet.
pub fn added() -> HiveFact {
    HiveFact::Added(Box::new(HiveInfo::http(HiveId::local(), "machine", 0)))
}

pub fn worker(n: u128) -> WorkerId {
    WorkerId::from_random_bits(n)
}

pub fn job_id(n: u128) -> JobId {
    JobId::from_random_bits(n)
}

pub fn job(n: u128, model: ModelRef) -> Job {
    Job {
        id: job_id(n),
        model,
        priority: Priority::Interactive,
        task: Task::Generate {
            prompt: Prompt::Text("hello".into()),
            sampling: Sampling::default(),
        },
        seed: 1,
        prefix: Arc::default(),
        timeout: Duration::from_secs(30),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::new("test").unwrap(),
        idempotency: None,
        streamed: true,
    }
}

pub fn info(id: WorkerId, hive: HiveId, model: ModelRef, slots: u32) -> WorkerInfo {
    let mut info = WorkerInfo::new(model, "test");
    info.id = id;
    info.hive = hive;
    info.slots = slots;
    info.capabilities.resume = true;
    info
}

pub fn spec(model: ModelRef, slots: u32) -> WorkerSpec {
    let mut spec = WorkerSpec::new(model);
    (spec.slots, spec.devices, spec.need_bytes) = (slots, vec![0], 10 * GIB);
    spec
}

/// A machine of 64 GiB with these models on its disk and these workers, each of which takes 10 GiB.
pub fn report(
    rev: u64,
    models: impl IntoIterator<Item = ModelRef>,
    workers: impl IntoIterator<Item = WorkerInfo>,
) -> HiveReport {
    let workers: Vec<_> = workers
        .into_iter()
        .map(|info| WorkerReport {
            info,
            health: WorkerHealth { vram_bytes: Some(10 * GIB), ..WorkerHealth::default() },
        })
        .collect();
    let mut report = HiveReport::default();
    report.rev = rev;
    report.devices = vec![Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "test".into(),
        memory_total: 64 * GIB,
        memory_free: (64 * GIB).saturating_sub(workers.len() as u64 * 10 * GIB),
    }];
    report.models = models
        .into_iter()
        .map(|model| rbee_core::models::ModelOnDisk::new(model, 4 * GIB))
        .collect();
    report.workers = workers;
    report
}
