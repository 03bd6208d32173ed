//! Fleets and traces to replay.

use std::time::Duration;

use rbee_core::{
    ModelRef, Scheduler, Settings, TenantId,
    sim::{Arrival, Fleet, JobSketch, Replay, ReplayReport, Trace},
};
use serde_json::{Value, json};

pub(crate) const GB: u64 = 1_000_000_000;

pub(crate) fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn fleet(hives: Value) -> Fleet {
    serde_json::from_value(json!({ "hives": hives })).unwrap()
}

/// Machines with one worker of the model each.
pub(crate) fn workers(count: usize, slots: u32) -> Fleet {
    let hive = |n| {
        json!({
            "id": format!("hive-{n}"),
            "devices": [{ "kind": "cuda", "memory_total": 24 * GB }],
            "models": { "m": 4 * GB },
            "workers": [{ "model": "m", "slots": slots, "memory_bytes": 20 * GB }],
        })
    };
    fleet((0..count).map(hive).collect())
}

pub(crate) fn arrival(at: u64, service: u64, job: JobSketch) -> Arrival {
    Arrival { at: millis(at), job, service: millis(service), tokens: 10 }
}

pub(crate) fn replay(fleet: Fleet, arrivals: Vec<Arrival>) -> Replay {
    let trace = Trace { arrivals, ..Trace::default() };
    let settings = Settings { queue_capacity: 1_000_000, ..Settings::default() };
    Replay { settings, ..Replay::new(fleet, trace) }
}

pub(crate) fn run(replay: &Replay, scheduler: &dyn Scheduler) -> ReplayReport {
    let report = replay.run(scheduler).unwrap();
    let ended = report.completed
        + report.rejected.values().sum::<usize>()
        + report.failed.values().sum::<usize>();
    assert_eq!(ended, report.jobs, "every job has ended once: {report:?}");
    report
}

/// A fleet with space for half of the models at a time.
pub(crate) fn crowded() -> Fleet {
    let models = json!({ "a": 8 * GB, "b": 8 * GB, "c": 8 * GB, "d": 8 * GB, "e": 8 * GB });
    let hive = |n| {
        json!({
            "id": format!("hive-{n}"),
            "devices": [{ "kind": "cuda", "memory_total": 24 * GB }],
            "models": models,
        })
    };
    fleet((0..2).map(hive).collect())
}

pub(crate) fn day(seed: u64, jobs: usize) -> Trace {
    let models = ["a", "b", "c", "d", "e"].map(model);
    Trace::day(seed, jobs, &models, &["ann", "bob", "eve"].map(tenant))
}
