//! The routers that expose a worker, a hive or a queen, and the server that serves them.

mod accept_report;
mod auth;
mod body_budget;
mod connection;
mod connections;
mod content_encoding;
mod correlation;
mod daemon;
mod descriptors;
mod guard;
mod held_body;
mod hive;
mod http2_refusal;
mod lease;
mod limits;
mod listen;
mod listener;
mod logs;
#[cfg_attr(not(feature = "metrics"), path = "server/no_measurements.rs")]
mod measurements;
#[cfg(feature = "metrics")]
mod metrics;
mod process;
#[cfg(feature = "metrics")]
mod process_metrics;
#[cfg_attr(
    not(feature = "openapi"),
    allow(
        unused_imports,
        reason = "only the description of a route names its path and its bodies"
    )
)]
mod queen;
mod reach;
#[cfg_attr(not(feature = "metrics"), path = "server/no_request_metrics.rs")]
mod request_metrics;
mod response;
mod routes;
mod shutdown_signal;
#[cfg(unix)]
mod socket_listener;
mod takeover;
#[cfg_attr(not(feature = "tls"), path = "server/no_tls.rs")]
mod tls;
#[cfg(all(feature = "tunnel", unix))]
mod tunnel;
mod worker;
mod write_timeout;

pub use crate::wire::{ListenHost, LogFormat, LogStyle};
pub use daemon::{ByteSize, HumanDuration, allowed_values, log_reload, quoted, warn_of_exposed};
#[cfg(unix)]
pub use daemon::{on_hangup, raise_file_limit, stop_signal};
pub use guard::{AllowedHost, AllowedOrigin};
pub use hive::{HiveServer, Reach, hive, hostname};
pub use lease::Lease;
pub use limits::Limits;
pub use listen::Server;
pub use logs::{Followed, LogRing};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use process::{EXIT_MISUSED, exit_status, report, run_hive, run_worker};
pub use queen::{
    AddEvent, AddProgress, BatchLimits, HealthCheck, HiveConnector, HiveMachines, QueenLimits,
    QueenServer, queen,
};
pub use tls::TlsFiles;
pub use worker::{WorkerServer, worker};
