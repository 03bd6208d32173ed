//! The metrics of workers and hives, through the facade crate `metrics`. The queen's metrics are recorded in
//! rbee-core.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use rbee_core::{
    Error, HiveId, Usage, WorkerInfo,
    hive::{DeviceKind, HiveReport},
    worker::WorkerHealth,
};

const RUNS: &str = "rbee_worker_runs_total";
const RUN_SECONDS: &str = "rbee_worker_run_seconds";
const FIRST_OUTPUT: &str = "rbee_worker_first_output_seconds";
const TOKENS: &str = "rbee_worker_tokens_total";
const SLOTS: &str = "rbee_worker_slots";
const BUSY: &str = "rbee_worker_slots_busy";
const WARM: &str = "rbee_worker_warm_prefixes";
const MEMORY: &str = "rbee_worker_memory_bytes";
const SPAWNS: &str = "rbee_hive_spawns_total";
const SPAWN_SECONDS: &str = "rbee_hive_spawn_seconds";
const PROVISIONS: &str = "rbee_hive_provisions_total";
const WORKERS: &str = "rbee_hive_workers";
const MODELS: &str = "rbee_hive_models";
const MODEL_BYTES: &str = "rbee_hive_model_bytes";
const MEMORY_FREE: &str = "rbee_hive_device_memory_free_bytes";
const MEMORY_TOTAL: &str = "rbee_hive_device_memory_total_bytes";

/// Describes every metric to the installed recorder.
pub(super) fn describe() {
    use metrics::{
        Unit, describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram,
    };
    counter!(
        RUNS,
        Unit::Count,
        "Runs that ended, by outcome and, if they failed, by the code of the error."
    );
    histogram!(
        RUN_SECONDS,
        Unit::Seconds,
        "How long runs took, from the request to their last output."
    );
    histogram!(FIRST_OUTPUT, Unit::Seconds, "From a run's request to its first output.");
    counter!(TOKENS, Unit::Count, "Tokens of computed prompts, and of answers.");
    gauge!(SLOTS, Unit::Count, "Concurrent runs of the worker.");
    gauge!(BUSY, Unit::Count, "Runs in progress.");
    gauge!(WARM, Unit::Count, "Prompt prefixes that the worker has cached.");
    gauge!(MEMORY, Unit::Bytes, "Memory that the worker uses on its devices.");
    counter!(SPAWNS, Unit::Count, "Requested worker starts, by outcome and code of the error.");
    histogram!(
        SPAWN_SECONDS,
        Unit::Seconds,
        "How long workers took from the request until they were ready."
    );
    counter!(
        PROVISIONS,
        Unit::Count,
        "Requested downloads of models, by outcome and code of the error."
    );
    gauge!(WORKERS, Unit::Count, "Usable workers.");
    gauge!(MODELS, Unit::Count, "Models on the disk.");
    gauge!(MODEL_BYTES, Unit::Bytes, "Disk space of the models.");
    gauge!(MEMORY_FREE, Unit::Bytes, "Free memory of a device.");
    gauge!(MEMORY_TOTAL, Unit::Bytes, "Total memory of a device.");
}

/// Records a run that has ended after this long.
pub(super) fn run_ended(end: Result<Usage, &Error>, took: Duration) {
    let (outcome, code) = match &end {
        Ok(_) => ("complete", ""),
        Err(error) => ("failed", error.kind().code()),
    };
    counter!(RUNS, "outcome" => outcome, "code" => code).increment(1);
    histogram!(RUN_SECONDS).record(took);
    let Ok(usage) = end else { return };
    for (kind, tokens) in [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)]
    {
        if tokens > 0 {
            counter!(TOKENS, "kind" => kind).increment(tokens.into());
        }
    }
}

/// Records a run whose reader disconnected, or that was cancelled.
pub(super) fn run_cancelled(took: Duration) {
    counter!(RUNS, "outcome" => "cancelled", "code" => "").increment(1);
    histogram!(RUN_SECONDS).record(took);
}

/// Records the first output of a run, after this long.
pub(super) fn first_output(after: Duration) {
    histogram!(FIRST_OUTPUT).record(after);
}

/// Records the state of a worker.
pub(super) fn worker(info: &WorkerInfo, health: &WorkerHealth) {
    gauge!(SLOTS).set(info.slots);
    gauge!(BUSY).set(health.busy);
    gauge!(WARM).set(health.warm.len() as f64);
    if let Some(bytes) = health.vram_bytes {
        gauge!(MEMORY).set(bytes as f64);
    }
}

/// Records the start of a worker, or its failure.
pub(super) fn spawned(error: Option<&Error>, took: Duration) {
    counted(SPAWNS, error);
    if error.is_none() {
        histogram!(SPAWN_SECONDS).record(took);
    }
}

/// Records the download of a model, or its failure.
pub(super) fn provisioned(error: Option<&Error>) {
    counted(PROVISIONS, error);
}

fn counted(name: &'static str, error: Option<&Error>) {
    let (outcome, code) = error.map_or(("done", ""), |error| ("failed", error.kind().code()));
    counter!(name, "outcome" => outcome, "code" => code).increment(1);
}

/// Records the state of a hive.
pub(super) fn hive(id: &HiveId, report: &HiveReport) {
    gauge!(WORKERS).set(report.workers.len() as f64);
    gauge!(MODELS).set(report.models.len() as f64);
    gauge!(MODEL_BYTES).set(report.models.iter().map(|model| model.bytes as f64).sum::<f64>());
    for device in &report.devices {
        let kind = match device.kind {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Metal => "metal",
        };
        let labels =
            [("hive", id.to_string()), ("device", device.index.to_string()), ("kind", kind.into())];
        gauge!(MEMORY_FREE, &labels).set(device.memory_free as f64);
        gauge!(MEMORY_TOTAL, &labels).set(device.memory_total as f64);
    }
}
