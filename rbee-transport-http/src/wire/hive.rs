//! The requests to a hive, and its responses.

use std::fmt;

use rbee_core::{HiveId, ModelRef, WorkerId, WorkerInfo, WorkerSpec, id::Epoch, models::Manifest};
use serde::{Deserialize, Serialize};

use super::ErrorInfo;
use crate::token::Token;

/// The variables that `rbee-hive` reads.
pub const HIVE_VARIABLES: [&str; 21] = [
    "RBEE_HIVE_CACHE_TOKENS",
    "RBEE_HIVE_CACHE_TYPE",
    "RBEE_HIVE_CONTEXT",
    "RBEE_HIVE_ENGINES",
    "RBEE_HIVE_HOST",
    "RBEE_HIVE_HUB_CACHE",
    "RBEE_HIVE_ID",
    "RBEE_HIVE_LEASE",
    "RBEE_HIVE_LOG_FORMAT",
    "RBEE_HIVE_LOG_LEVEL",
    "RBEE_HIVE_MODELS_BUDGET",
    "RBEE_HIVE_MODELS_DIR",
    "RBEE_HIVE_PORT",
    "RBEE_HIVE_STATE_DIR",
    "RBEE_HIVE_THREADS",
    "RBEE_HIVE_TLS_CERT",
    "RBEE_HIVE_TLS_KEY",
    "RBEE_HIVE_TOKEN",
    "RBEE_HIVE_TOKEN_FILE",
    "RBEE_HIVE_WORKER",
    "RBEE_HIVE_WORKER_LEASE",
];

/// `GET`: the whole state of the hive, a [`HiveReport`](rbee_core::hive::HiveReport).
pub const CAPABILITIES: &str = "/v1/capabilities";
/// `GET` lists workers, `POST` ([`Spawn`]) starts one and responds with a stream of [`spawning`] events.
pub const WORKERS: &str = "/v1/workers";
/// `GET`: the address of a worker ([`WorkerAddress`]); `DELETE` ([`Stop`] as query): stop it.
pub const WORKER: &str = "/v1/workers/{id}";
/// `GET` lists models ([`ModelOnDisk`](rbee_core::models::ModelOnDisk)), `DELETE` ([`Model`] as query) removes one.
pub const MODELS: &str = "/v1/models";
/// `POST` ([`Provision`]): put a model on the disk; responds with a stream of [`provisioning`] events.
pub const PROVISION: &str = "/v1/models/provision";
/// `POST` ([`Model`]): read a model's files again and quarantine damaged ones; responds with a stream of
/// [`provisioning`] events, of which the last is a list of [`Damage`](rbee_core::models::Damage).
pub const VERIFY: &str = "/v1/models/verify";
/// `PUT` ([`Part`] as query, with a `Content-Range`): a part of a file that the hive [wants](provisioning::WANT), of
/// the model with this manifest digest.
pub const MODEL_PART: &str = "/v1/models/{digest}";
/// `GET` ([`Model`] as query): the files of a model, a [`Manifest`].
pub const MANIFEST: &str = "/v1/models/manifest";
/// `GET` ([`Content`] as query, with an optional `Range`): the bytes of one file of a model.
pub const CONTENT: &str = "/v1/models/content";
/// `GET` ([`Owner`] as query): a stream of [`happening`] events; the first is a report. Only for the queen that holds
/// the lease on the hive ([`LEASE`](super::LEASE)); the stream ends when another queen takes it.
pub const EVENTS: &str = "/v1/events";

/// `GET` ([`HiveLogQuery`](super::queen::HiveLogQuery) as query): the last log lines of the hive, a
/// [`Listing`](super::queen::Listing) of [`LogLine`](super::queen::LogLine).
pub const LOGS: &str = "/v1/logs";

/// Every method and path of a hive's daemon.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", super::HEALTH),
    ("GET", super::METRICS),
    ("POST", super::LEASE),
    ("POST", super::SHUTDOWN),
    ("GET", CAPABILITIES),
    ("GET", WORKERS),
    ("POST", WORKERS),
    ("GET", WORKER),
    ("DELETE", WORKER),
    ("GET", MODELS),
    ("DELETE", MODELS),
    ("POST", PROVISION),
    ("POST", VERIFY),
    ("PUT", MODEL_PART),
    ("GET", MANIFEST),
    ("GET", CONTENT),
    ("GET", EVENTS),
    ("GET", LOGS),
];

/// The content type of a [part](MODEL_PART): bytes of a file. The other bodies are JSON.
pub const PART_CONTENT_TYPE: &str = "application/octet-stream";

/// Events of a worker's start: `progress`*, then `ready` or `error`.
pub mod spawning {
    /// A [`ProgressBody`](crate::wire::ProgressBody).
    pub const PROGRESS: &str = "progress";
    /// A [`WorkerAddress`](super::WorkerAddress).
    pub const READY: &str = "ready";
    /// An [`ErrorInfo`](crate::wire::ErrorInfo).
    pub const ERROR: &str = "error";
}

/// Events of a download: `progress`* and `want`*, then `done` or `error`.
pub mod provisioning {
    /// A [`ProgressBody`](crate::wire::ProgressBody).
    pub const PROGRESS: &str = "progress";
    /// A [`Want`](super::Want): the sender of the model must send this now.
    pub const WANT: &str = "want";
    /// A [`ModelOnDisk`](rbee_core::models::ModelOnDisk).
    pub const DONE: &str = "done";
    /// An [`ErrorInfo`](crate::wire::ErrorInfo).
    pub const ERROR: &str = "error";
}

/// Events of a hive.
pub mod happening {
    /// A [`HiveReport`](rbee_core::hive::HiveReport).
    pub const REPORT: &str = "report";
    /// An [`Exited`](super::Exited).
    pub const EXITED: &str = "exited";
}

/// A hive in the background: the line that `rbee-hive --detach` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The number of its process.
    pub process: u32,
    /// The token that it accepts.
    pub token: Token,
    /// True if it ran before.
    pub adopted: bool,
    /// The version of its program.
    pub version: String,
}

/// The identity of a hive: the response to `GET /health` with its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, as in [`Up`](super::Up).
    #[serde(default)]
    pub status: String,
    /// Its name.
    pub hive: HiveId,
    /// The version of its program.
    pub version: String,
    /// The machine's host name.
    pub hostname: String,
    /// The process id.
    pub pid: u32,
    /// The revision of its state.
    pub rev: u64,
}

/// The queen that sends a request. As the body of `POST` to [`LEASE`](super::LEASE) it takes or renews the lease on
/// the hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The epoch of the queen. A hive follows one queen at a time: a newer one takes over from an older one, and any
    /// other one takes over once the lease of the owner has expired.
    pub owner: Epoch,
}

/// The lease that a queen has on a hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How long the hive continues without a heartbeat, in milliseconds.
    pub lease_ms: u64,
}

/// A worker to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Its id, chosen by the queen.
    pub id: WorkerId,
    /// Its model, devices and settings.
    pub spec: WorkerSpec,
}

/// How to stop a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// How long it may take before it is killed, in milliseconds.
    pub grace_ms: u64,
}

/// The address of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerAddress {
    /// Its description.
    pub info: WorkerInfo,
    /// Its port on the hive's machine.
    pub port: u16,
    /// The token it accepts.
    pub token: Token,
    /// The protocols of the framed link that it offers, as in its [`Health`](super::worker::Health::links).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its reference.
    pub model: ModelRef,
}

/// A model to put on the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provision {
    /// Its reference.
    pub model: ModelRef,
    /// The source of its files.
    #[serde(default)]
    pub from: Origin,
}

/// The source of the files of a model.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The hive's own machine.
    #[default]
    Here,
    /// The hub.
    Hub {
        /// Its address; chosen by the hive if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// The user's token for the hub, for this address and this download alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Send no token, not even the hive's own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anonymous: bool,
        /// The limit in bytes for all models together that were downloaded with such a limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant_budget: Option<u64>,
        /// Make no requests to the hub.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        offline: bool,
    },
    /// The sender of this order sends the files that the hive [wants](provisioning::WANT).
    Sender(Manifest),
}

/// Leaves out the token.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("Here"),
            Self::Hub { endpoint, .. } => write!(f, "Hub({endpoint:?})"),
            Self::Sender(manifest) => write!(f, "Sender({})", manifest.digest()),
        }
    }
}

/// A file to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Its path in the manifest.
    pub file: String,
    /// The offset of the first missing byte.
    pub from: u64,
}

/// The file that a part belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path in the manifest.
    pub file: String,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The model.
    pub model: ModelRef,
    /// The file's path in the manifest.
    pub file: String,
}

/// The end of a worker that was not asked to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The worker.
    pub worker: WorkerId,
    /// The reason.
    pub why: ErrorInfo,
}
