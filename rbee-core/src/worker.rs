//! The [`Worker`] trait: one loaded model.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    event::Output,
    id::{HiveId, WorkerId},
    job::Job,
    model_ref::ModelRef,
};

#[cfg(feature = "test-util")]
mod echo;

#[cfg(feature = "test-util")]
pub use echo::{EchoBuilder, EchoFault, EchoGate, EchoRun, EchoWorker};

/// What a worker can do. Other fields may be added, so it is made from its default, which is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// It continues text.
    pub generate: bool,
    /// It makes vectors.
    pub embed: bool,
    /// It can go on from tokens that another worker generated, and draws the same random numbers at the same
    /// position: a stream continued here is the same stream.
    pub resume: bool,
    /// The longest prompt and answer together, in tokens.
    pub context_tokens: Option<u32>,
    /// While a run has nothing to give, its stream has an [`Output::Heartbeat`] after every step of the computation that
    /// ends later than half a second after the last output. The step itself sends it: when the computation hangs, the
    /// heartbeats stop.
    #[serde(default)]
    pub heartbeats: bool,
}

/// Who a worker is: fixed for its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name.
    pub id: WorkerId,
    /// The hive it belongs to.
    pub hive: HiveId,
    /// The model it has loaded.
    pub model: ModelRef,
    /// The engine, `candle` for instance.
    pub backend: Arc<str>,
    /// The devices of its hive that it runs on, by index.
    pub devices: Vec<u32>,
    /// Where it listens; none for a worker inside this process.
    pub url: Option<Arc<str>>,
    /// How many runs it can do at once; at least 1.
    pub slots: u32,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Everything the exact numbers depend on: engine, build, instruction set or device, data types. A stream is
    /// continued only on a worker with equal numerics, because only there it is the same stream.
    pub numerics: Arc<str>,
    /// The revision of the hive's state at which the worker appeared: an older report says nothing about it.
    pub since: u64,
}

impl WorkerInfo {
    /// A worker of this process that generates text with one slot; change the fields that differ.
    ///
    /// ```
    /// use rbee_core::WorkerInfo;
    ///
    /// let mut info = WorkerInfo::new("my-model".parse()?, "my-engine");
    /// info.slots = 4;
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    pub fn new(model: ModelRef, backend: impl Into<Arc<str>>) -> Self {
        Self::named(WorkerId::random(), model, backend)
    }

    /// The same for a worker that has a name already.
    pub(crate) fn named(id: WorkerId, model: ModelRef, backend: impl Into<Arc<str>>) -> Self {
        let backend = backend.into();
        Self {
            id,
            hive: HiveId::local(),
            model,
            numerics: backend.clone(),
            backend,
            devices: Vec::new(),
            url: None,
            slots: 1,
            capabilities: Capabilities { generate: true, ..Capabilities::default() },
            since: 0,
        }
    }
}

/// How a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHealth {
    /// Runs under way.
    pub busy: u32,
    /// Keys of the prompt prefixes that it has computed and kept (the queen made the keys: [`Job::prefix`]).
    pub warm: Vec<u64>,
    /// Memory it holds on its devices, in bytes, where it can tell.
    pub vram_bytes: Option<u64>,
}

/// What of a job is done already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Tokens generated so far. Their number is the position the sampling goes on from.
    pub tokens: Vec<u32>,
    /// How much text, in bytes, readers have of them: the rest was held back, and is to be said again.
    pub text_bytes: usize,
}

impl Resume {
    /// Is there nothing to continue?
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// One attempt at a job: what a worker is given.
#[derive(Clone, Debug)]
pub struct Run {
    /// The job.
    pub job: Arc<Job>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What earlier attempts produced.
    pub resume: Resume,
}

/// What a worker answers with: outputs, the last of them an [`Output::End`], or an error at any point.
pub type OutputStream = BoxStream<'static, Result<Output>>;

/// One loaded model.
///
/// Implementations are proved by [`conformance::worker`](crate::conformance::worker) (feature `conformance`).
///
/// ```
/// use std::sync::Arc;
/// use rbee_core::{async_trait, worker::WorkerHealth, Finish, Output, OutputStream, Result, Run, Usage, Worker, WorkerInfo};
///
/// /// Says one word.
/// #[derive(Debug)]
/// struct Parrot(Arc<WorkerInfo>);
///
/// #[async_trait]
/// impl Worker for Parrot {
///     fn info(&self) -> &Arc<WorkerInfo> {
///         &self.0
///     }
///     async fn execute(&self, _run: Run) -> Result<OutputStream> {
///         let usage = Usage { prompt_tokens: 1, completion_tokens: 1 };
///         Ok(Box::pin(futures_util::stream::iter([
///             Ok(Output::Token { id: None, text: "hello".into() }),
///             Ok(Output::End { finish: Finish::Stop, usage }),
///         ])))
///     }
///     async fn health(&self) -> Result<WorkerHealth> {
///         Ok(WorkerHealth::default())
///     }
/// }
/// ```
#[async_trait]
pub trait Worker: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    fn info(&self) -> &Arc<WorkerInfo>;

    /// Begins a run. Dropping the future or the stream cancels it, within 200 ms or between two tokens.
    ///
    /// The stream is drained as fast as it gives; a worker need not buffer more than a few outputs.
    ///
    /// # Errors
    /// An error here means that nothing was produced. [`ErrorKind::WorkerBusy`](crate::ErrorKind::WorkerBusy) where
    /// all slots are taken, [`ErrorKind::ContextExceeded`](crate::ErrorKind::ContextExceeded) where the prompt is too
    /// long, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for what it cannot do.
    async fn execute(&self, run: Run) -> Result<OutputStream>;

    /// How it is. Must answer while runs are under way.
    async fn health(&self) -> Result<WorkerHealth>;
}

/// A shared worker is a worker.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<W: Worker + ?Sized> Worker for Arc<W> {
    fn info(&self) -> &Arc<WorkerInfo> {
        (**self).info()
    }
    async fn execute(&self, run: Run) -> Result<OutputStream> {
        (**self).execute(run).await
    }
    async fn health(&self) -> Result<WorkerHealth> {
        (**self).health().await
    }
}
