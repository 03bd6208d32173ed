//! What a queen is asked and answers on her own routes; OpenAI's are in OpenAI's words.
//!
//! Times are milliseconds: of the Unix epoch where the name ends in `_at_ms`, spans otherwise.

use std::collections::BTreeMap;

use rbee_core::{Device, HiveId, JobId, MemoryEstimate, ModelInfo, Priority, WorkerId};
use serde::{Deserialize, Serialize};

use super::{ErrorInfo, ProgressBody};

/// `GET`: the models that can be asked for, as OpenAI's clients expect them.
pub const MODELS: &str = "/v1/models";
/// `POST`: a conversation, OpenAI's body.
pub const CHAT: &str = "/v1/chat/completions";
/// `POST`: bare text, OpenAI's body.
pub const COMPLETIONS: &str = "/v1/completions";
/// `POST`: vectors, OpenAI's body.
pub const EMBEDDINGS: &str = "/v1/embeddings";
/// `GET` ([`JobQuery`]) lists jobs ([`JobList`]); `POST` ([`JobRequest`]) submits a detached one (202, [`JobView`]).
pub const JOBS: &str = "/v1/jobs";
/// `GET`: one job ([`JobView`]); `DELETE`: cancel it.
pub const JOB: &str = "/v1/jobs/{id}";
/// `GET`: its events, as a stream of [`job_event`]s; `Last-Event-ID` resumes.
pub const JOB_EVENTS: &str = "/v1/jobs/{id}/events";
/// `GET` lists hives ([`Listing`] of [`HiveView`]), `POST` ([`AddHive`]) adds one.
pub const HIVES: &str = "/v1/hives";
/// `GET`: one hive ([`HiveView`]); `DELETE`: stop it and take it out of the fleet.
pub const HIVE: &str = "/v1/hives/{id}";
/// `POST`: start a hive that was stopped.
pub const HIVE_START: &str = "/v1/hives/{id}/start";
/// `POST`: stop a hive with its workers; it stays in the list.
pub const HIVE_STOP: &str = "/v1/hives/{id}/stop";
/// `POST`: stop a hive's workers as soon as their runs have ended.
pub const HIVE_DRAIN: &str = "/v1/hives/{id}/drain";
/// `GET` lists workers ([`Listing`] of [`WorkerView`]), `POST` ([`SpawnWorker`]) starts one (202, [`WorkerView`]).
pub const WORKERS: &str = "/v1/workers";
/// `GET`: one worker ([`WorkerView`]); `DELETE`: stop it as soon as its runs have ended.
pub const WORKER: &str = "/v1/workers/{id}";
/// `PUT`: never evict it; `DELETE`: it may be evicted again.
pub const WORKER_PIN: &str = "/v1/workers/{id}/pin";
/// `GET` lists models ([`Listing`] of [`CatalogEntry`]).
pub const CATALOG: &str = "/v1/catalog";
/// `POST` ([`Pull`]): put a model on a hive's disk, answered with a stream of [`pull_event`]s.
pub const CATALOG_PULL: &str = "/v1/catalog/pull";
/// `GET` ([`ModelQuery`]): one model; `DELETE` ([`ModelQuery`]): remove it from the disks.
pub const CATALOG_MODEL: &str = "/v1/catalog/model";
/// `GET` ([`LogQuery`]): the queen's last log lines ([`Listing`] of [`LogLine`]), or a stream of them.
pub const LOGS: &str = "/v1/logs";
/// `GET`: what the queen finds when she examines everything ([`Doctor`]).
pub const DOCTOR: &str = "/v1/doctor";
/// `GET`: the description of these routes.
pub const OPENAPI: &str = "/openapi.json";

/// Events of a job. `started`, `token`, `vectors`, `end` and `error` carry their position as SSE id.
pub mod job_event {
    /// A [`Started`](super::Started).
    pub const STARTED: &str = "started";
    /// A [`Token`](super::super::worker::Token).
    pub const TOKEN: &str = "token";
    /// A list of vectors: `[[f32]]`.
    pub const VECTORS: &str = "vectors";
    /// A [`Metrics`](super::Metrics); it has no position.
    pub const METRICS: &str = "metrics";
    /// An [`End`](super::super::worker::End). Nothing follows.
    pub const END: &str = "end";
    /// An [`ErrorInfo`](super::ErrorInfo). Nothing follows.
    pub const ERROR: &str = "error";
}

/// Events of a pull: `progress`*, then `done` or `error`.
pub mod pull_event {
    /// A [`PullProgress`](super::PullProgress).
    pub const PROGRESS: &str = "progress";
    /// A [`Pulled`](super::Pulled).
    pub const DONE: &str = "done";
    /// An [`ErrorInfo`](super::ErrorInfo).
    pub const ERROR: &str = "error";
}

/// Events of the log.
pub mod log_event {
    /// A [`LogLine`](super::LogLine).
    pub const LINE: &str = "line";
}

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Listing<T> {
    /// What is in it.
    pub data: Vec<T>,
}

/// How the queen is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, or `draining` once she goes down.
    pub status: String,
    /// Her name.
    pub queen: String,
    /// The version of her program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// How long she has been up.
    pub uptime_ms: u64,
    /// Jobs that wait.
    pub jobs_waiting: u64,
    /// Jobs that run.
    pub jobs_running: u64,
    /// Hives that answer.
    pub hives_online: u64,
    /// Workers that take jobs.
    pub workers_ready: u64,
}

/// A job to be run without a reader. The fields beside these are OpenAI's of a chat (`messages`), a completion
/// (`prompt`) or vectors (`input`); `stream` and what concerns it are not among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JobRequest {
    /// Interactive, the default, or batch.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Option<PriorityName>))]
    pub priority: Priority,
    /// How long it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long everything may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// `model`, `messages` and the others.
    #[serde(flatten)]
    #[cfg_attr(feature = "server", schema(value_type = Object))]
    pub request: serde_json::Map<String, serde_json::Value>,
}

/// Which jobs go first.
#[cfg(feature = "server")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PriorityName {
    /// Somebody is waiting.
    Interactive,
    /// Nobody is waiting.
    Batch,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct JobQuery {
    /// In one of these states: names with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At most so many; 1 to 1,000, 100 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// A page of jobs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JobList {
    /// The jobs.
    pub data: Vec<JobView>,
    /// `before` of the next page; none where this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Its name.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: JobId,
    /// The model.
    pub model: String,
    /// `queued`, `running`, `complete`, `failed` or `cancelled`.
    pub state: String,
    /// `interactive` or `batch`.
    pub priority: String,
    /// How many go before it in its queue, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The load of its model that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The worker that is or was last at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub worker: Option<WorkerId>,
    /// When it was submitted.
    pub submitted_at_ms: u64,
    /// When it first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at_ms: Option<u64>,
    /// Attempts begun.
    pub attempts: u32,
    /// Tokens of its answer.
    pub tokens: u32,
    /// The text of its answer, as far as it is recorded; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// The mark it carries through every log.
    pub correlation_id: String,
}

/// A model on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Loading {
    /// `downloading` or `loading`.
    pub state: String,
    /// Where; tenants are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// How far it has come.
    pub progress: ProgressBody,
}

/// The first event of a job: a worker began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Started {
    /// The job.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub job: JobId,
    /// The worker, where it is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub worker: Option<WorkerId>,
    /// How long the job had waited.
    pub queue_ms: u64,
}

/// What a worker measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How long the prompt took to compute.
    pub prefill_ms: f64,
}

/// A machine to be added: one whose `rbee-hive` runs already and is reached over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AddHive {
    /// Where its daemon listens: `http://192.168.1.7:7835`.
    pub url: String,
    /// The token it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub token: Option<crate::Token>,

    /// What its owner says of it, for the policy to know: `region`, `cost`, `power` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A hive, as the queen sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct HiveView {
    /// Its name.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: HiveId,
    /// `online`, `offline` or `error`.
    pub status: String,
    /// How it is reached: `in process`, `http://host:port`, `ssh user@host`.
    pub address: String,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<u64>,
    /// Why it is not usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// What models can be loaded on.
    #[cfg_attr(feature = "server", schema(value_type = Vec<Object>))]
    pub devices: Vec<Device>,
    /// Memory that its workers may take together, in bytes; absent where they may fill its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<u64>,
    /// Memory that its workers take together, in bytes.
    #[serde(default)]
    pub memory_taken: u64,
    /// The models on its disk, with their sizes in bytes.
    pub models: BTreeMap<String, u64>,
    /// How many workers it has.
    pub workers: usize,
    /// It takes no workers, until it is started again.
    #[serde(default)]
    pub draining: bool,
    /// What its owner says of it, for the policy to know: `region`, `cost`, `power` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A worker to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpawnWorker {
    /// The model, a reference or an alias.
    pub model: String,
    /// Where; the scheduler chooses where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// The devices, by index; the scheduler chooses where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Runs it shall do at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Never evict it.
    #[serde(default)]
    pub pin: bool,
}

/// A worker, as the queen sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// Its name.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub id: WorkerId,
    /// Its hive.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub hive: HiveId,
    /// Its model.
    pub model: String,
    /// `loading`, `idle`, `busy`, `draining` or `failed`.
    pub state: String,
    /// How far its load has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressBody>,
    /// The engine.
    pub backend: String,
    /// The devices it runs on, by index.
    pub devices: Vec<u32>,
    /// Where it listens; none for one inside the queen's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Runs it can do at once.
    pub slots: u32,
    /// Runs it could begin now.
    pub slots_available: u32,
    /// Memory it takes, in bytes.
    pub memory_bytes: u64,
    /// How long ago a slot of it was last given out or back.
    pub idle_ms: u64,
    /// It is never evicted.
    pub pinned: bool,
    /// Its hive answers.
    pub reachable: bool,
}

/// A model that the queen knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CatalogEntry {
    /// The name to ask for it by: an alias where there is one.
    pub name: String,
    /// Its reference.
    pub model: String,
    /// `unloaded`, `downloading`, `loading`, `loaded` or `failed`.
    pub state: String,
    /// Its size on disk, in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The hives that have it on their disk.
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub hives: Vec<HiveId>,
    /// Its workers.
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub workers: Vec<WorkerId>,
    /// What its files say, where one model is asked for and a hive has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ModelDetails>,
}

/// What the files of a model say about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ModelDetails {
    /// What names its content, where it lies in a hive's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Architecture, parameters, context and the like.
    #[cfg_attr(feature = "server", schema(value_type = Object))]
    pub info: ModelInfo,
    /// The memory that a worker of one slot is expected to take at the model's own context.
    #[cfg_attr(feature = "server", schema(value_type = Object))]
    pub memory: MemoryEstimate,
}

/// Which model, and on which hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct ModelQuery {
    /// A reference or an alias.
    pub model: String,
    /// On this hive alone; on all of them where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", param(value_type = Option<String>))]
    pub hive: Option<HiveId>,
}

/// A model to be put on a hive's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// A reference or an alias.
    pub model: String,
    /// Where; on every hive that is online where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// Read what is there already again, and fetch what is damaged anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
}

/// How far a pull has come on one hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct PullProgress {
    /// Where.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub hive: HiveId,
    /// How far.
    #[serde(flatten)]
    pub progress: ProgressBody,
}

/// A pull is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Pulled {
    /// The model, with aliases resolved.
    pub model: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The hives that have it now.
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub hives: Vec<HiveId>,
    /// Files that were damaged and are whole again, where that was looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
}

/// Which log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// At most so many of the last ones; 1 to 1,000, 100 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// `error`, `warn`, `info` or `debug`: these and worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Only those of this correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Go on as a stream of server-sent events.
    #[serde(default)]
    pub follow: bool,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When.
    pub at_ms: u64,
    /// How bad.
    pub level: String,
    /// Which part of the program.
    pub target: String,
    /// What happened.
    pub message: String,
    /// What belongs to it, those of the enclosing spans included.
    pub fields: BTreeMap<String, String>,
}

/// How a check ended; the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Check {
    /// What: `queen`, `database`, `hive local`, `worker …`.
    pub subject: String,
    /// Which property: `version`, `devices`, `disk`, `port`, `answers`.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub message: String,
}

/// What the queen finds when she examines everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Doctor {
    /// The worst of all.
    pub verdict: Verdict,
    /// One after the other.
    pub checks: Vec<Check>,
}
