//! The [`Registry`] trait: what must survive a restart.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    event::Outcome,
    id::{Epoch, HiveId, JobId, QueenId, TenantId, WorkerId},
    job::JobState,
    model_ref::ModelRef,
    time::WallTime,
};

mod clock;
#[cfg(feature = "test-util")]
mod guarded;
mod memory;
mod records;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "test-util")]
pub use guarded::GuardedRegistry;
pub use memory::MemoryRegistry;
pub use records::{
    HiveRecord, HiveStatus, JobOutline, JobRecord, ModelRecord, PolicyOrigin, PolicyRecord,
    TenantRecord, TokenChunk, WorkerRecord,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{BackupStatus, Backups, Durability, Restored, SqliteOptions, SqliteRegistry};

/// Versions of the policy that a store keeps: the newest.
pub const POLICIES_KEPT: u64 = 100;

/// One thing to write. A list of them is written together or not at all, in order.
///
/// A change to a job or hive that the store does not know is ignored: it may have been removed meanwhile.
///
/// The list of changes is complete on purpose, and not `non_exhaustive`: a store that ignored a change that it does not
/// know would lose it. A new kind of change is to break every store until it writes that kind too.
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
        /// The numerics of the worker. They replace what is stored only while no chunk is.
        numerics: Arc<str>,
    },
    /// The attempt is over, and the job waits for another.
    JobRequeued {
        /// The job.
        job: JobId,
        /// Attempts begun that count: see [`ErrorKind::costs_a_try`](crate::ErrorKind::costs_a_try).
        attempts: u32,
    },
    /// A stretch of the answer, with which [`JobRecord::restarts`] begins anew. Written only where exactly `at` chunks are stored, and passed over elsewhere, so that
    /// a late or repeated one does no harm.
    JobTokens {
        /// The job.
        job: JobId,
        /// How many chunks come before.
        at: u32,
        /// The chunks.
        chunks: Vec<TokenChunk>,
    },
    /// The vectors of an answer. They replace those that are stored; a job that has ended stays as it is.
    JobVectors {
        /// The job.
        job: JobId,
        /// One for each input.
        vectors: Arc<Vec<Vec<f32>>>,
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
        /// The answer stays: its chunks and its vectors. They are whole then, because what was missing of them is written
        /// before the end, and the record [says so](JobRecord::output_kept).
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The name of this ownership.
    pub epoch: Epoch,
    /// Live jobs that are now this queen's, in the order of the queue, with request and chunks.
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
    /// With the request and the answer, its chunks and vectors. Without it they are left empty; the outline is there in
    /// any case.
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

/// Which versions of the policy to list. The default asks for all that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFilter {
    /// This one alone.
    pub version: Option<u64>,
    /// At most so many: the newest.
    pub limit: u64,
}

impl Default for PolicyFilter {
    fn default() -> Self {
        Self { version: None, limit: POLICIES_KEPT }
    }
}

impl PolicyFilter {
    /// The version of this number.
    pub fn one(version: u64) -> Self {
        Self { version: Some(version), limit: 1 }
    }

    /// The newest version.
    pub fn newest() -> Self {
        Self { version: None, limit: 1 }
    }
}

/// What must survive a restart: jobs, hives, the catalog of models, tenants.
///
/// Every job and hive has an owner: one life of one queen, named by its [`Epoch`]. So two queens can share a store,
/// and an old one that comes back from the dead cannot write over a young one. The owner is alive while its lease is;
/// a store that can tell sooner that the owner's process has died need not wait for the lease to run out.
///
/// Implementations are proved by [`conformance::registry`](crate::conformance::registry) (feature `conformance`).
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Begins a life: an epoch greater than every one before, by one or a few, because hives take a step of more than
    /// 1,000 from a living owner for a mistake. Takes over the rows of every owner that is no longer alive, and those of
    /// earlier lives of the same queen, alive or not; jobs among them are [marked](JobRecord::taken_over). A life whose rows
    /// were taken over, some or none, is superseded: it can write nothing any more.
    ///
    /// A job that is taken over while it runs has one more of its [`restarts`](JobRecord::restarts).
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot>;

    /// Writes all changes, in order, or none. When it returns they survive the death of this process. Without changes it
    /// shows whether this life may write, and whether the store can.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if a job or hive that is named belongs to another owner,
    /// or this life was superseded. [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the store fails: the queen
    /// admits no jobs then, and hands the same changes in again until they are taken. The error's
    /// [`retry_after`](crate::Error::retry_after) is set if the cause may pass by itself (a full disk, a lock). Any
    /// other kind refuses these changes for good. Nothing is written in any of these cases.
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()>;

    /// Keeps the ends of jobs that [`record`](Self::record) cannot write because the store fails, where they survive the
    /// death of this process: whoever takes over those jobs finds them ended. They are recorded all the same once the
    /// store can be written; an empty list says that they are. A store that has no such place refuses, which is the
    /// default: those jobs run again if the process dies meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if there is no such place,
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if it has no room or fails. None of them is kept then.
    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> Result<()> {
        let _ = (epoch, ends);
        let message = "this store cannot keep ends of jobs while it fails";
        Err(crate::error::Error::new(crate::error::ErrorKind::Unsupported, message))
    }

    /// A sign of life; to be given at a third of the lease. Answers with what was taken over meanwhile from owners
    /// that are no longer alive, and with all tenants, whoever has changed them.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) where this life was superseded.
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot>;

    /// Ends this life in good order: another queen may take over all its rows at once. Jobs that run are queued again, and
    /// the attempt under way does not count. Idempotent.
    async fn release(&self, epoch: Epoch) -> Result<()>;

    /// Lists jobs, of every owner, the newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>>;

    /// Lists versions of the policy, the newest last. One that is not kept is not listed.
    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>>;
}

/// A shared registry is a registry.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Registry + ?Sized> Registry for Arc<R> {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        (**self).open(queen, lease).await
    }
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        (**self).record(epoch, changes).await
    }
    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> Result<()> {
        (**self).keep_ends(epoch, ends).await
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
    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        (**self).policies(filter).await
    }
}
