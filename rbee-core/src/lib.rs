//! rbee: an orchestrator for language models that lives inside your application.
//!
//! A [`Queen`] accepts [`Request`]s, keeps them in a durable queue, selects the worker that runs each one, streams the
//! tokens back, retries failed attempts, and records how every job ended.
//!
//! ```
//! use rbee_core::{Queen, Request};
//! # use rbee_core::worker::EchoWorker;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> rbee_core::Result<()> {
//! # let my_worker = EchoWorker::builder("my-model".parse()?).build();
//! let queen = Queen::builder().worker(my_worker).build().await?;
//! let mut answer = queen.submit(Request::chat("my-model").user("Hi").max_tokens(8)).await?;
//! while let Some(text) = answer.next_text().await? {
//!     print!("{text}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Traits
//!
//! Each part that a queen depends on is a trait with a default implementation, and each can be replaced:
//!
//! | trait | what it is | implementations here |
//! |---|---|---|
//! | [`Worker`] | one loaded model | `candle::CandleWorker` (feature `candle`) |
//! | [`HiveBackend`] | the agent of one machine | [`InProcessHive`] |
//! | [`Registry`] | the store that survives a restart | `SqliteRegistry` (feature `sqlite`), [`MemoryRegistry`] |
//! | [`Scheduler`] | selects the worker of a job | [`LeastLoaded`], [`FnScheduler`], `RhaiScheduler` (feature `rhai`) |
//!
//! The feature `conformance` adds test suites for implementations of these traits, and test doubles for applications.
//!
//! # Design
//!
//! The [`engine`] makes every decision: a state machine that does no I/O and has no clock and no random numbers of its
//! own. The queen is the asynchronous driver of the engine, and [`sim`] runs the engine in virtual time.
//!
//! # Features
//!
//! - `sqlite` (default): the durable registry.
//! - `rhai` (default): policies as Rhai scripts.
//! - `rules`: policies as rules in YAML, which are compiled to Rhai scripts; includes `rhai`.
//! - `metrics`: counters, histograms and gauges, for a recorder of the crate `metrics`.
//! - `candle`: the worker that runs models of the Llama and BERT families in this process; `cuda` and `metal` include
//!   it and run it on GPUs.
//! - `hub`: downloads of models from a hub into the [`ModelStore`](models::ModelStore).
//! - `nvml`: NVIDIA GPUs among the devices that a hive reports.
//! - `conformance`: test suites for implementations; includes `test-util`, the test doubles.

pub mod answer;
#[cfg(feature = "candle")]
pub mod candle;
mod chat;
pub mod cluster;
mod device;
mod digest;
pub mod engine;
mod engine_support;
mod error;
pub mod event;
mod file_roots;
mod grammar;
pub mod hive;
mod hive_address;
pub mod id;
mod idempotency;
pub mod job;
mod load_request;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod model_info;
mod model_on_disk;
mod model_ref;
pub mod models;
mod policy_source;
mod prefix;
mod priority;
pub mod private_files;
mod progress;
pub mod queen;
pub mod registry;
pub mod request;
mod rng;
pub mod scheduler;
pub mod settings;
pub mod sim;
pub mod similar;
mod sizing;
mod task;
pub mod tenant;
pub mod time;
mod typed_path;
mod within;
pub mod worker;
mod worker_spec;
#[cfg(feature = "rules")]
mod yaml;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(test, feature = "test-util"))]
pub mod test_gguf;

pub use async_trait::async_trait;

#[cfg(feature = "candle")]
pub use candle::CandleFactory;
pub use chat::{Message, Role};
pub use cluster::ClusterView;
pub use error::{Error, ErrorKind, Result};
pub use event::{EventKind, Finish, JobEvent, Outcome, Output, Usage};
pub use hive::{HiveBackend, InProcessHive};
pub use id::{CorrelationId, HiveId, JobId, TenantId, WorkerId};
pub use job::{Job, JobState};
pub use model_ref::ModelRef;
pub use priority::Priority;
pub use queen::{JobAnswer, JobHandle, Queen, QueenBuilder};
#[cfg(feature = "sqlite")]
pub use registry::SqliteRegistry;
pub use registry::{MemoryRegistry, Registry};
pub use request::Request;
#[cfg(feature = "rhai")]
pub use scheduler::RhaiScheduler;
pub use scheduler::{Ask, FnScheduler, LeastLoaded, Placement, Scheduler};
pub use settings::Settings;
pub use worker::{OutputStream, Run, Worker, WorkerInfo};
pub use worker_spec::WorkerSpec;

/// The examples of the README run as tests.
#[cfg(all(doctest, feature = "candle", feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The examples of the page for Rust developers run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
