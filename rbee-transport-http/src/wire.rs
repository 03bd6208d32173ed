//! The wire format: every path, header and body, shared by clients and servers.
//!
//! All bodies are JSON and all errors have the shape of [`ErrorBody`]; streams are server-sent events ([`sse`]).
//! Unknown fields are ignored, so that an older reader understands a newer writer.

pub mod batches;
pub mod engine;
mod error;
pub mod hive;
mod listen_host;
mod log;
pub mod messages;
pub mod ollama;
pub mod openai;
pub mod policy;
pub mod queen;
#[cfg(feature = "client")]
pub mod query;
pub mod rerank;
pub mod responses;
pub mod sse;
pub mod tenants;
pub mod worker;

pub use error::{
    AnthropicError, AnthropicErrorBody, AnthropicErrorDetails, ErrorBody, ErrorDetails, ErrorInfo,
    OllamaErrorBody, OpenAiError, OpenAiErrorBody,
};
pub use listen_host::ListenHost;
pub use log::{LogFormat, LogStyle};

/// The port of a queen.
pub const QUEEN_PORT: u16 = 7833;
/// The port of a hive.
pub const HIVE_PORT: u16 = 7835;

/// Identifies one request in queen, hive and worker; set by the first of them if the client did not set it.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Repeating a submission with the same key returns the job of the first one.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The id of the job behind a response.
pub const JOB_ID: &str = "x-rbee-job-id";
/// The worker that began the response.
pub const WORKER_ID: &str = "x-rbee-worker-id";
/// How long the job waited, in milliseconds.
pub const QUEUE_MS: &str = "x-rbee-queue-ms";
/// The position of the last event that a reader has received.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// `GET`: the health and identity of the daemon. Every daemon has it. Hives and workers send a caller without their
/// token [`Up`] alone.
pub const HEALTH: &str = "/health";
/// `GET`: metrics in Prometheus' text format. Every daemon has it.
pub const METRICS: &str = "/metrics";
/// `POST`: shut down gracefully. Every daemon has it; a queen takes a [`ShutdownOrder`](queen::ShutdownOrder).
pub const SHUTDOWN: &str = "/v1/admin/shutdown";
/// `POST`: a heartbeat of the parent, which renews the lease. Workers and hives have it; a queen takes the lease on a
/// hive with it ([`hive::Owner`]).
pub const LEASE: &str = "/v1/lease";

/// A daemon is up: the whole response to `GET /health` of a hive or a worker without its token.
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

/// An order to shut down gracefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shutdown {
    /// How long it may take before it is forced, in milliseconds.
    pub grace_ms: u64,
}

/// The progress of a long task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProgressBody {
    /// What is done, in bytes or in steps.
    pub done: u64,
    /// The total, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl From<rbee_core::hive::ProgressUpdate> for ProgressBody {
    fn from(update: rbee_core::hive::ProgressUpdate) -> Self {
        Self { done: update.done, total: update.total }
    }
}
