//! What a worker process is asked and answers.

use std::{net::IpAddr, num::NonZeroUsize, sync::Arc};

use rbee_core::{
    HiveId, Job, JobId, Run, WorkerId, WorkerInfo, WorkerSpec,
    worker::{Resume, WorkerHealth},
};
use serde::{Deserialize, Serialize};

use super::{ErrorInfo, LogStyle, ProgressBody, engine::EngineCommand};

/// `POST`: run a job ([`Execute`]); answered with a stream of [`frame`]s.
pub const EXECUTE: &str = "/v1/execute";
/// `POST`: end a run ([`Cancel`]); idempotent.
pub const CANCEL: &str = "/v1/cancel";

/// Every method and path of a worker.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", super::HEALTH),
    ("GET", super::METRICS),
    ("POST", super::LEASE),
    ("POST", super::SHUTDOWN),
    ("POST", EXECUTE),
    ("POST", CANCEL),
];

/// What a worker process is to be: one line of JSON on its standard input, which nobody else can read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Its name.
    pub id: WorkerId,
    /// The hive it belongs to.
    pub hive: HiveId,
    /// What it shall be, in the hive's own terms.
    pub spec: WorkerSpec,
    /// The devices of the spec as the process sees them: it is shown no others, so they are numbered anew.
    pub devices: Vec<u32>,
    /// Where it is to listen.
    pub host: IpAddr,
    /// The port it is to listen on. Where another program has it, the process ends with [`EXIT_PORT_TAKEN`].
    pub port: u16,
    /// The token it is to take.
    pub token: crate::token::Token,
    /// How long it goes on without a sign of life, in milliseconds; 0 for ever.
    pub lease_ms: u64,
    /// The engine that runs the model as a child of the worker; none where the worker does it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineCommand>,
    /// Threads to compute with on the processor; the engine's own choice where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// The longest prompt and answer together, in tokens; the engine's own choice where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Directories whose models it reads only from files that are there in truth
    /// (see [`confine_model_files`](rbee_core::models::confine_model_files)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_roots: Vec<std::path::PathBuf>,
    /// What it logs, and how.
    #[serde(default)]
    pub log: LogStyle,
}

/// The status a worker process ends with where its port is another's (`EX_TEMPFAIL`): another port may do.
pub const EXIT_PORT_TAKEN: u8 = 75;

/// The names of the events a run is answered with. Every stream ends with [`END`](frame::END) or
/// [`ERROR`](frame::ERROR).
pub mod frame {
    /// A [`Token`](super::Token).
    pub const TOKEN: &str = "token";
    /// A list of vectors: `[[f32]]`.
    pub const VECTORS: &str = "vectors";
    /// A [`Metrics`](rbee_core::event::Metrics).
    pub const METRICS: &str = "metrics";
    /// The run goes on, although there is nothing to give yet: an empty object. Sent by engines that promise it, see
    /// [`heartbeats`](rbee_core::worker::Capabilities::heartbeats). A comment would do for the connection, but not for the engine:
    /// it is the engine that gives this sign of life, and not the server in front of it.
    pub const HEARTBEAT: &str = "heartbeat";
    /// An [`End`](super::End).
    pub const END: &str = "end";
    /// An [`ErrorInfo`](crate::wire::ErrorInfo).
    pub const ERROR: &str = "error";
}

/// One attempt at a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execute {
    /// The job.
    pub job: Arc<Job>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What earlier attempts produced.
    pub resume: Resume,
}

impl From<Run> for Execute {
    fn from(run: Run) -> Self {
        Self { job: run.job, attempt: run.attempt, resume: run.resume }
    }
}

impl From<Execute> for Run {
    fn from(execute: Execute) -> Self {
        Self { job: execute.job, attempt: execute.attempt, resume: execute.resume }
    }
}

/// The next token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token<'a> {
    /// Its id in the model's vocabulary, where the engine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The text that it completes; may be empty.
    #[serde(borrow)]
    pub text: std::borrow::Cow<'a, str>,
}

/// The proper end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why it ended.
    pub finish: rbee_core::Finish,
    /// Tokens counted.
    pub usage: rbee_core::Usage,
}

/// Which run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Its job.
    pub job: JobId,
}

/// What became of an order to end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// There was such a run. It is over when this is answered.
    pub was_running: bool,
}

/// How far a worker process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It loads its model, and takes no runs yet.
    Loading,
    /// It is usable.
    Ready,
    /// Its model could not be loaded; it will end.
    Failed,
}

/// Who a worker process is, and how it is: the answer to `GET /health` with its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, as in [`Up`](super::Up): it answers, whatever its phase.
    #[serde(default)]
    pub status: String,
    /// The name it was started under. Whoever answers with another one is not the worker that was started.
    pub worker: WorkerId,
    /// How far it has come.
    pub phase: Phase,
    /// How far the load has come.
    #[serde(default)]
    pub progress: ProgressBody,
    /// Who it is, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<WorkerInfo>,
    /// How it is, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<WorkerHealth>,
    /// Why its model could not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}
