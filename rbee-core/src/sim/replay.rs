//! A trace through the real engine and a policy, on a described fleet, in virtual time.

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

/// What to replay.
///
/// What it takes for granted: jobs run as long as the trace says, on whatever worker; a prompt whose beginning is computed there already spares
/// the part of its [prefill](super::Arrival::prefill) that it covers. Recording and talking take no time, nothing fails, and every
/// worker is idle at the beginning. A policy that fails to decide is helped out by the built-in one, and after five
/// faults in a row it is not asked any more, as by a queen.
///
/// A policy that ends its decisions by the clock is asked as it is: who wants the same report from a busy machine gives
/// the one that [`Scheduler::for_replay`] gives.
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
    /// Decides where the policy fails to.
    pub built_in: LeastLoaded,
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
    /// Replicas that the autoscaler started.
    pub scale_ups: usize,
    /// Replicas that it stopped again.
    pub scale_backs: usize,
    /// Workers that were stopped because they were idle for longer than they are kept.
    pub expired: usize,
    /// Models downloaded.
    pub downloads: usize,
    /// Answers that the policy owed, or that made no sense; the built-in one decided.
    pub policy_faults: usize,
    /// It failed too often in a row: from then on the built-in one decided everything.
    pub policy_suspended: bool,
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
    /// Runs it does at once.
    pub slots: u32,
    /// It was started in the replay; the others are those of the fleet.
    pub started: bool,
    /// Jobs it began.
    pub jobs: usize,
    /// Time its slots were in use, all together, in milliseconds.
    pub busy_ms: u64,
}

impl Replay {
    /// A replay with the default settings, seed 1, models that are loaded at 1 GB/s, and the built-in policy with its own
    /// defaults.
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

    /// Runs to the end: until every job has ended.
    ///
    /// # Errors
    /// A fleet, a setting or a job that is not allowed, by name; an invariant that was broken; a run that does not come
    /// to its end.
    pub fn run(&self, scheduler: &dyn Scheduler) -> Result<ReplayReport, String> {
        self.run_while(scheduler, &|| Ok(())).map_err(|error| error.message().to_owned())
    }

    /// The same, with a question before each step: whether it may go on. A run that may not ends with the error that was
    /// answered. The real time is here, where it is to be bounded; the run itself knows none.
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
    /// As for [`run`](Self::run): [`ErrorKind::InvalidRequest`] and [`ErrorKind::Config`] for what is not allowed,
    /// [`ErrorKind::Internal`] for a run that does not come to its end; and what `may_go_on` gives.
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

    /// After this much virtual time every job of a working engine has ended.
    fn timeout(&self) -> Duration {
        let settings = &self.settings;
        let wait = settings.interactive_wait.max(settings.batch_wait);
        let last = self.trace.arrivals.iter().map(|arrival| arrival.at + arrival.service).max();
        let each = settings.max_job_timeout + settings.abort_grace;
        last.unwrap_or_default() + 2 * wait + each * 2 + Duration::from_secs(3600)
    }
}
