//! rbee: an embeddable orchestrator that turns every machine a person owns into one LLM service.
//!
//! Draft of the crate documentation; the modules below are private, their types are re-exported here.

mod cluster;
pub mod engine;
mod error;
mod event;
mod hive;
mod id;
mod job;
mod model_ref;
mod prefix;
mod queen;
mod registry;
mod request;
mod scheduler;
mod settings;
pub mod sim;
mod time;
mod worker;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use async_trait::async_trait;

pub use cluster::{ClusterView, HiveView, LaneKey, LaneView, WorkerState, WorkerView};
pub use error::{Error, ErrorKind, Result};
pub use event::{EventKind, Finish, JobEvent, Metrics, Outcome, Output, Started, Usage};
pub use hive::{
    Device, DeviceKind, Devices, HiveBackend, HiveEvent, HiveReport, InProcessHive, Progress,
    ProgressUpdate, WorkerFactory, WorkerReport, WorkerSpec,
};
pub use id::{CorrelationId, Epoch, HiveId, JobId, LeaseId, QueenId, TenantId, Ticket, WorkerId};
pub use job::{EndedJob, Job, JobState, JobStatus, LiveJob, Priority};
pub use model_ref::{MAX_MODEL_REF_BYTES, ModelRef, ModelSource};
pub use queen::{Answer, JobEvents, JobHandle, Load, Queen, QueenBuilder};
pub use registry::{
    Change, HiveAddress, HiveRecord, HiveStatus, JobFilter, JobRecord, MemoryRegistry, ModelRecord,
    Piece, Registry, Snapshot, TenantRecord,
};
#[cfg(feature = "sqlite")]
pub use registry::{Durability, SqliteOptions, SqliteRegistry};
pub use request::{Message, Prompt, Request, Role, Sampling, Task};
pub use scheduler::{
    Ask, Candidate, Explanation, FnScheduler, LeastLoaded, Placement, Scheduler, Verdict,
    plan_eviction,
};
pub use settings::{KeepRequests, Settings};
pub use time::{Now, Time, WallTime};
#[cfg(feature = "candle")]
pub use worker::{CandleDevice, CandleDtype, CandleFactory, CandleOptions, CandleWorker};
pub use worker::{Capabilities, OutputStream, Resume, Run, Worker, WorkerHealth, WorkerInfo};
#[cfg(feature = "test-util")]
pub use worker::{EchoBuilder, EchoFault, EchoGate, EchoRun, EchoWorker};
