//! Runs a trace through the real engine and a policy, on a described fleet, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Fleet, Trace};
use crate::{
    error::{Error, ErrorKind, Result},
    id::{HiveId, TenantId, WorkerId},
    model_ref::ModelRef,
    priority::Priority,
    scheduler::{LeastLoaded, Scheduler},
    settings::Settings,
    tenant::TenantLimits,
};

mod machine;
mod run;
mod waits;

pub use waits::Waits;

/// The setup of a replay.
///
/// Assumptions: jobs run as long as the trace says, on any worker. If a worker has the start of a prompt in its cache,
/// this saves the part of the [prefill](super::Arrival::prefill) that it covers. Recording and communication take no
/// time, nothing fails, and every worker is idle at the start. If the policy fails to decide, the built-in one decides,
/// and after five faults in a row the policy is no longer asked, as in a queen.
///
/// A policy with a time limit on the real clock is used as it is. To get the same report on a busy machine, use the
/// policy that [`Scheduler::for_replay`] returns.
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
    /// The limits of the tenants; other tenants have the settings' default limits.
    pub tenants: BTreeMap<TenantId, TenantLimits>,
    /// The seed of all randomness.
    pub seed: u64,
    /// The rate at which a model is loaded from the disk of its hive, in bytes per second. A download is 10 times as
    /// slow.
    pub load_bytes_per_second: u64,
    /// The policy that decides if the other one fails.
    pub built_in: LeastLoaded,
}

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Jobs of the trace.
    pub jobs: usize,
    /// Jobs that completed.
    pub completed: usize,
    /// Jobs that never started, by the code of the error: refused at admission, by the policy or by a timer.
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
    /// Workers stopped, by eviction or for another reason.
    pub stops: usize,
    /// Workers evicted.
    pub evictions: usize,
    /// Replicas that the autoscaler started.
    pub scale_ups: usize,
    /// Replicas that it stopped again.
    pub scale_backs: usize,
    /// Workers that were stopped because they were idle for longer than they are kept.
    pub expired: usize,
    /// Models downloaded.
    pub downloads: usize,
    /// Missing or invalid answers of the policy; the built-in one decided.
    pub policy_faults: usize,
    /// The policy failed too often in a row: from then on the built-in one decided everything.
    pub policy_suspended: bool,
    /// Jobs whose prompt has prefixes.
    pub prefixed: usize,
    /// Prefixed jobs that ran on a worker with the start of the prompt in its cache.
    pub prefix_hits: usize,
    /// Prefixes of all prompts.
    pub prefix_keys: u64,
    /// Prefixes that were in the cache of the worker that the job ran on.
    pub prefix_keys_warm: u64,
    /// Prefill time that this has saved, in milliseconds.
    pub prefill_saved_ms: u64,
    /// The load of every worker.
    pub workers: BTreeMap<WorkerId, WorkerLoad>,
    /// Virtual time from the start of the trace to the last end, in milliseconds.
    pub elapsed_ms: u64,
    /// Inputs that the engine took.
    pub steps: u64,
    /// A hash over all decisions, in order: equal for equal runs.
    pub trace: u64,
}

/// The load of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerLoad {
    /// Its hive.
    pub hive: HiveId,
    /// Its model.
    pub model: ModelRef,
    /// Runs that it does at once.
    pub slots: u32,
    /// It was started in the replay; if false, it belongs to the fleet.
    pub started: bool,
    /// Jobs that it started.
    pub jobs: usize,
    /// The time that its slots were in use, added up, in milliseconds.
    pub busy_ms: u64,
}

impl Replay {
    /// A replay with the default settings, seed 1, a load rate of 1 GB/s, and the built-in policy with its defaults.
    pub fn new(fleet: Fleet, trace: Trace) -> Self {
        Self {
            fleet,
            trace,
            settings: Settings::default(),
            tenants: BTreeMap::new(),
            seed: 1,
            load_bytes_per_second: 1_000_000_000,
            built_in: LeastLoaded::default(),
        }
    }

    /// Runs until every job has ended.
    ///
    /// # Errors
    /// A message that names an invalid fleet, setting or job, a broken invariant, or a run that does not end.
    pub fn run(&self, scheduler: &dyn Scheduler) -> Result<ReplayReport, String> {
        self.run_while(scheduler, &|| Ok(())).map_err(|error| error.message().to_owned())
    }

    /// The same, but calls `may_go_on` before each step. A run that may not go on ends with the error that it returned.
    /// This allows a limit in real time; the run itself knows only virtual time.
    ///
    /// ```
    /// use rbee_core::{Error, ErrorKind, LeastLoaded, sim::{Fleet, Replay, Trace}};
    ///
    /// let trace = Trace::day(1, 100, &["bee-tiny".parse()?], &[]);
    /// let replay = Replay::new(Fleet { hives: Vec::new() }, trace);
    /// let began = std::time::Instant::now();
    /// let error = replay.run_while(&LeastLoaded::default(), &|| match began.elapsed().as_nanos() {
    ///     0 => Ok(()),
    ///     _ => Err(Error::new(ErrorKind::JobTimeout, "it took longer than nothing")),
    /// });
    /// assert_eq!(error.unwrap_err().kind(), ErrorKind::JobTimeout);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`run`](Self::run): [`ErrorKind::InvalidRequest`] and [`ErrorKind::Config`] for invalid values,
    /// [`ErrorKind::Internal`] for a run that does not end; and the errors of `may_go_on`.
    pub fn run_while(
        &self,
        scheduler: &dyn Scheduler,
        may_go_on: &dyn Fn() -> Result<()>,
    ) -> Result<ReplayReport> {
        self.fleet.validate()?;
        self.settings.validate()?;
        for (tenant, limits) in &self.tenants {
            limits.validate().map_err(|error| error.context(format!("tenant {tenant}")))?;
        }
        if self.load_bytes_per_second == 0 {
            let message = "load_bytes_per_second is 0; allowed is at least 1";
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        run::Running::new(self, scheduler, may_go_on).run_out()
    }

    /// The virtual time after which every job of a working engine has ended.
    fn timeout(&self) -> Duration {
        let settings = &self.settings;
        let wait = settings.interactive_wait.max(settings.batch_wait);
        let last = self.trace.arrivals.iter().map(|arrival| arrival.at + arrival.service).max();
        let each = settings.max_job_timeout + settings.abort_grace;
        last.unwrap_or_default() + 2 * wait + each * 2 + Duration::from_secs(3600)
    }
}
