//! The [`Registry`] trait: what must survive a restart.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    ApiKey, CorrelationId, Epoch, HiveId, Idempotency, Job, JobId, JobState, JobStatus, LiveJob,
    ModelRef, Outcome, PolicySource, Priority, QueenId, Result, Task, TenantId, TenantLimits,
    WallTime, WorkerId, prefix,
};

mod clock;
mod memory;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryRegistry;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteRegistry};

/// One token of an answer, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its id in the model's vocabulary, where the engine tells.
    pub id: Option<u32>,
    /// The text that it completes.
    pub text: Box<str>,
}

/// What stays of a request when its text is gone: enough to [replay](crate::sim::Replay) the job, and not a word of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobOutline {
    /// It asked for vectors; else for text.
    pub embed: bool,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// How long everything might take, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Keys of the prompt's prefixes, shortest first. They are veiled: which prompts of one life of a queen began alike
    /// can be told by them, and nothing of what they said.
    pub prefix: Arc<[u64]>,
}

impl JobOutline {
    /// That of a job, with the keys of its prefixes veiled by a secret that is kept nowhere.
    pub(crate) fn of(job: &Job, secret: u64) -> Self {
        let (embed, max_tokens) = match &job.task {
            Task::Generate { sampling, .. } => (false, sampling.max_tokens),
            Task::Embed { .. } => (true, None),
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            embed,
            max_tokens,
            deadline_ms: job.deadline.map(millis),
            prefix: prefix::veiled(&job.prefix, secret),
        }
    }
}

/// A job, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// The model.
    pub model: ModelRef,
    /// Which jobs go first.
    pub priority: Priority,
    /// How far it has come.
    pub status: JobStatus,
    /// Its place in the queue: lower goes first.
    pub order: u64,
    /// When it was submitted.
    pub submitted_at: WallTime,
    /// Attempts begun.
    pub attempts: u32,
    /// The mark it carries through every log.
    pub correlation_id: CorrelationId,
    /// The key it was submitted under, where there was one.
    pub idempotency: Option<Arc<Idempotency>>,
    /// The life of a queen that answers for it.
    pub owner: Epoch,
    /// Everything needed to run it; none where it is not kept, or erased.
    pub request: Option<Arc<Job>>,
    /// What is kept of it in any case; none where an older version recorded the job.
    pub outline: Option<JobOutline>,
    /// The [numerics](crate::WorkerInfo::numerics) of the worker that gave the first pieces.
    pub numerics: Option<Arc<str>>,
    /// What is recorded of its answer so far.
    pub pieces: Vec<Piece>,
    /// Tokens of the answer: those recorded while it is live, all of them once it has ended.
    pub tokens_generated: u32,
}

impl JobRecord {
    /// A job that was just accepted, with everything needed to run it, and without an outline.
    pub fn queued(job: Arc<Job>, order: u64, submitted_at: WallTime, owner: Epoch) -> Self {
        Self {
            id: job.id,
            tenant: job.tenant.clone(),
            model: job.model.clone(),
            priority: job.priority,
            status: LiveJob::queued().into(),
            order,
            submitted_at,
            attempts: 0,
            correlation_id: job.correlation_id.clone(),
            idempotency: job.idempotency.clone(),
            owner,
            request: Some(job),
            outline: None,
            numerics: None,
            pieces: Vec::new(),
            tokens_generated: 0,
        }
    }
}

/// How a hive is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum HiveAddress {
    /// On the queen's machine.
    Local,
    /// At its host name and port, over HTTP; somebody else has started it.
    Http,
    /// On another machine, over SSH.
    Network {
        /// The host to connect to.
        ssh_host: String,
        /// Its SSH port.
        ssh_port: u16,
        /// The user there.
        ssh_user: String,
        /// The key to log in with; none where the agent or the SSH configuration decides.
        ssh_key_path: Option<String>,
    },
}

/// Is a hive reachable?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiveStatus {
    /// It answers.
    Online,
    /// It does not answer; it gets no new jobs.
    Offline,
    /// It could not be started.
    Error,
}

impl HiveStatus {
    /// The name it is stored by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Error => "error",
        }
    }
}

/// A hive, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiveRecord {
    /// Its name.
    pub id: HiveId,
    /// The machine's own name.
    pub hostname: String,
    /// The port of its HTTP API; 0 where it has none, inside this process.
    pub port: u16,
    /// How it is reached.
    pub address: HiveAddress,
    /// Devices, backends and models, as JSON.
    pub capabilities: serde_json::Value,
    /// When it last answered.
    pub last_seen: WallTime,
    /// Is it reachable?
    pub status: HiveStatus,
    /// What its owner says of it: see [`HiveView::labels`](crate::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

/// A model on the disk of a hive, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    /// The hive.
    pub hive: HiveId,
    /// The model.
    pub model: ModelRef,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The SHA-256 of its files, in lower-case hexadecimal, where it is known.
    pub checksum: Option<String>,
    /// When a worker last loaded it.
    pub last_used: WallTime,
}

/// What is remembered of a worker that runs, beyond this life of the queen and an outage of its hive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// The worker.
    pub worker: WorkerId,
    /// Its hive.
    pub hive: HiveId,
    /// An operator has pinned it: it is never evicted.
    pub pinned: bool,
    /// It was started beside others of its model, and is stopped again when they suffice.
    pub replica: bool,
}

impl WorkerRecord {
    /// A worker like any other.
    pub fn new(worker: WorkerId, hive: HiveId) -> Self {
        Self { worker, hive, pinned: false, replica: false }
    }

    /// Is it like any other, so that nothing need be remembered?
    pub fn says_nothing(&self) -> bool {
        !self.pinned && !self.replica
    }
}

/// A tenant, as it is stored: limits, keys and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name.
    pub id: TenantId,
    /// What it may use.
    pub limits: TenantLimits,
    /// Its keys.
    pub keys: Vec<ApiKey>,
    /// Tokens used on the day of the snapshot. The store counts them itself, with every [`Change::JobEnded`];
    /// a [`Change::TenantPut`] does not change them.
    pub used_tokens: u64,
}

/// A version of the policy, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its number: each is one more than the one before.
    pub version: u64,
    /// Since when it was in force.
    pub at: WallTime,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    pub hash: String,
    /// Where it came from.
    pub origin: PolicyOrigin,
    /// The text; an empty one for a [reset](PolicyOrigin::Reset).
    pub source: PolicySource,
}

/// Where a version of the policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyOrigin {
    /// The application brought it, by its code or its configuration.
    Application,
    /// Somebody set it while the queen ran.
    Operator,
    /// An earlier version was put back in force.
    Rollback,
    /// What the application brings was put back in force: its own policy, or the built-in one where it has none.
    Reset,
}

impl PolicyOrigin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Application, Self::Operator, Self::Rollback, Self::Reset];

    /// The name it is stored by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Operator => "operator",
            Self::Rollback => "rollback",
            Self::Reset => "reset",
        }
    }
}

/// Versions of the policy that a store keeps: the newest.
pub const POLICIES_KEPT: u64 = 100;

/// One thing to write. A list of them is written together or not at all, in order.
///
/// A change to a job or hive that the store does not know is passed over: it may have been removed meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A job was accepted. Its owner becomes the one who records. A job of that id that is there already stays as it
    /// is, so that a repeated record does no harm.
    JobQueued(Box<JobRecord>),
    /// An attempt begins.
    JobRunning {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// 1 for the first.
        attempt: u32,
        /// When.
        at: WallTime,
        /// The numerics of the worker. They replace what is stored only while no piece is.
        numerics: Arc<str>,
    },
    /// The attempt is over, and the job waits for another.
    JobRequeued {
        /// The job.
        job: JobId,
    },
    /// A stretch of the answer. Written only where exactly `at` pieces are stored, and passed over elsewhere, so that
    /// a late or repeated one does no harm.
    JobTokens {
        /// The job.
        job: JobId,
        /// How many pieces come before.
        at: u32,
        /// The pieces.
        pieces: Vec<Piece>,
    },
    /// The end. A job that has ended already keeps its first end.
    JobEnded {
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: WallTime,
        /// Tokens that its tenant has used with it. They are added to the tenant's usage of that day (UTC).
        used_tokens: u64,
        /// The text of the request stays.
        keep_request: bool,
        /// The pieces of the answer stay.
        keep_output: bool,
    },
    /// A hive was added or has changed. Its owner becomes the one who records.
    HivePut(Box<HiveRecord>),
    /// A hive was removed, and its models with it, and what is remembered of its workers.
    HiveGone(HiveId),
    /// A model is on the disk of a hive.
    ModelPut(ModelRecord),
    /// A model is no longer on the disk of a hive.
    ModelGone {
        /// The hive.
        hive: HiveId,
        /// The model.
        model: ModelRef,
    },
    /// There is something to remember of a worker, or something else than before.
    WorkerPut(WorkerRecord),
    /// There is nothing more to remember of a worker: it is gone, or like any other.
    WorkerGone {
        /// Its hive.
        hive: HiveId,
        /// The worker.
        worker: WorkerId,
    },
    /// A tenant was added, or its limits or keys have changed.
    TenantPut(TenantRecord),
    /// A tenant was removed. What it used today is remembered, should it come back.
    TenantGone(TenantId),
    /// A version of the policy came into force; the oldest beyond [`POLICIES_KEPT`] are dropped. A version that is
    /// there already stays as it is.
    PolicyPut(Box<PolicyRecord>),
}

/// What a queen finds in the store when it opens, or takes over later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The name of this ownership.
    pub epoch: Epoch,
    /// Live jobs that are now this queen's, in the order of the queue, with request and pieces.
    pub jobs: Vec<JobRecord>,
    /// Hives that are now this queen's.
    pub hives: Vec<HiveRecord>,
    /// Models on those hives.
    pub models: Vec<ModelRecord>,
    /// What is remembered of workers on those hives.
    pub workers: Vec<WorkerRecord>,
    /// All tenants.
    pub tenants: Vec<TenantRecord>,
}

/// Which jobs to list. The default asks for the newest 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFilter {
    /// This one alone.
    pub id: Option<JobId>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// In one of these states; empty is any.
    pub states: Vec<JobState>,
    /// Older than the job of this [order](JobRecord::order): the last one of the page before.
    pub before: Option<u64>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
    /// With the request and the pieces of the answer. Without it they are left empty; the outline is there in any case.
    pub with_text: bool,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            id: None,
            tenant: None,
            states: Vec::new(),
            before: None,
            limit: 100,
            with_text: false,
        }
    }
}

impl JobFilter {
    /// One job, with everything that is stored of it.
    pub fn one(id: JobId) -> Self {
        Self { id: Some(id), limit: 1, with_text: true, ..Self::default() }
    }
}

/// What must survive a restart: jobs, hives, the catalogue of models, tenants.
///
/// Every job and hive has an owner: one life of one queen, named by its [`Epoch`]. So two queens can share a store,
/// and an old one that comes back from the dead cannot write over a young one. The owner is alive while its lease is;
/// a store that can tell sooner that the owner's process has died need not wait for the lease to run out.
///
/// Implementations are proved by [`conformance::registry`](crate::conformance::registry) (feature `conformance`).
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Begins a life: an epoch greater than every one before. Takes over the rows of every owner that is no longer
    /// alive, and those of earlier lives of the same queen, alive or not. A life whose rows were taken over, some or
    /// none, is superseded: it can write nothing any more.
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot>;

    /// Writes all changes, in order, or none. When it returns they survive the death of this process.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) where a job or hive that is named belongs to another owner,
    /// or this life was superseded; [`ErrorKind::Storage`](crate::ErrorKind::Storage) where the store fails.
    /// Nothing is written then.
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()>;

    /// A sign of life; to be given at a third of the lease. Answers with what was taken over meanwhile from owners
    /// that are no longer alive, and with all tenants, whoever has changed them.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) where this life was superseded.
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot>;

    /// Ends this life: another queen may take over all its rows at once. Idempotent.
    async fn release(&self, epoch: Epoch) -> Result<()>;

    /// Lists jobs, of every owner, the newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>>;

    /// The versions of the policy, the newest last.
    async fn policies(&self) -> Result<Vec<PolicyRecord>>;

    /// One version of the policy, or the newest where none is named; none where it is not kept. A store that can read
    /// one without the others does better than this default.
    async fn policy(&self, version: Option<u64>) -> Result<Option<PolicyRecord>> {
        let all = self.policies().await?;
        Ok(all.into_iter().rev().find(|one| version.is_none_or(|wanted| one.version == wanted)))
    }
}

/// A shared registry is a registry.
#[async_trait]
impl<R: Registry + ?Sized> Registry for Arc<R> {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        (**self).open(queen, lease).await
    }
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        (**self).record(epoch, changes).await
    }
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        (**self).renew(epoch).await
    }
    async fn release(&self, epoch: Epoch) -> Result<()> {
        (**self).release(epoch).await
    }
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        (**self).jobs(filter).await
    }
    async fn policies(&self) -> Result<Vec<PolicyRecord>> {
        (**self).policies().await
    }
    async fn policy(&self, version: Option<u64>) -> Result<Option<PolicyRecord>> {
        (**self).policy(version).await
    }
}
