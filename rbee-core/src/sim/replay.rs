//! A trace through the real engine and a policy, on a described fleet, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Fleet, Trace};
use crate::{HiveId, ModelRef, Priority, Scheduler, Settings, TenantId, TenantLimits, WorkerId};

mod machine;
mod run;
mod waits;

pub use waits::Waits;

/// What to replay.
///
/// Jobs run as long as the trace says, on whatever worker; a prompt whose beginning is computed there already spares
/// the part of its [prefill](super::Arrival::prefill) that it covers. Recording and talking take no time, nothing fails, and every
/// worker is idle at the beginning.
///
/// ```
/// use std::time::Duration;
/// use rbee_core::{LeastLoaded, Settings, sim::{Fleet, Replay, Trace}};
///
/// let fleet: Fleet = serde_json::from_str(r#"{ "hives": [{
///     "id": "attic",
///     "devices": [{ "kind": "cpu", "memory_total": 16000000000 }],
///     "models": { "bee-tiny": 4000000000 }
/// }] }"#)?;
/// let models = ["bee-tiny".parse()?];
/// let trace = Trace::conversations(1, 10, 3, Duration::from_secs(60), &models);
/// let report = Replay::new(fleet, trace).run(&LeastLoaded::default())?;
/// assert_eq!((report.completed, report.spawns), (30, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Replay {
    /// The machines.
    pub fleet: Fleet,
    /// The jobs.
    pub trace: Trace,
    /// The engine's settings.
    pub settings: Settings,
    /// What the tenants may use; those that are not named here have the settings' default limits.
    pub tenants: BTreeMap<TenantId, TenantLimits>,
    /// Everything that is left to chance follows from this.
    pub seed: u64,
    /// How fast a model is loaded from the disk of its hive. A download is 10 times as slow.
    pub load_bytes_per_second: u64,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Jobs of the trace.
    pub jobs: usize,
    /// Jobs that ended properly.
    pub completed: usize,
    /// Jobs that never started, by the code of the error: refused at the door, by the policy or by a clock.
    pub rejected: BTreeMap<String, usize>,
    /// Jobs that started and ended with an error, by its code.
    pub failed: BTreeMap<String, usize>,
    /// How long jobs waited for their first start.
    pub waits: Waits,
    /// The same by priority.
    pub waits_by_priority: BTreeMap<Priority, Waits>,
    /// The same by tenant.
    pub waits_by_tenant: BTreeMap<String, Waits>,
    /// Workers started.
    pub spawns: usize,
    /// Workers stopped, to make room or for another reason.
    pub stops: usize,
    /// Workers stopped to make room.
    pub evictions: usize,
    /// Replicas that the optimiser started.
    pub scale_ups: usize,
    /// Replicas that it stopped again.
    pub scale_backs: usize,
    /// Workers that were stopped because they were idle for longer than they are kept.
    pub expired: usize,
    /// Models downloaded.
    pub downloads: usize,
    /// Answers that the policy owed, or that made no sense; the built-in one decided.
    pub policy_faults: usize,
    /// Jobs whose prompt has prefixes.
    pub prefixed: usize,
    /// Of those, the ones that ran where the beginning of the prompt was computed already.
    pub prefix_hits: usize,
    /// Prefixes of all prompts.
    pub prefix_keys: u64,
    /// Of those, the ones that were computed already where the job ran.
    pub prefix_keys_warm: u64,
    /// Time that this has spared the workers, in milliseconds.
    pub prefill_saved_ms: u64,
    /// What every worker did.
    pub workers: BTreeMap<WorkerId, WorkerLoad>,
    /// Virtual time from the beginning of the trace to the last end, in milliseconds.
    pub elapsed_ms: u64,
    /// Inputs that the engine took.
    pub steps: u64,
    /// A hash over everything that was decided, in order: equal for equal runs.
    pub trace: u64,
}

/// What a worker did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerLoad {
    /// Its hive.
    pub hive: HiveId,
    /// Its model.
    pub model: ModelRef,
    /// Jobs it began.
    pub jobs: usize,
    /// Time its slots were in use, all together, in milliseconds.
    pub busy_ms: u64,
}

impl Replay {
    /// A replay with the default settings, seed 1, and models that are loaded at 1 GB/s.
    pub fn new(fleet: Fleet, trace: Trace) -> Self {
        Self {
            fleet,
            trace,
            settings: Settings::default(),
            tenants: BTreeMap::new(),
            seed: 1,
            load_bytes_per_second: 1_000_000_000,
        }
    }

    /// Runs to the end: until every job has ended.
    ///
    /// # Errors
    /// A fleet, a setting or a job that is not allowed, by name; an invariant that was broken; a run that does not come
    /// to its end.
    pub fn run(&self, scheduler: &dyn Scheduler) -> Result<ReplayReport, String> {
        self.fleet.validate().map_err(|error| error.to_string())?;
        self.settings.validate().map_err(|error| error.to_string())?;
        for (tenant, limits) in &self.tenants {
            limits.validate().map_err(|error| format!("tenant {tenant}: {}", error.message()))?;
        }
        if self.load_bytes_per_second == 0 {
            return Err("load_bytes_per_second is 0; allowed is at least 1".into());
        }
        run::Running::new(self, scheduler).run_out()
    }

    /// After this much virtual time every job of a working engine has ended.
    fn patience(&self) -> Duration {
        let settings = &self.settings;
        let wait = settings.interactive_wait.max(settings.batch_wait);
        let last = self.trace.arrivals.iter().map(|arrival| arrival.at + arrival.service).max();
        let each = settings.max_job_timeout + settings.abort_grace;
        last.unwrap_or_default() + 2 * wait + each * 2 + Duration::from_secs(3600)
    }
}
