//! What goes over the wire: every path, header and body, shared by clients and servers.
//!
//! All bodies are JSON and all errors have the shape of [`ErrorBody`]; streams are server-sent events ([`sse`]).
//! Fields that a reader does not know are passed over, so that an older reader understands a younger writer.

pub mod engine;
mod error;
pub mod hive;
mod log;
pub mod openai;
pub mod policy;
pub mod queen;
#[cfg(feature = "client")]
pub mod query;
pub mod sse;
pub mod tenants;
pub mod worker;

pub use error::{ErrorBody, ErrorDetails, ErrorInfo, OpenAiError, OpenAiErrorBody};
pub use log::{LogFormat, LogStyle};

/// The port of a queen.
pub const QUEEN_PORT: u16 = 7833;
/// The port of a hive.
pub const HIVE_PORT: u16 = 7835;

/// Follows one request through queen, hive and worker; made by whoever meets the request first.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Repeating a submission with the same key gives the first one's job again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The name of the job behind an answer.
pub const JOB_ID: &str = "x-rbee-job-id";
/// The worker that began the answer.
pub const WORKER_ID: &str = "x-rbee-worker-id";
/// How long the job waited, in milliseconds.
pub const QUEUE_MS: &str = "x-rbee-queue-ms";
/// The position of the last event that a reader has seen.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// `GET`: is the daemon usable, and who is it? Every daemon has it. Hives and workers answer a caller without their token
/// with [`Up`] alone.
pub const HEALTH: &str = "/health";
/// `GET`: figures in Prometheus' text format. Every daemon has it.
pub const METRICS: &str = "/metrics";
/// `POST`: end in order. Workers and hives have it.
pub const SHUTDOWN: &str = "/v1/admin/shutdown";
/// `POST`: the one who started the daemon is still there. Workers and hives have it; a queen claims a hive with it
/// ([`hive::Owner`]).
pub const LEASE: &str = "/v1/lease";

/// A daemon is up: all that `GET /health` of a hive or a worker says to a caller without its token.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Up {
    /// `ok`.
    pub status: String,
}

impl Default for Up {
    fn default() -> Self {
        Self { status: "ok".into() }
    }
}

/// An order to end in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shutdown {
    /// How long it may take before it is done by force, in milliseconds.
    pub grace_ms: u64,
}

/// How far a long chunk of work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProgressBody {
    /// What is done, in bytes or in steps.
    pub done: u64,
    /// What is to be done, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl From<rbee_core::hive::ProgressUpdate> for ProgressBody {
    fn from(update: rbee_core::hive::ProgressUpdate) -> Self {
        Self { done: update.done, total: update.total }
    }
}
