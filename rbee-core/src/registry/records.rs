//! The records of a store: one per row.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    answer::AnswerFormat,
    event::Logprobs,
    hive_address::HiveAddress,
    id::{CorrelationId, Epoch, HiveId, JobId, TenantId, WorkerId},
    idempotency::Idempotency,
    job::{Job, JobState, JobStatus, LiveJob},
    model_ref::ModelRef,
    policy_source::PolicySource,
    prefix,
    priority::Priority,
    task::Task,
    tenant::{ApiKey, TenantLimits},
    time::WallTime,
};

/// One stored token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenChunk {
    /// Its id in the model's vocabulary, if the engine reports it.
    pub id: Option<u32>,
    /// The text that it completes.
    pub text: Box<str>,
    /// Its log probabilities, if the job asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Box<Logprobs>>,
}

/// The part of a request that stays when its text is erased: enough to [replay](crate::sim::Replay) the job, without
/// any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOutline {
    /// True if it asked for vectors.
    pub embed: bool,
    /// True if it asked for the scores of documents. If this and `embed` are false, it asked for text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rerank: bool,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// The deadline for everything, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Keys of the prompt's prefixes, shortest first. They are hashed with a secret: they show which prompts of one run
    /// of a queen had the same beginning, and nothing about the content.
    pub prefix: Arc<[u64]>,
}

impl JobOutline {
    /// The outline of a job, with the keys of its prefixes hashed with a secret that is not stored.
    pub(crate) fn of(job: &Job, secret: u64) -> Self {
        let max_tokens = match &job.task {
            Task::Generate { sampling, .. } => sampling.max_tokens,
            Task::Embed { .. } | Task::Rerank { .. } => None,
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            embed: matches!(job.task, Task::Embed { .. }),
            rerank: matches!(job.task, Task::Rerank { .. }),
            max_tokens,
            deadline_ms: job.deadline.map(millis),
            prefix: prefix::veiled(&job.prefix, secret),
        }
    }
}

/// A stored job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name.
    pub id: JobId,
    /// Its tenant.
    pub tenant: Option<TenantId>,
    /// The model.
    pub model: ModelRef,
    /// Its priority.
    pub priority: Priority,
    /// Its progress.
    pub status: JobStatus,
    /// Its position in the queue: lower goes first.
    pub order: u64,
    /// When it was submitted.
    pub submitted_at: WallTime,
    /// Begun attempts that count, including the current one.
    pub attempts: u32,
    /// How often in a row it was taken over while it ran, without more of its answer recorded between the takeovers.
    pub restarts: u32,
    /// The identifier of the request in every log.
    pub correlation_id: CorrelationId,
    /// Its idempotency key, if it was submitted with one.
    pub idempotency: Option<Arc<Idempotency>>,
    /// The run of a queen that owns it.
    pub owner: Epoch,
    /// Everything needed to run it; `None` if it is not kept, or was erased.
    pub request: Option<Arc<Job>>,
    /// The part of the request that is always kept; `None` if an older version recorded the job.
    pub outline: Option<JobOutline>,
    /// The [numerics](crate::WorkerInfo::numerics) of the worker that generated the first token chunks.
    pub numerics: Option<Arc<str>>,
    /// The syntax of the answer.
    #[serde(default)]
    pub format: AnswerFormat,
    /// The recorded part of its answer.
    pub chunks: Vec<TokenChunk>,
    /// The vectors of its answer, or one of scores, if it has them and they are kept.
    pub vectors: Option<Arc<Vec<Vec<f32>>>>,
    /// True if the job has ended and its whole answer is stored: all token chunks and all vectors.
    pub output_kept: bool,
    /// True if a queen took the job over from a previous run while it was live. Readers may have seen more of its
    /// answer then than is recorded.
    pub taken_over: bool,
    /// Tokens of the answer: the recorded ones while the job is live, all of them once it has ended.
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
            restarts: 0,
            correlation_id: job.correlation_id.clone(),
            idempotency: job.idempotency.clone(),
            owner,
            request: Some(job),
            outline: None,
            numerics: None,
            format: AnswerFormat::default(),
            chunks: Vec::new(),
            vectors: None,
            output_kept: false,
            taken_over: false,
            tokens_generated: 0,
        }
    }

    /// True if the record contains the whole answer. For a record that was listed with its text.
    ///
    /// Records of older versions do not store whether the answer was kept; for them the number of tokens decides.
    pub fn has_whole_output(&self) -> bool {
        let has_vectors =
            self.outline.as_ref().is_some_and(|outline| outline.embed || outline.rerank);
        let is_complete = self.status.state() == JobState::Complete;
        self.output_kept
            || (self.chunks.len() >= self.tokens_generated as usize
                && (!has_vectors || !is_complete || self.vectors.is_some()))
    }
}

/// The reachability of a hive.
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
    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Error => "error",
        }
    }
}

/// A stored hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveRecord {
    /// Its name.
    pub id: HiveId,
    /// The host name of the machine.
    pub hostname: String,
    /// The port of its HTTP API; 0 if it has none, as for a hive in this process.
    pub port: u16,
    /// Its address.
    pub address: HiveAddress,
    /// Devices, backends and models, as JSON.
    pub capabilities: serde_json::Value,
    /// The time of its last answer.
    pub last_seen: WallTime,
    /// Its reachability.
    pub status: HiveStatus,
    /// The labels set by its owner: see [`HiveView::labels`](crate::cluster::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

/// A stored entry of a model on the disk of a hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The hive.
    pub hive: HiveId,
    /// The model.
    pub model: ModelRef,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The SHA-256 of its files, in lower-case hexadecimal, if known.
    pub checksum: Option<String>,
    /// The time at which a worker last loaded it.
    pub last_used: WallTime,
}

/// Flags of a running worker that survive a restart of the queen and an outage of its hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The worker.
    pub worker: WorkerId,
    /// Its hive.
    pub hive: HiveId,
    /// True if an operator has pinned it: it is never evicted.
    pub pinned: bool,
    /// True if it was started in addition to others of its model; it is stopped again when the others suffice.
    pub replica: bool,
}

impl WorkerRecord {
    /// A worker without flags.
    pub fn new(worker: WorkerId, hive: HiveId) -> Self {
        Self { worker, hive, pinned: false, replica: false }
    }

    /// True if no flag is set, so that nothing needs to be stored.
    pub fn says_nothing(&self) -> bool {
        !self.pinned && !self.replica
    }
}

/// A stored tenant: limits, keys and usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its name.
    pub id: TenantId,
    /// Its limits.
    pub limits: TenantLimits,
    /// Its keys.
    pub keys: Vec<ApiKey>,
    /// Tokens used on the day of the snapshot. The store counts them itself, with every
    /// [`Change::JobEnded`](super::Change::JobEnded); a [`Change::TenantPut`](super::Change::TenantPut) does not change
    /// them.
    pub used_tokens: u64,
}

/// A stored version of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its number: 1 more than that of the previous version.
    pub version: u64,
    /// The time at which it became active.
    pub at: WallTime,
    /// The SHA-256 of its text, in lower-case hexadecimal.
    pub hash: String,
    /// Its origin.
    pub origin: PolicyOrigin,
    /// The text; empty for a [reset](PolicyOrigin::Reset).
    pub source: PolicySource,
}

/// The origin of a version of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyOrigin {
    /// Set by the application, in its code or its configuration.
    Application,
    /// Set by an operator while the queen ran.
    Operator,
    /// A previous version was activated again.
    Rollback,
    /// The application's default was activated again: its own policy, or the built-in one if it has none.
    Reset,
}

impl PolicyOrigin {
    /// All origins.
    pub const ALL: [Self; 4] = [Self::Application, Self::Operator, Self::Rollback, Self::Reset];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Operator => "operator",
            Self::Rollback => "rollback",
            Self::Reset => "reset",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Finish, Outcome, Usage},
        settings::Settings,
        sim::JobSketch,
    };

    #[test]
    fn an_answer_is_whole_where_it_was_kept_or_where_an_older_record_has_all_of_it() {
        let job = |detached| {
            let sketch = JobSketch::new("m".parse().unwrap());
            Job { detached, ..sketch.job(&Settings::default(), 1).unwrap() }
        };
        let record = |output_kept, chunks, tokens, embed| {
            let mut record =
                JobRecord::queued(Arc::new(job(true)), 1, WallTime::default(), Epoch(1));
            let usage = Usage { prompt_tokens: 1, completion_tokens: tokens, ..Usage::default() };
            let outcome = Outcome::Complete { finish: Finish::Stop, usage, stop_text: None };
            record.status = LiveJob::queued().ended(outcome, WallTime::default()).into();
            record.chunks = vec![TokenChunk { id: None, text: "x".into(), logprobs: None }; chunks];
            record.outline = Some(JobOutline { embed, ..JobOutline::default() });
            (record.output_kept, record.tokens_generated) = (output_kept, tokens);
            record
        };
        assert!(record(false, 3, 3, false).has_whole_output());
        assert!(!record(false, 0, 3, false).has_whole_output());
        assert!(
            record(true, 2, 3, false).has_whole_output(),
            "engines may count more tokens than they return"
        );
        assert!(!record(false, 0, 0, true).has_whole_output(), "the vectors were not kept");
        assert!(record(true, 0, 0, true).has_whole_output());
        let mut failed = record(false, 0, 0, true);
        failed.status = LiveJob::queued().ended(Outcome::Cancelled, WallTime::default()).into();
        assert!(failed.has_whole_output(), "there were no vectors to be kept");
    }
}
