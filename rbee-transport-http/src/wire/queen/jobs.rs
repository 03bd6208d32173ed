//! Jobs: how they are submitted, listed and described.

use rbee_core::{HiveId, JobId, Priority, WorkerId};
use serde::{Deserialize, Serialize};

use crate::wire::{ErrorInfo, ProgressBody};

/// Events of a job. `started`, `token`, `vectors`, `end` and `error` carry their position as SSE id.
pub mod job_event {
    /// A [`Started`](super::Started).
    pub const STARTED: &str = "started";
    /// A [`Token`](crate::wire::worker::Token).
    pub const TOKEN: &str = "token";
    /// A list of vectors: `[[f32]]`.
    pub const VECTORS: &str = "vectors";
    /// A [`Metrics`](super::Metrics); it has no position.
    pub const METRICS: &str = "metrics";
    /// An [`End`](crate::wire::worker::End). Nothing follows.
    pub const END: &str = "end";
    /// An [`ErrorInfo`](crate::wire::ErrorInfo). Nothing follows.
    pub const ERROR: &str = "error";
}

/// A job to run without a reader. The other fields are OpenAI's of a chat (`messages`), a completion (`prompt`) or
/// vectors (`input`); `stream` and its options are not allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobRequest {
    /// Interactive, the default, or batch.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<PriorityName>))]
    pub priority: Priority,
    /// How long the job may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long the job may take in total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// `model`, `messages` and the others.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub request: serde_json::Map<String, serde_json::Value>,
}

/// The priority of a job.
#[cfg(feature = "openapi")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PriorityName {
    /// A person waits for it.
    Interactive,
    /// Nobody waits for it.
    Batch,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct JobQuery {
    /// Only in these states: names separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The most jobs to list: 1 to 1,000; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the previous page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub before: Option<JobId>,
}

/// A page of jobs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList {
    /// The jobs.
    pub data: Vec<JobView>,
    /// `before` of the next page: the last job of this one; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub next: Option<JobId>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: JobId,
    /// The model.
    pub model: String,
    /// `queued`, `running`, `complete`, `failed` or `cancelled`.
    pub state: String,
    /// `interactive` or `batch`.
    pub priority: String,
    /// How many jobs are before it in its queue, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The load of its model that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// Its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The worker that runs it, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub worker: Option<WorkerId>,
    /// When it was submitted.
    pub submitted_at_ms: u64,
    /// When it first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at_ms: Option<u64>,
    /// Attempts begun, except those that ended through no fault of the job.
    pub attempts: u32,
    /// Tokens of its answer.
    pub tokens: u32,
    /// The text of its answer, as far as it is recorded; only if one job is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// The id by which it is found in every log.
    pub correlation_id: String,
}

/// A model that is being downloaded or loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Loading {
    /// `downloading` or `loading`.
    pub state: String,
    /// The hive; hidden from tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// The progress.
    pub progress: ProgressBody,
}

/// The first event of a job: a worker began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Started {
    /// The job.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub job: JobId,
    /// The worker, if it is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub worker: Option<WorkerId>,
    /// How long the job had waited.
    pub queue_ms: u64,
}

/// The measurements of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How long the prompt took to compute.
    pub prefill_ms: f64,
    /// Tokens among them that were not computed, because the worker had them cached; if its engine reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
}
