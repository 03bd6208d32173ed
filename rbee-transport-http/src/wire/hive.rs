//! What a hive is asked and answers.

use std::fmt;

use rbee_core::{HiveId, ModelRef, WorkerId, WorkerInfo, WorkerSpec, id::Epoch, models::Manifest};
use serde::{Deserialize, Serialize};

use super::ErrorInfo;
use crate::token::Token;

/// `GET`: everything the hive knows of itself, a [`HiveReport`](rbee_core::hive::HiveReport).
pub const CAPABILITIES: &str = "/v1/capabilities";
/// `GET` lists workers, `POST` ([`Spawn`]) starts one and answers with a stream of [`spawning`] events.
pub const WORKERS: &str = "/v1/workers";
/// `GET`: how to reach a worker ([`WorkerAddress`]); `DELETE` ([`Stop`] as query): stop it.
pub const WORKER: &str = "/v1/workers/{id}";
/// `GET` lists models ([`ModelOnDisk`](rbee_core::models::ModelOnDisk)), `DELETE` ([`Model`] as query) removes one.
pub const MODELS: &str = "/v1/models";
/// `POST` ([`Provision`]): put a model on the disk; answered with a stream of [`provisioning`] events.
pub const PROVISION: &str = "/v1/models/provision";
/// `POST` ([`Model`]): read a model's files again and put damaged ones aside; answered with a stream of
/// [`provisioning`] events, whose last is a list of [`Damage`](rbee_core::models::Damage).
pub const VERIFY: &str = "/v1/models/verify";
/// `PUT` ([`Part`] as query, with a `Content-Range`): a part of a file that the hive [wants](provisioning::WANT), of the
/// model whose manifest has this digest.
pub const MODEL_PART: &str = "/v1/models/{digest}";
/// `GET` ([`Model`] as query): the files of a model, a [`Manifest`].
pub const MANIFEST: &str = "/v1/models/manifest";
/// `GET` ([`Content`] as query, perhaps with a `Range`): the bytes of one file of a model.
pub const CONTENT: &str = "/v1/models/content";
/// `GET` ([`Owner`] as query): what happens, as a stream of [`happening`] events; the first is a report. For the queen that
/// has claimed the hive ([`LEASE`](super::LEASE)) alone; the stream ends when another queen claims it.
pub const EVENTS: &str = "/v1/events";

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
    /// A [`Want`](super::Want): whoever offered the model is to send this now.
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

/// Who a hive is: the answer to `GET /health` with its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, as in [`Up`](super::Up).
    #[serde(default)]
    pub status: String,
    /// Its name.
    pub hive: HiveId,
    /// The version of its program.
    pub version: String,
    /// The machine's own name.
    pub hostname: String,
    /// The process.
    pub pid: u32,
    /// The revision of its state.
    pub rev: u64,
}

/// Which queen speaks. As the body of `POST` to [`LEASE`](super::LEASE) it claims the hive, and renews the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The life of the queen. A hive follows one at a time: a younger one takes over from an older one, and any other
    /// one once the lease of the owner has run out.
    pub owner: Epoch,
}

/// The lease that a queen has on a hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How long the hive goes on without a sign of life, in milliseconds.
    pub lease_ms: u64,
}

/// A worker to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Its name, chosen by the queen.
    pub id: WorkerId,
    /// What it shall be.
    pub spec: WorkerSpec,
}

/// How a worker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// How long it may take before it is done by force, in milliseconds.
    pub grace_ms: u64,
}

/// How to reach a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerAddress {
    /// Who it is.
    pub info: WorkerInfo,
    /// Its port on the hive's machine.
    pub port: u16,
    /// The token it takes.
    pub token: Token,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its reference.
    pub model: ModelRef,
}

/// A model to be put on the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provision {
    /// Its reference.
    pub model: ModelRef,
    /// Where its files are from.
    #[serde(default)]
    pub from: Origin,
}

/// Where the files of a model are from.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The hive's own machine.
    #[default]
    Here,
    /// The hub.
    Hub {
        /// Its address; the hive's own choice where not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// What the user is known there by, for this address and this download alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Send no token, also none of the hive's own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anonymous: bool,
        /// Bytes that all models which were fetched with such a bound may take together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant_budget: Option<u64>,
        /// Ask it for nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        offline: bool,
    },
    /// Whoever gives this order sends the files that the hive [wants](provisioning::WANT).
    Sender(Manifest),
}

/// Without the token.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("Here"),
            Self::Hub { endpoint, .. } => write!(f, "Hub({endpoint:?})"),
            Self::Sender(manifest) => write!(f, "Sender({})", manifest.digest()),
        }
    }
}

/// A file that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Its path in the manifest.
    pub file: String,
    /// The first byte of it that is missing.
    pub from: u64,
}

/// Which file a part is of.
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

/// A worker ended that nobody had asked to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The worker.
    pub worker: WorkerId,
    /// Why.
    pub why: ErrorInfo,
}
