//! Notes: what is worth a log line and a count. Nothing decides by them.

use crate::{
    error::Error,
    id::{HiveId, JobId, Ticket, WorkerId},
    model_ref::ModelRef,
};

/// An event for the log and the metrics.
#[derive(Clone, Debug)]
pub enum Note {
    /// The policy's answer no longer fitted the state.
    StaleAnswer(Ticket),
    /// The policy failed or gave an invalid answer; the built-in one decides about that job.
    PolicyFault(Error),
    /// The policy failed too often in a row: the built-in one decides everything until the policy is replaced. The
    /// error is the last fault.
    PolicySuspended(Error),
    /// The policy does not admit a job.
    RefusedByPolicy(JobId, Error),
    /// A start of a worker was asked for although enough are being started already.
    SpawnSuppressed(ModelRef),
    /// A hive answers, for the first time or again.
    HiveOnline(HiveId),
    /// A hive no longer answers.
    HiveOffline(HiveId, Error),
    /// A worker takes jobs: it was started, or found again.
    WorkerReady(WorkerId, HiveId, ModelRef),
    /// A worker that took jobs is gone.
    WorkerGone(WorkerId, HiveId, ModelRef, Error),
    /// A model's files are being fetched to a hive's disk.
    Provisioning(HiveId, ModelRef),
    /// A worker is being started.
    Spawning(WorkerId, HiveId, ModelRef),
    /// A worker could not be started.
    SpawnFailed(HiveId, ModelRef, Error),
    /// A worker is evicted.
    Evicted(WorkerId, ModelRef),
    /// A replica of a model is started, because jobs queue up.
    ScaledUp(WorkerId, HiveId, ModelRef),
    /// A replica is stopped: the other workers are enough.
    ScaledBack(WorkerId, ModelRef),
    /// A worker is stopped because it was idle for its model's keep-alive time.
    Expired(WorkerId, ModelRef),
    /// An attempt failed and the job is tried again.
    Retried(JobId, WorkerId, Error),
    /// A worker answered that all its slots were taken although one was granted.
    BusyAnswer(WorkerId),
    /// A worker may have died or hang: it gets no jobs until it is known to be healthy.
    WorkerSuspected(WorkerId, Error),
    /// A suspected or failed worker answers that it is healthy: it gets jobs again.
    WorkerTrusted(WorkerId),
    /// A worker failed too often and gets no jobs until a probe succeeds.
    WorkerFailed(WorkerId),
    /// The readers of a job got its end before it was recorded; the error says why, if known. The end is recorded once
    /// the store takes it, unless the store refused it for good.
    Unrecorded(JobId, Option<Error>),
    /// The store cannot be written.
    StoreFailed(Error),
    /// The store writes again, after this long.
    StoreBack(std::time::Duration),
}
