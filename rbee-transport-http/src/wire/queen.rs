//! What a queen is asked and answers on her own routes; OpenAI's are in OpenAI's words.
//!
//! Times are milliseconds: of the Unix epoch where the name ends in `_at_ms`, spans otherwise.

use serde::{Deserialize, Serialize};

mod catalog;
mod fleet;
mod jobs;
mod operation;

pub use catalog::{CatalogEntry, ModelDetails, ModelQuery, Pull, PullProgress, Pulled, pull_event};
pub use fleet::{AddHive, HiveView, SpawnWorker, WorkerView};
#[cfg(feature = "openapi")]
pub use jobs::PriorityName;
pub use jobs::{JobList, JobQuery, JobRequest, JobView, Loading, Metrics, Started, job_event};
pub use operation::{Check, Doctor, LogLine, LogQuery, Verdict, log_event};

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

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Listing<T> {
    /// What is in it.
    pub data: Vec<T>,
}

/// How the queen is: `200` if it is usable, `503` while it accepts no jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, `store_failed` while the store cannot be written and no job is accepted, or `draining` once the queen goes
    /// down.
    pub status: String,
    /// What the operator alone is told, in the same object.
    #[serde(flatten)]
    pub details: Option<HealthDetails>,
}

/// How the queen is, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthDetails {
    /// For how long the store cannot be written; none while it can. `GET /v1/doctor` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_failed_ms: Option<u64>,
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
