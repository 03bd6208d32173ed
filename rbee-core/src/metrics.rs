//! The metrics of a queen, by way of the facade crate `metrics`: the recorder that the application installs receives
//! them. Without a recorder they cost almost nothing.
//!
//! The number of labels is bounded: no job, no worker and no text of a client is a label. A model is a label only if a
//! worker has it, and only for the first 100; the others are `other`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::metrics::{Unit, counter, gauge, histogram};

use crate::{
    cluster::{ClusterView, WorkerState, WorkerView},
    device::DeviceKind,
    engine::{Counters, Note},
    error::Error,
    event::Outcome,
    model_ref::ModelRef,
    priority::Priority,
};

/// Models that have a label of their own.
const MODELS: usize = 100;

/// Declares the names, with unit and meaning, and [`describe`].
macro_rules! table {
    ($( $name:ident = $text:literal, $kind:ident, $unit:ident, $help:literal; )*) => {
        $( const $name: &str = $text; )*

        /// Describes every metric to the installed recorder. Without this call the metrics have no help text.
        pub fn describe() {
            $( ::metrics::$kind!($text, Unit::$unit, $help); )*
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$($text),*];
    };
}

table! {
    JOBS = "rbee_jobs_total", describe_counter, Count, "Jobs that ended, by outcome and, if they failed, by the code of the error.";
    REFUSED = "rbee_jobs_refused_total", describe_counter, Count, "Jobs that were not accepted, by the code of the error.";
    RETRIES = "rbee_retries_total", describe_counter, Count, "Attempts that failed and were followed by another, by the code of the error.";
    TOKENS = "rbee_tokens_total", describe_counter, Count, "Tokens of prompts that were computed, and of answers, by model.";
    SCALED = "rbee_optimizer_total", describe_counter, Count, "Workers that the autoscaler started or stopped, by what it did.";
    EVICTIONS = "rbee_evictions_total", describe_counter, Count, "Workers that were stopped to free memory for another model.";
    SPAWNS = "rbee_spawns_total", describe_counter, Count, "Workers that were started, by outcome.";
    POLICY_FAULTS = "rbee_policy_faults_total", describe_counter, Count, "Decisions that the built-in policy took because the chosen one failed.";
    WORKER_FAILURES = "rbee_worker_failures_total", describe_counter, Count, "Workers that failed so often that they get no jobs until a probe succeeds.";
    UNRECORDED = "rbee_jobs_unrecorded_total", describe_counter, Count, "Jobs whose end was reported before it was recorded, because the store failed.";
    SCHEDULING = "rbee_scheduling_seconds", describe_histogram, Seconds, "How long the scheduler took for one decision.";
    QUEUE_WAIT = "rbee_queue_wait_seconds", describe_histogram, Seconds, "How long jobs waited before their first start.";
    FIRST_TOKEN = "rbee_time_to_first_token_seconds", describe_histogram, Seconds, "From a job's submission to its first token, by model; jobs whose first attempt failed are left out.";
    SPAWNING = "rbee_spawn_seconds", describe_histogram, Seconds, "How long workers took from their start until they were ready.";
    QUEUE_DEPTH = "rbee_queue_depth", describe_gauge, Count, "Jobs that wait, by priority.";
    RUNNING = "rbee_jobs_running", describe_gauge, Count, "Jobs on a worker.";
    WORKERS = "rbee_workers", describe_gauge, Count, "Workers, by state.";
    HIVE_ONLINE = "rbee_hive_online", describe_gauge, Count, "1 if the hive answers, 0 if it does not.";
    STORE_FAILED = "rbee_store_failed", describe_gauge, Count, "1 while the store cannot be written and no job is accepted, else 0.";
    MEMORY_FREE = "rbee_device_memory_free_bytes", describe_gauge, Bytes, "Memory of a device that is free.";
    MEMORY_TOTAL = "rbee_device_memory_total_bytes", describe_gauge, Bytes, "Memory of a device.";
}

/// A job has ended.
pub(crate) fn ended(outcome: &Outcome) {
    let (outcome, code) = match outcome {
        Outcome::Complete { .. } => ("complete", ""),
        Outcome::Failed(error) => ("failed", error.kind().code()),
        Outcome::Cancelled => ("cancelled", ""),
    };
    counter!(JOBS, "outcome" => outcome, "code" => code).increment(1);
}

/// A job was not accepted.
pub(crate) fn refused(error: &Error) {
    counter!(REFUSED, "code" => error.kind().code()).increment(1);
}

/// A job is started for the first time.
pub(crate) fn started(priority: Priority, waited: Duration) {
    histogram!(QUEUE_WAIT, "priority" => priority.as_str()).record(waited);
}

/// The scheduler has decided.
pub(crate) fn scheduled(took: Duration) {
    histogram!(SCHEDULING).record(took);
}

/// The first token of a job came, after this long.
pub(crate) fn first_token(model: &ModelRef, after: Duration) {
    histogram!(FIRST_TOKEN, "model" => label(model)).record(after);
}

/// An attempt has ended: the tokens that it computed.
pub(crate) fn computed(model: &ModelRef, prompt: u32, answer: u32) {
    let model = label(model);
    for (kind, tokens) in [("prompt", prompt), ("completion", answer)] {
        if tokens > 0 {
            counter!(TOKENS, "kind" => kind, "model" => model.clone()).increment(tokens.into());
        }
    }
}

/// A worker was started, or the start failed.
pub(crate) fn spawned(is_ready: bool, took: Duration) {
    counter!(SPAWNS, "outcome" => if is_ready { "ready" } else { "failed" }).increment(1);
    if is_ready {
        histogram!(SPAWNING).record(took);
    }
}

/// An event of the engine that is counted.
pub(crate) fn noted(note: &Note) {
    match note {
        Note::Evicted(..) => counter!(EVICTIONS).increment(1),
        Note::ScaledUp(..) => counter!(SCALED, "what" => "scaled_up").increment(1),
        Note::ScaledBack(..) => counter!(SCALED, "what" => "scaled_back").increment(1),
        Note::Expired(..) => counter!(SCALED, "what" => "expired").increment(1),
        Note::Retried(_, _, error) => {
            counter!(RETRIES, "code" => error.kind().code()).increment(1);
        }
        Note::PolicyFault(_) => counter!(POLICY_FAULTS).increment(1),
        Note::WorkerFailed(_) => counter!(WORKER_FAILURES).increment(1),
        Note::Unrecorded(..) => counter!(UNRECORDED).increment(1),
        Note::StaleAnswer(_)
        | Note::PolicySuspended(_)
        | Note::RefusedByPolicy(..)
        | Note::SpawnSuppressed(_)
        | Note::HiveOnline(_)
        | Note::HiveOffline(..)
        | Note::Provisioning(..)
        | Note::Spawning(..)
        | Note::WorkerReady(..)
        | Note::WorkerSuspected(..)
        | Note::WorkerTrusted(_)
        | Note::WorkerGone(..)
        | Note::SpawnFailed(..)
        | Note::BusyAnswer(_)
        | Note::StoreFailed(_)
        | Note::StoreBack(_) => {}
    }
}

/// The current state of the gauges.
pub(crate) fn gauges(
    view: &ClusterView,
    counters: Counters,
    waiting: [(Priority, usize); 2],
    store_failed: bool,
) {
    for (priority, count) in waiting {
        gauge!(QUEUE_DEPTH, "priority" => priority.as_str()).set(count as f64);
    }
    gauge!(RUNNING).set(counters.leases as f64);
    gauge!(STORE_FAILED).set(f64::from(u8::from(store_failed)));
    let mut states = ["loading", "idle", "busy", "draining", "failed"].map(|state| (state, 0_u32));
    for worker in view.workers() {
        let state = state(worker);
        states.iter_mut().filter(|(name, _)| *name == state).for_each(|(_, count)| *count += 1);
    }
    for (state, count) in states {
        gauge!(WORKERS, "state" => state).set(count);
    }
    for hive in view.hives() {
        let name = hive.id.to_string();
        gauge!(HIVE_ONLINE, "hive" => name.clone()).set(f64::from(u8::from(hive.online)));
        for device in &*hive.devices {
            let kind = match device.kind {
                DeviceKind::Cpu => "cpu",
                DeviceKind::Cuda => "cuda",
                DeviceKind::Metal => "metal",
            };
            let labels = [
                ("hive", name.clone()),
                ("device", device.index.to_string()),
                ("kind", kind.to_owned()),
            ];
            gauge!(MEMORY_FREE, &labels).set(device.memory_free as f64);
            gauge!(MEMORY_TOTAL, &labels).set(device.memory_total as f64);
        }
    }
}

fn state(worker: &WorkerView) -> &'static str {
    match worker.state {
        WorkerState::Loading => "loading",
        WorkerState::Ready if worker.leased > 0 => "busy",
        WorkerState::Ready => "idle",
        WorkerState::Draining => "draining",
        WorkerState::Failed => "failed",
    }
}

/// The label of the model; `other` if there are too many.
fn label(model: &ModelRef) -> String {
    static SEEN: Mutex<BTreeSet<ModelRef>> = Mutex::new(BTreeSet::new());
    bounded(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner), model).to_owned()
}

fn bounded<'a>(seen: &mut BTreeSet<ModelRef>, model: &'a ModelRef) -> &'a str {
    if !seen.contains(model) {
        if seen.len() >= MODELS {
            return "other";
        }
        seen.insert(model.clone());
    }
    model.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_beyond_the_bound_share_one_label() {
        let mut seen = BTreeSet::new();
        let model = |n: usize| format!("m{n}").parse::<ModelRef>().unwrap();
        for n in 0..MODELS {
            assert_eq!(bounded(&mut seen, &model(n)), format!("m{n}"));
        }
        assert_eq!(bounded(&mut seen, &model(MODELS)), "other");
        assert_eq!(bounded(&mut seen, &model(0)), "m0");
        assert_eq!(seen.len(), MODELS);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for name in NAMES {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("rbee_") && name.chars().all(plain), "{name}");
        }
    }
}
