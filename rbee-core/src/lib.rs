//! rbee: an orchestrator for language models that lives inside your application.
//!
//! A [`Queen`] takes [`Request`]s, keeps them in a durable queue, decides which worker runs each one, streams the
//! tokens back, retries what fails, and records how everything ended.
//!
//! ```
//! use rbee_core::{Queen, Request};
//! # use rbee_core::EchoWorker;
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
//! # The seams
//!
//! Everything a queen stands on is a trait with a default, and each can be replaced:
//!
//! | trait | what it is | here |
//! |---|---|---|
//! | [`Worker`] | one loaded model | `CandleWorker` (feature `candle`) |
//! | [`HiveBackend`] | one machine | [`InProcessHive`] |
//! | [`Registry`] | what must survive a restart | `SqliteRegistry` (feature `sqlite`), [`MemoryRegistry`] |
//! | [`Scheduler`] | where a job goes, now | [`LeastLoaded`], [`FnScheduler`], `RhaiScheduler` (feature `rhai`) |
//!
//! The feature `conformance` brings the suites that prove an implementation, and doubles to test an application with.
//!
//! # How it is made
//!
//! Every decision is made by the [`engine`]: a state machine without input, output, clock or chance of its own. The
//! queen is the asynchronous shell around it, and [`sim`] runs it in virtual time.
//!
//! # Features
//!
//! - `sqlite` (default): the durable registry.
//! - `rhai` (default): policies written as scripts.
//! - `rules`: policies written as rules in YAML, which are compiled to scripts.
//! - `metrics`: counters, histograms and gauges, for a recorder of the crate `metrics`.
//! - `candle`: the worker that runs models of the Llama and BERT families in this process; `cuda` and `metal` run it on
//!   GPUs.
//! - `hub`: downloads of models from a hub into the [`ModelStore`].
//! - `nvml`: NVIDIA GPUs among the devices that a hive reports.
//! - `conformance`, `test-util`: suites and doubles for tests.

#[cfg(feature = "candle")]
mod candle;
mod cluster;
mod device;
mod digest;
pub mod engine;
mod error;
mod event;
mod file_roots;
mod hive;
mod hive_address;
mod id;
mod idempotency;
mod job;
mod load_request;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod model_info;
mod model_on_disk;
mod model_ref;
mod models;
mod policy_source;
mod prefix;
mod priority;
pub mod private_files;
mod progress;
mod queen;
mod registry;
mod request;
mod rng;
mod scheduler;
mod settings;
pub mod sim;
mod sizing;
mod task;
mod tenant;
mod time;
mod within;
mod worker;
mod worker_spec;
#[cfg(feature = "rules")]
mod yaml;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use async_trait::async_trait;

#[cfg(feature = "candle")]
pub use candle::{CandleDevice, CandleDtype, CandleFactory, CandleOptions, CandleWorker};
pub use cluster::{ClusterView, HiveView, LaneKey, LaneView, WorkerState, WorkerView};
pub use device::{Device, DeviceKind};
pub use digest::Digest;
pub use engine::HiveSummary;
pub use error::{Error, ErrorKind, Result};
pub use event::{EventKind, EventRef, Finish, JobEvent, Metrics, Outcome, Output, Started, Usage};
pub use file_roots::{check_file_root, confine_model_files, confined_directories};
pub use hive::{
    Devices, HiveBackend, HiveEvent, HiveInfo, HiveReport, InProcessHive, ModelHost, ModelOrigin,
    WorkerFactory, WorkerReport, parse_label,
};
pub use hive_address::HiveAddress;
pub use id::{CorrelationId, Epoch, HiveId, JobId, LeaseId, QueenId, TenantId, Ticket, WorkerId};
pub use idempotency::Idempotency;
pub use job::{EndedJob, Job, JobState, JobStatus, LiveJob};
pub use load_request::LoadRequest;
pub use model_info::{
    EmbeddingInfo, KvCache, MemoryEstimate, MemoryNeed, ModelFormat, ModelInfo, ModelTask, Pooling,
};
pub use model_on_disk::{ModelOnDisk, WorkerLimits};
pub use model_ref::{MAX_MODEL_REF_BYTES, ModelRef, ModelSource};
pub use models::{
    Begun, Damage, HubAccess, InUse, MAX_MODEL_FILES, Manifest, ModelFile, ModelFiles, ModelStore,
    StoreOptions, StoredModel, StoredState,
};
#[cfg(feature = "hub")]
pub use models::{Hub, HubBuilder, HubToken, Resolved};
pub use policy_source::{PolicyLanguage, PolicySource};
pub use priority::Priority;
pub use progress::{Progress, ProgressUpdate};
pub use queen::{
    Answer, Decision, DryRunDecision, JobEvents, JobHandle, LoadProgress, MAX_POLICY_BYTES,
    PolicyDryRun, PolicyHealth, PolicyReplay, PolicyStatus, Queen, QueenBuilder, TenantKey,
    TenantSummary,
};
#[cfg(feature = "test-util")]
pub use registry::GuardedRegistry;
#[cfg(feature = "sqlite")]
pub use registry::{BackupStatus, Backups, Durability, Restored, SqliteOptions, SqliteRegistry};
pub use registry::{
    Change, HiveRecord, HiveStatus, JobFilter, JobOutline, JobRecord, MemoryRegistry, ModelRecord,
    POLICIES_KEPT, PolicyFilter, PolicyOrigin, PolicyRecord, Registry, Snapshot, TenantRecord,
    TokenChunk, WorkerRecord,
};
pub use request::Request;
pub use scheduler::{
    Admission, Ask, Candidate, Explanation, FnScheduler, LeastLoaded, Placement, PlatformPolicy,
    Scheduler, SchedulerInfo, Verdict,
};
#[cfg(feature = "rhai")]
pub use scheduler::{RhaiScheduler, scheduler_reference};
#[cfg(feature = "rules")]
pub use scheduler::{rules_schema, rules_to_rhai};
pub use settings::{KeepRequests, Mode, Settings, TenantReferences};
pub use sizing::{DeviceEstimate, Fit, Sizing, plan_eviction};
pub use task::{Message, Prompt, Role, Sampling, Task};
pub use tenant::{ApiKey, TenantLimits, TenantView};
pub use time::{Now, Time, WallTime};
pub use worker::{Capabilities, OutputStream, Resume, Run, Worker, WorkerHealth, WorkerInfo};
#[cfg(feature = "test-util")]
pub use worker::{EchoBuilder, EchoFault, EchoGate, EchoRun, EchoWorker};
pub use worker_spec::WorkerSpec;

/// The examples of the README run as tests.
#[cfg(all(doctest, feature = "candle", feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
struct Readme;
