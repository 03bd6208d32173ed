//! The requests to a worker process, and its responses.

use std::{fmt, net::IpAddr, num::NonZeroUsize, sync::Arc};

use rbee_core::{
    HiveId, Job, JobId, Run, WorkerId, WorkerInfo, WorkerSpec,
    event::Logprobs,
    models::CachePool,
    request::Task,
    worker::{Resume, WorkerHealth},
};
use serde::{Deserialize, Serialize};

use super::{ErrorInfo, LogStyle, ProgressBody, engine::EngineCommand};

/// `POST`: run a job ([`Execute`]); responds with a stream of [`frame`]s.
pub const EXECUTE: &str = "/v1/execute";
/// `POST`: end a run ([`Cancel`]); idempotent.
pub const CANCEL: &str = "/v1/cancel";
/// `POST`: count the tokens of a prompt ([`CountTokens`]); responds with [`CountedTokens`].
pub const COUNT_TOKENS: &str = "/v1/count_tokens";
/// `POST` with `Upgrade: rbee-link/1` ([`LINK_PROTOCOL`]): from then on the connection carries frames of many runs.
pub const LINK: &str = "/v1/link";

/// The protocol of the framed link in its first version, as it is named in [`Health::links`] and in the header
/// `Upgrade`. See `docs/worker-protocol.md`.
pub const LINK_PROTOCOL: &str = "rbee-link/1";

/// True if one of these protocols is the framed link that this version speaks.
#[cfg(feature = "client")]
pub(crate) fn offers_link(links: &[String]) -> bool {
    links.iter().any(|link| link == LINK_PROTOCOL)
}

/// `POST`: read the files of [`Start::tls`] again; responds with 204, also if there are none.
pub const RELOAD: &str = "/v1/reload";

/// Every method and path of a worker.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", super::HEALTH),
    ("GET", super::METRICS),
    ("POST", super::LEASE),
    ("POST", super::SHUTDOWN),
    ("POST", EXECUTE),
    ("POST", CANCEL),
    ("POST", COUNT_TOKENS),
    ("POST", LINK),
    ("POST", RELOAD),
];

/// The order of a worker process: one line of JSON on its standard input, which no other process can read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Its id.
    pub id: WorkerId,
    /// The hive it belongs to.
    pub hive: HiveId,
    /// Its model, devices and settings, in the hive's own terms.
    pub spec: WorkerSpec,
    /// The devices of the spec as the process sees them: it sees no others, so they are numbered from the start
    /// again.
    pub devices: Vec<u32>,
    /// The address to listen on.
    pub host: IpAddr,
    /// The port to listen on. If another program has it, the process ends with [`EXIT_PORT_TAKEN`].
    pub port: u16,
    /// A directory: then it listens on the Unix socket `PORT.sock` there, instead of an address, and only its user
    /// reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<std::path::PathBuf>,
    /// The TLS of the address; `None` if it is plain HTTP. Not together with `sockets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<WorkerTls>,
    /// The token to accept.
    pub token: crate::token::Token,
    /// How long it continues without a heartbeat, in milliseconds; 0 for ever.
    pub lease_ms: u64,
    /// The engine that runs the model as a child of the worker; `None` if the worker does it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineCommand>,
    /// Threads to compute with on the CPU; the engine's own choice if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// The longest prompt and answer together, in tokens; the engine's own choice if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// The KV cache of rbee's own engine.
    #[serde(default)]
    pub cache: CachePool,
    /// Directories out of which no link of a model below them may lead (see
    /// [`confine_model_files`](rbee_core::models::confine_model_files)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_roots: Vec<std::path::PathBuf>,
    /// Its log level and format.
    #[serde(default)]
    pub log: LogStyle,
}

/// The TLS of a worker, at its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTls {
    /// The PEM file with the certificates, the worker's own first. The worker reads both files when it starts and on
    /// [`RELOAD`].
    pub certificates: std::path::PathBuf,
    /// The PEM file with the private key.
    pub key: std::path::PathBuf,
    /// A directory: the worker listens at the Unix socket `PORT.sock` there as well, without TLS, for its hive. So the
    /// two need no certificate, and a certificate that has expired ends no worker.
    pub sockets: std::path::PathBuf,
}

/// The exit status of a worker process whose port is taken (`EX_TEMPFAIL`): another port may work.
pub const EXIT_PORT_TAKEN: u8 = 75;

/// The names of the events of a run. Every stream ends with [`END`](frame::END) or [`ERROR`](frame::ERROR).
pub mod frame {
    /// A [`Token`](super::Token).
    pub const TOKEN: &str = "token";
    /// A list of vectors: `[[f32]]`.
    pub const VECTORS: &str = "vectors";
    /// A [`Metrics`](rbee_core::event::Metrics).
    pub const METRICS: &str = "metrics";
    /// The run continues, although there is no output yet: an empty object. Sent by engines that promise it, see
    /// [`heartbeats`](rbee_core::worker::Capabilities::heartbeats). A comment would be enough for the connection, but
    /// not for the engine: this heartbeat comes from the engine, not from the server in front of it.
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
    /// The output of previous attempts.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token<'a> {
    /// Its id in the model's vocabulary, if the engine reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The text that it completes; may be empty.
    #[serde(borrow)]
    pub text: std::borrow::Cow<'a, str>,
    /// Its log probabilities, if the job asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Box<Logprobs>>,
}

/// The proper end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why it ended.
    pub finish: rbee_core::Finish,
    /// Token counts.
    pub usage: rbee_core::Usage,
    /// The stop text that ended the answer, if one did and the worker reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_text: Option<Box<str>>,
}

/// The run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Its job.
    pub job: JobId,
}

/// The result of a request to end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// True if there was such a run. It is over when this response is sent.
    pub was_running: bool,
}

/// The prompt whose tokens are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountTokens {
    /// The task with the prompt.
    pub task: Arc<Task>,
}

/// The number of tokens of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedTokens {
    /// The number, with those of the chat template.
    pub tokens: u32,
}

/// The phase of a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It loads its model, and accepts no runs yet.
    Loading,
    /// It is usable.
    Ready,
    /// Its model could not be loaded; it will end.
    Failed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        })
    }
}

/// The identity and health of a worker process: the response to `GET /health` with its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, as in [`Up`](super::Up): it responds, whatever its phase.
    #[serde(default)]
    pub status: String,
    /// The id it was started with. A process that responds with another id is not the worker that was started.
    pub worker: WorkerId,
    /// Its phase.
    pub phase: Phase,
    /// The progress of its load.
    #[serde(default)]
    pub progress: ProgressBody,
    /// Its description, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<WorkerInfo>,
    /// Its health, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<WorkerHealth>,
    /// Why its model could not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// The protocols of the framed link that it offers ([`LINK_PROTOCOL`]). Without one it is used over HTTP alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first JSON block with this label in the page about the protocol.
    fn documented<T: serde::de::DeserializeOwned>(label: &str) -> T {
        let page = include_str!("../../../docs/worker-protocol.md");
        let block = page.split(&format!("```{label}\n")).nth(1).unwrap();
        serde_json::from_str(block.split("```").next().unwrap()).unwrap()
    }

    #[test]
    fn the_bodies_on_the_page_about_the_protocol_are_understood() {
        let execute: Execute = documented("json execute");
        assert!(!execute.job.streamed && execute.resume.is_empty());
        let count: CountTokens = documented("json count");
        assert!(matches!(*count.task, Task::Generate { .. }));
        let health: Health = documented("json");
        assert_eq!(health.links, [LINK_PROTOCOL]);
        assert_eq!(health.info.unwrap().id, health.worker);
    }

    #[test]
    fn the_health_of_a_worker_without_the_link_is_read_and_written() {
        let older = r#"{"status":"ok","worker":"67e55044-10b1-426f-9247-bb680e5fe0c8","phase":"loading","progress":{"done":1}}"#;
        let health: Health = serde_json::from_str(older).unwrap();
        assert!(health.links.is_empty());
        assert_eq!(serde_json::to_string(&health).unwrap(), older);
    }

    #[test]
    fn the_end_of_a_worker_that_does_not_count_cached_tokens_is_read_and_written() {
        let older = r#"{"finish":"stop","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
        let end: End = serde_json::from_str(older).unwrap();
        assert_eq!((end.usage.cached_tokens, &end.stop_text), (None, &None));
        assert_eq!(serde_json::to_string(&end).unwrap(), older);
        let older = r#"{"prompt_tokens":3,"prefill":{"secs":0,"nanos":1}}"#;
        let metrics: rbee_core::event::Metrics = serde_json::from_str(older).unwrap();
        assert_eq!(metrics.cached_tokens, None);
        assert_eq!(serde_json::to_string(&metrics).unwrap(), older);
    }
}
