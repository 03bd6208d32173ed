//! What a store keeps: a row each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
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

/// One token of an answer, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenChunk {
    /// Its id in the model's vocabulary, where the engine tells.
    pub id: Option<u32>,
    /// The text that it completes.
    pub text: Box<str>,
}

/// What stays of a request when its text is gone: enough to [replay](crate::sim::Replay) the job, and not a word of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Attempts begun that count, with the one under way.
    pub attempts: u32,
    /// How often in a row it was taken over while it ran, without more of its answer recorded in between.
    pub restarts: u32,
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
    /// The [numerics](crate::WorkerInfo::numerics) of the worker that gave the first chunks.
    pub numerics: Option<Arc<str>>,
    /// What is recorded of its answer so far.
    pub chunks: Vec<TokenChunk>,
    /// The vectors of its answer, if it is one of vectors and is kept.
    pub vectors: Option<Arc<Vec<Vec<f32>>>>,
    /// The job has ended, and its answer is stored whole: the chunks and the vectors are all there are.
    pub output_kept: bool,
    /// A queen has taken the job over from an earlier life while it was live. Readers may have seen more of its answer then
    /// than is recorded.
    pub taken_over: bool,
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
            restarts: 0,
            correlation_id: job.correlation_id.clone(),
            idempotency: job.idempotency.clone(),
            owner,
            request: Some(job),
            outline: None,
            numerics: None,
            chunks: Vec::new(),
            vectors: None,
            output_kept: false,
            taken_over: false,
            tokens_generated: 0,
        }
    }

    /// Is the whole answer here? For a record that was listed with its text.
    ///
    /// Records of older versions do not say whether the answer was kept; there the number of its tokens tells.
    pub fn has_whole_output(&self) -> bool {
        let is_embedding = self.outline.as_ref().is_some_and(|outline| outline.embed);
        let is_complete = self.status.state() == JobState::Complete;
        self.output_kept
            || (self.chunks.len() >= self.tokens_generated as usize
                && (!is_embedding || !is_complete || self.vectors.is_some()))
    }
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What its owner says of it: see [`HiveView::labels`](crate::cluster::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

/// A model on the disk of a hive, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its name.
    pub id: TenantId,
    /// What it may use.
    pub limits: TenantLimits,
    /// Its keys.
    pub keys: Vec<ApiKey>,
    /// Tokens used on the day of the snapshot. The store counts them itself, with every
    /// [`Change::JobEnded`](super::Change::JobEnded); a [`Change::TenantPut`](super::Change::TenantPut) does not change them.
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
            let usage = Usage { prompt_tokens: 1, completion_tokens: tokens };
            let outcome = Outcome::Complete { finish: Finish::Stop, usage };
            record.status = LiveJob::queued().ended(outcome, WallTime::default()).into();
            record.chunks = vec![TokenChunk { id: None, text: "x".into() }; chunks];
            record.outline = Some(JobOutline { embed, ..JobOutline::default() });
            (record.output_kept, record.tokens_generated) = (output_kept, tokens);
            record
        };
        assert!(record(false, 3, 3, false).has_whole_output());
        assert!(!record(false, 0, 3, false).has_whole_output());
        assert!(
            record(true, 2, 3, false).has_whole_output(),
            "engines may count more than they give"
        );
        assert!(!record(false, 0, 0, true).has_whole_output(), "the vectors were not kept");
        assert!(record(true, 0, 0, true).has_whole_output());
        let mut failed = record(false, 0, 0, true);
        failed.status = LiveJob::queued().ended(Outcome::Cancelled, WallTime::default()).into();
        assert!(failed.has_whole_output(), "there were no vectors to be kept");
    }
}
