//! The HTTP transport of rbee: workers, hives and queens as processes of their own.
//!
//! Each trait of `rbee-core` that can be remote has a pair of adapters here: a client that implements it, and a
//! router that exposes it. What runs in one process without this crate runs in several processes with it; the same
//! conformance suites test both.
//!
//! | what | client | server |
//! |---|---|---|
//! | [`Worker`](rbee_core::Worker) | [`client::LinkWorker`], and [`client::HttpWorker`] for servers without the framed link; [`client::OpenAiWorker`] for other engines | [`server::worker`] |
//! | [`HiveBackend`](rbee_core::HiveBackend) | [`client::HttpHive`]; [`ProcessHive`], whose workers are processes; [`LocalHive`], a child daemon | [`server::hive`] |
//! | [`Queen`](rbee_core::Queen) | any OpenAI client, and `rbee` | [`server::queen`] |
//!
//! Every path, body and header is defined in [`wire`], which both sides share.

#[cfg(any(feature = "https", feature = "tls"))]
mod certificate;
#[cfg(feature = "client")]
pub mod client;
pub mod dial;
#[cfg(all(feature = "process", feature = "openai", unix))]
mod engine_process;
#[cfg(all(feature = "process", unix))]
mod hive_files;
#[cfg(any(feature = "client", feature = "server"))]
#[cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(dead_code, unused_imports, reason = "each side uses its half")
)]
mod link;
#[cfg(all(feature = "process", unix))]
mod local_hive;
#[cfg(all(feature = "process", unix))]
mod process;
#[cfg(all(feature = "process", unix))]
mod process_hive;
mod program;
mod secret;
#[cfg(feature = "server")]
pub mod server;
mod tls_error;
mod token;
#[cfg(feature = "tunnel")]
mod tunnel;
pub mod wire;

#[cfg(all(feature = "process", feature = "openai", unix))]
pub use engine_process::EngineFactory;
#[cfg(all(feature = "process", unix))]
pub use hive_files::{Announced, HiveFiles, LocalDaemon};
#[cfg(all(feature = "process", unix))]
pub use local_hive::LocalHive;
#[cfg(all(feature = "process", unix))]
pub use process_hive::ProcessHive;
pub use program::Program;
pub use secret::Secret;
pub use token::{SharedToken, Token, TokenFile};

/// Compiles the example on the page about other engines.
#[cfg(all(doctest, feature = "openai"))]
#[doc = include_str!("../../docs/engines.md")]
struct EnginesPage;
