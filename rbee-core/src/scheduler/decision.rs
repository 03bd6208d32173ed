//! Questions to a scheduler, and its answers: plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    id::{HiveId, WorkerId},
    job::Job,
    time::Now,
    worker_spec::WorkerSpec,
};

/// A question to a scheduler, with all the time and all the randomness that it may use: the same question about the
/// same cluster has the same answer, so that a recorded run can be replayed.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The job to place.
    pub job: Arc<Job>,
    /// The present time.
    pub now: Now,
    /// 64 random bits.
    pub random: u64,
    /// How long ago the job was submitted, previous runs of the queen included.
    pub waited: Duration,
    /// Attempts made so far.
    pub attempts: u32,
    /// Workers on which this job has failed: others are better, if there are any.
    pub avoid: Arc<BTreeSet<WorkerId>>,
    /// The [numerics](crate::WorkerInfo::numerics) that the worker must have, because the stream is to be continued.
    /// The engine refuses an answer that ignores it.
    pub must_match: Option<Arc<str>>,
    /// Hives that have refused to start a worker for this model, each with its error: they are not asked again for this
    /// job.
    pub refused: Arc<BTreeMap<HiveId, Error>>,
}

impl Ask {
    /// The first question about a new job.
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

/// The answer of a scheduler. The engine checks it against the present state and against the invariants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Placement {
    /// Run on this worker.
    Assign(WorkerId),
    /// Start a worker on that hive; the job waits for whatever is free first. If the model is not on the hive's disk,
    /// it is provisioned first, and the question comes again.
    Spawn {
        /// The hive.
        hive: HiveId,
        /// The worker to start.
        spec: WorkerSpec,
        /// Idle workers of that hive to stop first, so that there is enough memory.
        evict: Vec<WorkerId>,
    },
    /// Nothing can be done now. The question comes again when a slot is free, when the fleet changes, or with the
    /// next tick of the autoscaler.
    Wait,
    /// The job ends with this error. Its submitter reads the message only if it is one
    /// [for the client](Error::for_client).
    Reject(Error),
}

/// The outcome for one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was chosen.
    Chosen,
    /// It was suitable, but another was better.
    Eligible,
    /// It was not suitable; the reason as text.
    Refused(String),
}

/// A worker or a hive that a job could have gone to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    /// A running worker.
    Worker(WorkerId),
    /// A hive to start a worker on.
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

/// Whether a job may join the queue, and its rank there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Admission {
    /// It may.
    Accept {
        /// Its rank among the jobs of its lane: lower goes first, and of equals the one that came first. 0 if the
        /// policy has no order of its own.
        rank: i64,
    },
    /// It is refused with this error, and nothing is recorded. Its submitter reads the message only if it is one
    /// [for the client](Error::for_client).
    Refuse(Error),
}

impl Default for Admission {
    fn default() -> Self {
        Self::Accept { rank: 0 }
    }
}

/// A decision with its reasons.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision.
    pub placement: Result<Placement>,
    /// The steps of the policy, a sentence each, in order: filters with what they left, scores, choices.
    pub steps: Vec<String>,
    /// Every candidate that was considered, with its verdict.
    pub candidates: Vec<(Candidate, Verdict)>,
}
