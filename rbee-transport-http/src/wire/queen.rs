//! The requests and responses of a queen's own routes; those of OpenAI's API use OpenAI's names.
//!
//! Times are in milliseconds: of the Unix epoch if the name ends in `_at_ms`, durations otherwise.

use serde::{Deserialize, Serialize};

mod add_hive;
mod catalog;
mod fleet;
mod hive_doctor;
mod jobs;
mod operation;

pub use add_hive::{AddHive, AddSent, AddStep, StartHive, StepState, add_event};
pub use catalog::{CatalogEntry, ModelDetails, ModelQuery, Pull, PullProgress, Pulled, pull_event};
pub use fleet::{HiveView, SpawnWorker, WorkerView};
pub use hive_doctor::{
    HiveCheck, HiveDoctor, HiveLogQuery, KeptPath, RemoveHive, RemovedHive, RemovedPath,
};
#[cfg(feature = "openapi")]
pub use jobs::PriorityName;
pub use jobs::{JobList, JobQuery, JobRequest, JobView, Loading, Metrics, Started, job_event};
pub use operation::{Check, Doctor, LogLine, LogQuery, ShutdownOrder, Verdict, log_event};

/// `GET`: the available models, in OpenAI's shape.
pub const MODELS: &str = "/v1/models";
/// `POST`: a conversation, with OpenAI's body.
pub const CHAT: &str = "/v1/chat/completions";
/// `POST`: bare text, with OpenAI's body.
pub const COMPLETIONS: &str = "/v1/completions";
/// `POST`: vectors, with OpenAI's body.
pub const EMBEDDINGS: &str = "/v1/embeddings";
/// `GET` ([`JobQuery`]) lists jobs ([`JobList`]); `POST` ([`JobRequest`]) submits a detached one (202, [`JobView`]).
pub const JOBS: &str = "/v1/jobs";
/// `GET`: one job ([`JobView`]); `DELETE`: cancel it.
pub const JOB: &str = "/v1/jobs/{id}";
/// `GET`: its events, as a stream of [`job_event`]s; `Last-Event-ID` resumes.
pub const JOB_EVENTS: &str = "/v1/jobs/{id}/events";
/// `GET` lists hives ([`Listing`] of [`HiveView`]), `POST` ([`AddHive`]) adds one (201, [`HiveView`]), or responds with a
/// stream of [`add_event`]s if the client accepts one.
pub const HIVES: &str = "/v1/hives";
/// `GET`: one hive ([`HiveView`]); `DELETE` ([`RemoveHive`]): stop it and remove it from the fleet (204, or 200 with
/// [`RemovedHive`] if it was put on its machine by SSH).
pub const HIVE: &str = "/v1/hives/{id}";
/// `POST` ([`StartHive`], or no body): start a hive that was stopped (202, [`HiveView`]).
pub const HIVE_START: &str = "/v1/hives/{id}/start";
/// `POST`: stop a hive with its workers; it stays in the list.
pub const HIVE_STOP: &str = "/v1/hives/{id}/stop";
/// `POST`: stop a hive's workers as soon as their runs have ended.
pub const HIVE_DRAIN: &str = "/v1/hives/{id}/drain";
/// `GET`: the checks of a hive and its machine ([`HiveDoctor`]).
pub const HIVE_DOCTOR: &str = "/v1/hives/{id}/doctor";
/// `GET` ([`HiveLogQuery`]): the last log lines of a hive ([`Listing`] of [`LogLine`]).
pub const HIVE_LOGS: &str = "/v1/hives/{id}/logs";
/// `GET` lists workers ([`Listing`] of [`WorkerView`]), `POST` ([`SpawnWorker`]) starts one (202, [`WorkerView`]).
pub const WORKERS: &str = "/v1/workers";
/// `GET`: one worker ([`WorkerView`]); `DELETE`: stop it as soon as its runs have ended.
pub const WORKER: &str = "/v1/workers/{id}";
/// `PUT`: never evict it; `DELETE`: it may be evicted again.
pub const WORKER_PIN: &str = "/v1/workers/{id}/pin";
/// `GET` lists models ([`Listing`] of [`CatalogEntry`]).
pub const CATALOG: &str = "/v1/catalog";
/// `POST` ([`Pull`]): put a model on a hive's disk; responds with a stream of [`pull_event`]s.
pub const CATALOG_PULL: &str = "/v1/catalog/pull";
/// `GET` ([`ModelQuery`]): one model; `DELETE` ([`ModelQuery`]): remove it from the disks.
pub const CATALOG_MODEL: &str = "/v1/catalog/model";
/// `GET` ([`LogQuery`]): the queen's last log lines ([`Listing`] of [`LogLine`]), or a stream of them.
pub const LOGS: &str = "/v1/logs";
/// `GET`: the health checks of the queen and its fleet ([`Doctor`]).
pub const DOCTOR: &str = "/v1/doctor";
/// `GET`: the description of these routes.
pub const OPENAPI: &str = "/openapi.json";

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Listing<T> {
    /// The items.
    pub data: Vec<T>,
}

/// The health of the queen: `200` if it is usable, `503` while it accepts no jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`, `store_failed` while the store cannot be written and no job is accepted, or `draining` once the queen
    /// shuts down.
    pub status: String,
    /// Fields for the operator only, in the same object.
    #[serde(flatten)]
    pub details: Option<HealthDetails>,
}

/// The health of the queen, for its operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthDetails {
    /// For how long the store could not be written; absent while it can. `GET /v1/doctor` gives the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_failed_ms: Option<u64>,
    /// Its name.
    pub queen: String,
    /// The version of its program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// Waiting jobs.
    pub jobs_waiting: u64,
    /// Running jobs.
    pub jobs_running: u64,
    /// Hives that respond.
    pub hives_online: u64,
    /// Workers that take jobs.
    pub workers_ready: u64,
}
