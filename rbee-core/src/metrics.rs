//! The metrics of a queen, by way of the facade crate `metrics`: the recorder that the application installs receives
//! them. Without a recorder they cost almost nothing.
//!
//! The number of labels is bounded: no job, no worker and no text of a client is a label. A model is a label only if a
//! worker has it. The first 100 models and the first 100 tenants have labels of their own; the others are `other`. No
//! label is a path.

mod labels;

use std::time::Duration;

use ::metrics::{Unit, counter, gauge, histogram};

use crate::{
    cluster::{ClusterView, WorkerState, WorkerView},
    device::DeviceKind,
    engine::{Counters, Note},
    error::{Error, ErrorKind},
    event::Outcome,
    id::TenantId,
    job::Job,
    model_ref::ModelRef,
    priority::Priority,
};

pub(crate) use labels::name_models;
use labels::{OTHER, model_label, tenant_label, tenant_label_if_any};

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
    TENANT_JOBS = "rbee_tenant_jobs_total", describe_counter, Count, "Jobs of a tenant that ended, by outcome and, if they failed, by the code of the error.";
    TENANT_REFUSED = "rbee_tenant_jobs_refused_total", describe_counter, Count, "Jobs of a tenant that were not accepted, by the code of the error.";
    TENANT_TOKENS = "rbee_tenant_tokens_total", describe_counter, Count, "Tokens of a tenant's prompts that were computed, and of the answers.";
    TENANT_WAIT = "rbee_tenant_queue_wait_seconds", describe_histogram, Seconds, "How long a tenant's jobs waited before their first start.";
    TENANT_OPEN = "rbee_tenant_jobs_open", describe_gauge, Count, "A tenant's jobs that wait or run.";
    TENANT_TODAY = "rbee_tenant_tokens_today", describe_gauge, Count, "Tokens that a tenant has used today (UTC).";
    TENANT_LIMIT = "rbee_tenant_daily_tokens_limit", describe_gauge, Count, "Tokens that a tenant may use per day; absent without a limit.";
}

/// The prefix of the names of all metrics of single tenants, which only the operator may read.
pub const TENANT_PREFIX: &str = "rbee_tenant_";

/// What the autoscaler does.
const SCALED_UP: &str = "scaled_up";
const SCALED_BACK: &str = "scaled_back";
const EXPIRED: &str = "expired";

/// Creates the counters whose labels are known beforehand, at 0, and the histograms of waiting. A monitoring system
/// sees the first event of a counter only if it has seen the 0 before. Only a queen has them, and its recorder may be
/// installed after it was built, so they are created whenever the gauges are set; existing ones do not change.
fn create() {
    for name in [EVICTIONS, POLICY_FAULTS, WORKER_FAILURES, UNRECORDED] {
        counter!(name).increment(0);
    }
    for what in [SCALED_UP, SCALED_BACK, EXPIRED] {
        counter!(SCALED, "what" => what).increment(0);
    }
    for outcome in ["ready", "failed"] {
        counter!(SPAWNS, "outcome" => outcome).increment(0);
    }
    for outcome in ["complete", "cancelled"] {
        counter!(JOBS, "outcome" => outcome, "code" => "").increment(0);
    }
    for code in ErrorKind::ALL.iter().map(|kind| kind.code()) {
        counter!(JOBS, "outcome" => "failed", "code" => code).increment(0);
        counter!(REFUSED, "code" => code).increment(0);
        counter!(RETRIES, "code" => code).increment(0);
    }
    for priority in Priority::ALL {
        // It exists without a value.
        let _ = histogram!(QUEUE_WAIT, "priority" => priority.as_str());
    }
}

/// A job has ended.
pub(crate) fn ended(tenant: Option<&TenantId>, outcome: &Outcome) {
    let (outcome, code) = match outcome {
        Outcome::Complete { .. } => ("complete", ""),
        Outcome::Failed(error) => ("failed", error.kind().code()),
        Outcome::Cancelled => ("cancelled", ""),
    };
    counter!(JOBS, "outcome" => outcome, "code" => code).increment(1);
    if let Some(tenant) = tenant {
        let tenant = tenant_label(tenant);
        counter!(TENANT_JOBS, "tenant" => tenant, "outcome" => outcome, "code" => code)
            .increment(1);
    }
}

/// A job was not accepted.
pub(crate) fn refused(tenant: Option<&TenantId>, error: &Error) {
    let code = error.kind().code();
    counter!(REFUSED, "code" => code).increment(1);
    if let Some(tenant) = tenant {
        counter!(TENANT_REFUSED, "tenant" => tenant_label(tenant), "code" => code).increment(1);
    }
}

/// A job is started for the first time.
pub(crate) fn started(job: &Job, waited: Duration) {
    histogram!(QUEUE_WAIT, "priority" => job.priority.as_str()).record(waited);
    if let Some(tenant) = &job.tenant {
        histogram!(TENANT_WAIT, "tenant" => tenant_label(tenant)).record(waited);
    }
}

/// The scheduler has decided.
pub(crate) fn scheduled(took: Duration) {
    histogram!(SCHEDULING).record(took);
}

/// The first token of a job came, after this long.
pub(crate) fn first_token(model: &ModelRef, after: Duration) {
    histogram!(FIRST_TOKEN, "model" => model_label(model)).record(after);
}

/// An attempt has ended: the tokens that it computed.
pub(crate) fn computed(job: &Job, prompt: u32, answer: u32) {
    let tenant = job.tenant.as_ref().map(tenant_label);
    let model = model_label(&job.model);
    for (kind, tokens) in [("prompt", prompt), ("completion", answer)] {
        if tokens == 0 {
            continue;
        }
        counter!(TOKENS, "kind" => kind, "model" => model.clone()).increment(tokens.into());
        if let Some(tenant) = tenant.clone() {
            counter!(TENANT_TOKENS, "tenant" => tenant, "kind" => kind).increment(tokens.into());
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
        Note::ScaledUp(..) => counter!(SCALED, "what" => SCALED_UP).increment(1),
        Note::ScaledBack(..) => counter!(SCALED, "what" => SCALED_BACK).increment(1),
        Note::Expired(..) => counter!(SCALED, "what" => EXPIRED).increment(1),
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
    create();
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
    tenants(view);
}

/// The gauges of the tenants. Those without a label of their own are added up.
fn tenants(view: &ClusterView) {
    let (mut open, mut today, mut has_others) = (0_u64, 0_u64, false);
    for tenant in view.tenants() {
        let is_active = tenant.live_jobs > 0 || tenant.used_today > 0;
        match tenant_label_if_any(&tenant.id, is_active) {
            Some(label) if label != OTHER => {
                gauge!(TENANT_OPEN, "tenant" => label.clone()).set(tenant.live_jobs);
                gauge!(TENANT_TODAY, "tenant" => label.clone()).set(tenant.used_today as f64);
                if let Some(limit) = tenant.limits.daily_tokens {
                    gauge!(TENANT_LIMIT, "tenant" => label).set(limit as f64);
                }
            }
            Some(_) => {
                has_others = true;
                open += u64::from(tenant.live_jobs);
                today = today.saturating_add(tenant.used_today);
            }
            None => {}
        }
    }
    if has_others {
        gauge!(TENANT_OPEN, "tenant" => OTHER).set(open as f64);
        gauge!(TENANT_TODAY, "tenant" => OTHER).set(today as f64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for name in NAMES {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("rbee_") && name.chars().all(plain), "{name}");
        }
        for name in [
            TENANT_JOBS,
            TENANT_REFUSED,
            TENANT_TOKENS,
            TENANT_WAIT,
            TENANT_OPEN,
            TENANT_TODAY,
            TENANT_LIMIT,
        ] {
            assert!(name.starts_with(TENANT_PREFIX), "{name}");
        }
    }
}
