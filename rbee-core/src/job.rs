//! Jobs: the values that are fixed at admission, and the states of a job.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    event::Outcome,
    id::{CorrelationId, JobId, TenantId, WorkerId},
    model_ref::ModelRef,
    priority::Priority,
    task::Task,
    time::WallTime,
};

pub use crate::idempotency::Idempotency;

/// An admitted request: every value is checked, and none changes any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// The model, with aliases resolved.
    pub model: ModelRef,
    /// Its priority.
    pub priority: Priority,
    /// Its task.
    pub task: Task,
    /// The seed of the sampling; always concrete, so that another worker can continue the stream.
    pub seed: u64,
    /// Keys of the prompt's prefixes, shortest first (see [`WorkerHealth::warm`](crate::worker::WorkerHealth::warm)).
    pub prefix: Arc<[u64]>,
    /// The longest time that it may run, from its first start.
    pub timeout: Duration,
    /// The longest time for everything, from its submission.
    pub deadline: Option<Duration>,
    /// True if it goes on without a reader, and its result is kept.
    pub detached: bool,
    /// True if the request and its whole answer are kept as long as its record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
    /// A text of the client that is kept with the request, and that no worker and no policy reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<str>>,
    /// The tenant whose quota it counts against.
    pub tenant: Option<TenantId>,
    /// Its rank among the jobs of its model, tenant and priority, set by the policy: lower goes first; of equal ranks,
    /// the one that arrived first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rank: i64,
    /// The identifier of the request in every log.
    pub correlation_id: CorrelationId,
    /// Its idempotency key: another submission with this key returns this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Arc<Idempotency>>,
    /// False if nobody reads the answer before its end. Then a worker may send several tokens together, which costs
    /// less.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub streamed: bool,
}

fn yes() -> bool {
    true
}

impl Job {
    /// True if it goes on when its client disconnects. Then its client can come back, and its answer is kept for as
    /// long as its record.
    pub fn outlives_its_client(&self) -> bool {
        self.detached || self.idempotency.is_some()
    }
}

/// Checks that a repeated submission under an idempotency key is the same request.
///
/// # Errors
/// [`ErrorKind::Conflict`] if it is another request.
pub(crate) fn check_repeat(job: &Job, before: Option<&Idempotency>) -> Result<()> {
    if job.idempotency.as_deref() == before {
        return Ok(());
    }
    let key = job.idempotency.as_ref().map_or("", |idempotency| &*idempotency.key);
    let message = format!(
        "the idempotency key {key:?} was used for another request, job {}; use a new key",
        job.id
    );
    Err(Error::for_client(ErrorKind::Conflict, message).with_param("idempotency_key"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(rank: &i64) -> bool {
    *rank == 0
}

/// The state of a job, as it is stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted, not running.
    Queued,
    /// A worker runs it.
    Running,
    /// Ended normally.
    Complete,
    /// Ended with an error.
    Failed,
    /// Cancelled by the client.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Complete, Self::Failed, Self::Cancelled];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// True if the job has not ended.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The progress of a job. The transitions between states are methods of [`LiveJob`], which consume it; [`EndedJob`] has
/// none, so an ended job cannot start, and cannot end again.
///
/// ```
/// use rbee_core::{job::{JobStatus, LiveJob}, time::WallTime, JobState, Outcome, WorkerId};
///
/// let now = WallTime::from_millis(1);
/// let job = LiveJob::queued().started(WorkerId::random(), now).requeued();
/// let job = JobStatus::from(job.ended(Outcome::Cancelled, now));
/// assert_eq!(job.state(), JobState::Cancelled);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobStatus {
    /// The job has not ended.
    Live(LiveJob),
    /// The job has ended.
    Ended(EndedJob),
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveJob {
    worker: Option<WorkerId>,
    started_at: Option<WallTime>,
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndedJob {
    /// Its result.
    pub outcome: Outcome,
    /// The last worker that ran it.
    pub worker: Option<WorkerId>,
    /// The time of its first start, if it started.
    pub started_at: Option<WallTime>,
    /// When it ended.
    pub completed_at: WallTime,
}

impl LiveJob {
    /// A job that was accepted and never started.
    pub const fn queued() -> Self {
        Self { worker: None, started_at: None }
    }

    /// A status from stored values: on a worker (running) or on none (queued), and the time of its first start.
    pub const fn from_parts(worker: Option<WorkerId>, started_at: Option<WallTime>) -> Self {
        Self { worker, started_at }
    }

    /// An attempt begins on this worker. The time of the first start is kept over retries.
    pub fn started(self, worker: WorkerId, at: WallTime) -> Self {
        Self { worker: Some(worker), started_at: self.started_at.or(Some(at)) }
    }

    /// The attempt is over, and the job waits for the next one.
    pub fn requeued(self) -> Self {
        Self { worker: None, ..self }
    }

    /// The job ends.
    pub fn ended(self, outcome: Outcome, at: WallTime) -> EndedJob {
        EndedJob { outcome, worker: self.worker, started_at: self.started_at, completed_at: at }
    }

    /// The worker that runs it.
    pub const fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// The time of its first start.
    pub const fn started_at(&self) -> Option<WallTime> {
        self.started_at
    }
}

impl JobStatus {
    /// The name of its state.
    pub const fn state(&self) -> JobState {
        match self {
            Self::Live(live) if live.worker.is_some() => JobState::Running,
            Self::Live(_) => JobState::Queued,
            Self::Ended(ended) => match ended.outcome {
                Outcome::Complete { .. } => JobState::Complete,
                Outcome::Failed(_) => JobState::Failed,
                Outcome::Cancelled => JobState::Cancelled,
            },
        }
    }

    /// The time of its first start, if it started.
    pub const fn started_at(&self) -> Option<WallTime> {
        match self {
            Self::Live(live) => live.started_at,
            Self::Ended(ended) => ended.started_at,
        }
    }

    /// The worker that runs it, or ran it last.
    pub const fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Live(live) => live.worker,
            Self::Ended(ended) => ended.worker,
        }
    }
}

impl From<LiveJob> for JobStatus {
    fn from(live: LiveJob) -> Self {
        Self::Live(live)
    }
}

impl From<EndedJob> for JobStatus {
    fn from(ended: EndedJob) -> Self {
        Self::Ended(ended)
    }
}
