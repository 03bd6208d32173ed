//! The [`Registry`] trait: the store of the state that survives a restart.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    answer::AnswerFormat,
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

/// The number of policy versions that a store keeps: the newest ones.
pub const POLICIES_KEPT: u64 = 100;

/// One write. The store writes a list of them together or not at all, in order.
///
/// A change to a job or hive that the store does not know is ignored: it may have been removed in the meantime.
///
/// The list of changes is deliberately complete, and not `non_exhaustive`: a store that ignored an unknown change would
/// lose it. A new kind of change must break every store until the store writes that kind too.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A job was accepted. Its owner becomes the owner that records it. A job with an id that is stored already stays
    /// as it is, so that a repeated record does no harm.
    JobQueued(Box<JobRecord>),
    /// An attempt begins.
    JobRunning {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// 1 for the first.
        attempt: u32,
        /// The time.
        at: WallTime,
        /// The numerics of the worker. They replace the stored ones only while no token chunk is stored.
        numerics: Arc<str>,
        /// The syntax of the worker's answers. It replaces the stored one together with the numerics.
        format: AnswerFormat,
    },
    /// The attempt is over, and the job waits for another.
    JobRequeued {
        /// The job.
        job: JobId,
        /// The number of begun attempts that count: see [`ErrorKind::costs_a_try`](crate::ErrorKind::costs_a_try).
        attempts: u32,
    },
    /// A part of the answer; it sets [`JobRecord::restarts`] to 0. Written only if exactly `at` token chunks are
    /// stored, and otherwise ignored, so that a late or repeated one does no harm.
    JobTokens {
        /// The job.
        job: JobId,
        /// The number of token chunks before these.
        at: u32,
        /// The token chunks.
        chunks: Vec<TokenChunk>,
    },
    /// The vectors of an answer. They replace the stored ones; a job that has ended stays as it is.
    JobVectors {
        /// The job.
        job: JobId,
        /// One for each input.
        vectors: Arc<Vec<Vec<f32>>>,
    },
    /// The job ended. A job that has ended already keeps its first end.
    JobEnded {
        /// The job.
        job: JobId,
        /// Its result.
        outcome: Outcome,
        /// The time.
        at: WallTime,
        /// Tokens that its tenant used for it. They are added to the tenant's usage of that day (UTC).
        used_tokens: u64,
        /// True if the text of the request stays.
        keep_request: bool,
        /// True if the answer stays: its token chunks and its vectors. They are complete then, because missing ones are
        /// written before the end, and [`JobRecord::output_kept`] is set.
        keep_output: bool,
    },
    /// The texts of a job that has ended are erased: its request and its answer. The rest of the record stays. Any run
    /// may write it, not only the owner of the job; a live job stays as it is.
    JobErased {
        /// The job.
        job: JobId,
    },
    /// A hive was added or has changed. Its owner becomes the owner that records it.
    HivePut(Box<HiveRecord>),
    /// A hive was removed, together with its models and the records of its workers.
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
    /// The record of a worker is new or has changed.
    WorkerPut(WorkerRecord),
    /// The record of a worker is no longer needed: the worker is gone, or has no special state.
    WorkerGone {
        /// Its hive.
        hive: HiveId,
        /// The worker.
        worker: WorkerId,
    },
    /// A tenant was added, or its limits or keys have changed.
    TenantPut(TenantRecord),
    /// A tenant was removed. Its usage of today is kept, in case it is added again.
    TenantGone(TenantId),
    /// A version of the policy became active; the oldest versions beyond [`POLICIES_KEPT`] are dropped. A version that
    /// is stored already stays as it is.
    PolicyPut(Box<PolicyRecord>),
}

/// The state that a queen gets from the store when it opens the store, or takes over rows later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The epoch of this ownership.
    pub epoch: Epoch,
    /// Live jobs that this queen now owns, in the order of the queue, with request and token chunks.
    pub jobs: Vec<JobRecord>,
    /// Hives that this queen now owns.
    pub hives: Vec<HiveRecord>,
    /// Models on those hives.
    pub models: Vec<ModelRecord>,
    /// Records of workers on those hives.
    pub workers: Vec<WorkerRecord>,
    /// All tenants.
    pub tenants: Vec<TenantRecord>,
}

/// The filter of a job listing. The default selects the newest 100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFilter {
    /// Only this job.
    pub id: Option<JobId>,
    /// Only jobs of this tenant.
    pub tenant: Option<TenantId>,
    /// Only jobs in one of these states; all states if empty.
    pub states: Vec<JobState>,
    /// Only jobs older than the job of this [order](JobRecord::order): the last one of the previous page.
    pub before: Option<u64>,
    /// The most jobs to list; 1 to 1,000.
    pub limit: usize,
    /// Include the request and the answer, with its token chunks and vectors. Otherwise they are empty; the outline is
    /// always included.
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
    /// One job, with everything that is stored about it.
    pub fn one(id: JobId) -> Self {
        Self { id: Some(id), limit: 1, with_text: true, ..Self::default() }
    }
}

/// The filter of a policy listing. The default selects all stored versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFilter {
    /// Only this version.
    pub version: Option<u64>,
    /// The most versions to list: the newest.
    pub limit: u64,
}

impl Default for PolicyFilter {
    fn default() -> Self {
        Self { version: None, limit: POLICIES_KEPT }
    }
}

impl PolicyFilter {
    /// The version with this number.
    pub fn one(version: u64) -> Self {
        Self { version: Some(version), limit: 1 }
    }

    /// The newest version.
    pub fn newest() -> Self {
        Self { version: None, limit: 1 }
    }
}

/// The store of the state that survives a restart: jobs, hives, the model catalog, tenants.
///
/// Every job and hive has an owner: one run of one queen, named by its [`Epoch`]. So two queens can share a store, and
/// an old run that resumes after a pause cannot overwrite the rows of a newer one. The owner is alive while its lease
/// is valid; a store that can detect earlier that the owner's process has died need not wait for the lease to expire.
///
/// Test implementations with [`conformance::registry`](crate::conformance::registry) (feature `conformance`).
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Opens the store for a new run of a queen: its epoch is greater than every previous one, by a small step, because
    /// hives reject a step of more than 1,000 from a living owner as a mistake. Takes over the rows of every owner that
    /// is no longer alive, and those of previous runs of the same queen, alive or not; jobs among them are
    /// [marked](JobRecord::taken_over). A run whose rows were taken over, even if it had none, is superseded: it can
    /// write nothing any more.
    ///
    /// Increases [`restarts`](JobRecord::restarts) of a job that is taken over while it runs.
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot>;

    /// Writes all changes, in order, or none. When it returns, they survive the death of this process. Without changes
    /// it checks that this run may write, and that the store works.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if a job or hive in the changes belongs to another owner, or if
    /// this run was superseded. [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the store fails: the queen then
    /// admits no jobs, and submits the same changes again until they are accepted. The error's
    /// [`retry_after`](crate::Error::retry_after) is set if the cause may go away (a full disk, a lock). Any other kind
    /// refuses these changes permanently. Nothing is written in any of these cases.
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()>;

    /// Keeps the ends of jobs that [`record`](Self::record) cannot write because the store fails, in a place where they
    /// survive the death of this process: the queen that takes over those jobs finds them ended. They are still
    /// recorded once the store can be written; an empty list reports that they are. A store without such a place
    /// refuses, which is the default: those jobs run again if the process dies in the meantime.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if there is no such place,
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if it has no free space or fails. None of the ends is kept
    /// then.
    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> Result<()> {
        let _ = (epoch, ends);
        let message = "this store cannot keep ends of jobs while it fails";
        Err(crate::error::Error::new(crate::error::ErrorKind::Unsupported, message))
    }

    /// The heartbeat of the owner; call it every third of the lease. Returns the rows that were taken over since then
    /// from owners that are no longer alive, and all tenants, no matter which queen changed them.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if this run was superseded.
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot>;

    /// Ends this run cleanly: another queen may take over all its rows at once. Running jobs are queued again, and the
    /// current attempt does not count. Idempotent.
    async fn release(&self, epoch: Epoch) -> Result<()>;

    /// Lists jobs, of every owner, the newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>>;

    /// Lists versions of the policy, the newest last. A version that is not stored is not listed.
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
