//! The [`Scheduler`] trait: where a job goes, now.

use std::{collections::BTreeMap, collections::BTreeSet, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ClusterView, Error, HiveId, Job, Now, Result, WorkerId, WorkerSpec};

mod estimate;
mod eviction;
mod function;
mod least_loaded;
mod platform;
#[cfg(feature = "rhai")]
mod rhai;
#[cfg(feature = "rules")]
mod rules;
mod spawn;
mod trace;

pub use estimate::{DeviceEstimate, Fit};
pub use eviction::plan_eviction;
pub use function::FnScheduler;
pub use least_loaded::LeastLoaded;
pub use platform::PlatformPolicy;
#[cfg(feature = "rhai")]
pub use rhai::{RhaiScheduler, scheduler_reference};
#[cfg(feature = "rules")]
pub use rules::{rules_schema, rules_to_rhai};
pub(crate) use spawn::{known, place_replica};

/// The question put to a scheduler, with all the clock and all the chance that it may use: the same question about
/// the same cluster has the same answer, so that a recorded run can be replayed.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The job to place.
    pub job: Arc<Job>,
    /// The present moment.
    pub now: Now,
    /// 64 random bits.
    pub random: u64,
    /// How long ago the job was submitted, an earlier life of the queen included.
    pub waited: Duration,
    /// Attempts made so far.
    pub attempts: u32,
    /// Workers on which this job has failed: better others, where there are any.
    pub avoid: Arc<BTreeSet<WorkerId>>,
    /// The [numerics](crate::WorkerInfo::numerics) that the worker must have, because the stream is to be continued.
    /// The engine refuses an answer that does not heed it.
    pub must_match: Option<Arc<str>>,
    /// Hives that have refused to start a worker for this model, and why: not to be asked again for this job.
    pub refused: Arc<BTreeMap<HiveId, Error>>,
}

impl Ask {
    /// The first question about a job that nothing has happened to yet.
    pub fn first(job: Arc<Job>, now: Now, random: u64) -> Self {
        Self {
            job,
            now,
            random,
            waited: Duration::ZERO,
            attempts: 0,
            avoid: Arc::default(),
            must_match: None,
            refused: Arc::default(),
        }
    }
}

/// The answer of a scheduler. The engine checks it against the state of the moment and against the invariants.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// Run on this worker.
    Assign(WorkerId),
    /// Start a worker on that hive; the job waits for whatever is free first. Where the model is not on the hive's
    /// disk it is provisioned, and the question comes again.
    Spawn {
        /// The hive.
        hive: HiveId,
        /// What to start.
        spec: WorkerSpec,
        /// Idle workers of that hive to stop first, to make room.
        evict: Vec<WorkerId>,
    },
    /// Nothing can be done now. The question comes again when a slot is free, when the fleet changes, or with the
    /// next tick of the optimiser.
    Wait,
    /// The job ends with this error. Whoever submitted it reads the message only if it is one
    /// [for the client](Error::for_client).
    Reject(Error),
}

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Chosen,
    /// It would do, but another was better.
    Eligible,
    /// It will not do.
    Refused(String),
}

/// Something a job could have gone to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    /// A worker that runs.
    Worker(WorkerId),
    /// A hive to start one on.
    Hive(HiveId),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(id) => write!(f, "worker {id}"),
            Self::Hive(id) => write!(f, "hive {id}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen"),
            Self::Eligible => f.write_str("eligible"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// Whether a job may join the queue, and where in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// It may.
    Accept {
        /// Its rank among the jobs of its lane: lower goes first, and of equals the one that came first. 0 where the
        /// policy has no order of its own.
        rank: i64,
    },
    /// It is refused with this error, and nothing is recorded. Whoever submitted it reads the message only if it is one
    /// [for the client](Error::for_client).
    Refuse(Error),
}

impl Default for Admission {
    fn default() -> Self {
        Self::Accept { rank: 0 }
    }
}

/// A policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// What it is written in.
    pub language: PolicyLanguage,
    /// The text.
    pub text: Arc<str>,
}

/// What a policy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLanguage {
    /// A Rhai script.
    Rhai,
    /// Rules in YAML.
    Yaml,
}

impl PolicyLanguage {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rhai, Self::Yaml];

    /// The name it is stored by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rhai => "rhai",
            Self::Yaml => "yaml",
        }
    }

    /// A JSON schema with which an editor completes and checks what is written in it, where there is one.
    pub fn schema(self) -> Option<serde_json::Value> {
        match self {
            #[cfg(feature = "rules")]
            Self::Yaml => Some(rules_schema()),
            _ => None,
        }
    }
}

/// A decision with its reasons.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision.
    pub placement: Result<Placement>,
    /// What the policy looked at, a sentence for each step, in order: filters with what they left, scores, picks.
    pub steps: Vec<String>,
    /// Every candidate looked at, with what became of it.
    pub candidates: Vec<(Candidate, Verdict)>,
}

/// Where a job goes, now. It sees the whole cluster, and has no clock, no chance and no input or output of its own:
/// all it may use comes with the question.
///
/// Implementations are proved by [`conformance::scheduler`](crate::conformance::scheduler) (feature `conformance`).
/// A function will do: [`FnScheduler`].
pub trait Scheduler: fmt::Debug + Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    /// A policy that cannot decide says why; the built-in one, [`LeastLoaded`], decides that job instead, and the
    /// fault is counted. The same happens where it panics.
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement>;

    /// Decides, and gives the reasons. It must come to the same decision as [`place`](Self::place).
    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        Explanation {
            placement: self.place(ask, cluster),
            steps: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Does [`admit`](Self::admit) have an opinion? Where not, it is not called.
    fn admits(&self) -> bool {
        false
    }

    /// May this job join the queue, and at which rank? Asked after the queen's own limits, before anything of the job
    /// is recorded.
    ///
    /// # Errors
    /// A policy that cannot decide says why; the job is admitted at rank 0 then, and the fault is counted.
    fn admit(&self, _ask: &Ask, _cluster: &ClusterView) -> Result<Admission> {
        Ok(Admission::default())
    }

    /// How long a decision may take. `None`: it is cheap, and is called in the queen's own loop. With a limit it has
    /// a thread of its own and a clone of the view; the built-in policy decides what it does not decide in time.
    fn limit(&self) -> Option<Duration> {
        None
    }

    /// Threads that may decide side by side, where there is a limit. One, so that calls that do not return cannot pile
    /// up; more only for a policy that ends its own calls in time.
    fn threads(&self) -> usize {
        1
    }

    /// The same policy as a replay asks it, where that is another: one whose answers follow from the questions alone,
    /// however busy the machine is. A policy that ends its decisions by the clock bounds them by their work here.
    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        None
    }

    /// The text that people can read and change; none for a policy that is compiled in.
    fn source(&self) -> Option<PolicySource> {
        None
    }

    /// What people know it by.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        // The generic arguments say nothing to people.
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// What it does, in a sentence for people.
    fn description(&self) -> String {
        String::new()
    }
}

/// A shared scheduler is a scheduler.
impl<S: Scheduler + ?Sized> Scheduler for Arc<S> {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        (**self).place(ask, cluster)
    }
    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        (**self).explain(ask, cluster)
    }
    fn admits(&self) -> bool {
        (**self).admits()
    }
    fn admit(&self, ask: &Ask, cluster: &ClusterView) -> Result<Admission> {
        (**self).admit(ask, cluster)
    }
    fn limit(&self) -> Option<Duration> {
        (**self).limit()
    }
    fn threads(&self) -> usize {
        (**self).threads()
    }
    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        (**self).for_replay()
    }
    fn source(&self) -> Option<PolicySource> {
        (**self).source()
    }
    fn name(&self) -> String {
        (**self).name()
    }
    fn description(&self) -> String {
        (**self).description()
    }
}
