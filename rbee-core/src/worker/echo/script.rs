//! The script of an echo worker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{EchoWorker, Memory, State};
use crate::{
    error::{ErrorKind, Result},
    event::Output,
    id::{HiveId, WorkerId},
    model_ref::ModelRef,
    worker::{Capabilities, WorkerInfo},
};

/// A fault of an [`EchoWorker`]. Positions count the tokens of the answer from 0, including those of earlier attempts;
/// a run that continues after the position has the fault at its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EchoFault {
    /// `execute` returns an error of this kind.
    Refuse(ErrorKind),
    /// `execute` panics.
    PanicInExecute,
    /// `execute` never returns.
    HangInExecute,
    /// An error of this kind replaces the token.
    Fail {
        /// The position.
        at: u32,
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// The stream ends instead of the token, without [`Output::End`].
    Cut {
        /// The position.
        at: u32,
    },
    /// The stream panics instead of the token.
    Panic {
        /// The position.
        at: u32,
    },
    /// The stream hangs instead of the token.
    Stall {
        /// The position.
        at: u32,
    },
    /// Before the token the stream sends nothing for this long, not even a heartbeat; then the answer continues.
    Pause {
        /// The position.
        at: u32,
        /// How long (tokio's time, so a test can pause it).
        lasts: Duration,
    },
    /// The answer continues beyond `max_tokens`, and never ends.
    Overrun,
    /// Another token and another end follow the end.
    TalkAfterEnd,
}

/// A fault, and the number of runs that it still applies to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    fault: EchoFault,
    /// `None`: all runs.
    times: Option<u32>,
}

impl Armed {
    pub(super) fn new(fault: EchoFault, times: u32) -> Self {
        Self { fault, times: Some(times) }
    }
}

/// The fault of the next run. Faults with a number come before those for all runs.
pub(super) fn next_fault(faults: &mut Vec<Armed>) -> Option<EchoFault> {
    faults.retain(|armed| armed.times != Some(0));
    let counted = faults.iter_mut().find(|armed| armed.times.is_some());
    if let Some(Armed { fault, times: Some(times) }) = counted {
        *times -= 1;
        return Some(*fault);
    }
    faults.first().map(|armed| armed.fault)
}

/// A gate that holds the tokens of its workers until the test releases them. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct EchoGate(Arc<Semaphore>);

impl EchoGate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets this many tokens pass, now or later, of any run.
    pub fn release(&self, tokens: u32) {
        self.0.add_permits(tokens as usize);
    }

    /// Lets all tokens pass from now on.
    pub fn open(&self) {
        self.0.close();
    }

    pub(super) async fn pass(&self) {
        // An error means that the semaphore was closed, that is, that the gate was opened.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for EchoGate {
    fn default() -> Self {
        Self::new()
    }
}

/// The behavior of every run of a worker.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) first_delay: Duration,
    pub(super) token_delay: Duration,
    pub(super) gate: Option<EchoGate>,
    pub(super) outputs: Option<Vec<Result<Output>>>,
    pub(super) dimensions: usize,
    pub(super) metrics: bool,
    pub(super) no_ids: bool,
    pub(super) vram_bytes: Option<u64>,
    pub(super) heartbeat: Option<Duration>,
}

/// A builder for an [`EchoWorker`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct EchoBuilder {
    info: WorkerInfo,
    script: Script,
    faults: Vec<Armed>,
}

impl EchoBuilder {
    pub(super) fn new(model: ModelRef) -> Self {
        let mut info = WorkerInfo::new(model, "echo");
        info.capabilities = Capabilities {
            generate: true,
            resume: true,
            logprobs: true,
            ..Capabilities::default()
        };
        Self { info, script: Script::default(), faults: Vec::new() }
    }

    /// Its id; random by default.
    pub fn id(self, id: WorkerId) -> Self {
        self.info(|info| info.id = id)
    }

    /// The hive it belongs to; `local` by default.
    pub fn hive(self, hive: HiveId) -> Self {
        self.info(|info| info.hive = hive)
    }

    /// The most concurrent runs; 1 by default. One more is refused as [`WorkerBusy`](ErrorKind::WorkerBusy).
    pub fn slots(self, slots: u32) -> Self {
        self.info(|info| info.slots = slots)
    }

    /// Its numerics; `echo` by default.
    pub fn numerics(self, numerics: &str) -> Self {
        self.info(|info| info.numerics = numerics.into())
    }

    /// True, the default, if it can continue the answer of another worker. Otherwise it refuses such a run as
    /// [`Unsupported`](ErrorKind::Unsupported).
    pub fn resume(self, resume: bool) -> Self {
        self.info(|info| info.capabilities.resume = resume)
    }

    /// The longest prompt and answer together, in tokens; no limit by default. A longer prompt, or query of a rerank, is
    /// refused as [`ContextExceeded`](ErrorKind::ContextExceeded), a longer answer ends at the limit.
    pub fn context_tokens(self, tokens: u32) -> Self {
        self.info(|info| info.capabilities.context_tokens = Some(tokens))
    }

    /// Also makes vectors of this many numbers, which depend only on the text.
    pub fn embed(mut self, dimensions: usize) -> Self {
        self.script.dimensions = dimensions;
        self.info(|info| info.capabilities.embed = true)
    }

    /// Also scores documents: by the share of the query's words that a document has.
    pub fn rerank(self) -> Self {
        self.info(|info| info.capabilities.rerank = true)
    }

    /// The revision of the hive's state at which it appeared; 0 by default.
    pub fn since(self, since: u64) -> Self {
        self.info(|info| info.since = since)
    }

    /// Changes any other field of its identity.
    pub fn info(mut self, change: impl FnOnce(&mut WorkerInfo)) -> Self {
        change(&mut self.info);
        self
    }

    /// The time to the first token (tokio's time, so a test can pause it).
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.script.first_delay = delay;
        self
    }

    /// The time from one token to the next (tokio's time, so a test can pause it).
    pub fn token_delay(mut self, delay: Duration) -> Self {
        self.script.token_delay = delay;
        self
    }

    /// Holds every token, all vectors and all scores, until the gate lets it pass. The end is not held.
    pub fn gate(mut self, gate: &EchoGate) -> Self {
        self.script.gate = Some(gate.clone());
        self
    }

    /// Begins every answer with measurements.
    pub fn metrics(mut self) -> Self {
        self.script.metrics = true;
        self
    }

    /// Sends a heartbeat whenever a run had no output for this long (tokio's time), unless a fault makes it hang.
    pub fn heartbeats(mut self, every: Duration) -> Self {
        self.script.heartbeat = Some(every);
        self.info(|info| info.capabilities.heartbeats = true)
    }

    /// Leaves out the ids of tokens, like an engine that does not report them.
    pub fn without_ids(mut self) -> Self {
        self.script.no_ids = true;
        self
    }

    /// The memory that it reports, in bytes.
    pub fn vram_bytes(mut self, bytes: u64) -> Self {
        self.script.vram_bytes = Some(bytes);
        self
    }

    /// Answers every run with exactly these outputs, whatever the request; delays and gate apply to each of them.
    pub fn script(mut self, outputs: impl IntoIterator<Item = Result<Output>>) -> Self {
        self.script.outputs = Some(outputs.into_iter().collect());
        self
    }

    /// A fault for every run.
    pub fn fault(mut self, fault: EchoFault) -> Self {
        self.faults.push(Armed { fault, times: None });
        self
    }

    /// A fault for the first `times` runs; several faults are applied one after the other.
    pub fn fault_times(mut self, fault: EchoFault, times: u32) -> Self {
        self.faults.push(Armed::new(fault, times));
        self
    }

    /// The worker.
    pub fn build(self) -> Arc<EchoWorker> {
        Arc::new(EchoWorker {
            info: Arc::new(self.info),
            script: Arc::new(self.script),
            state: Arc::new(State {
                memory: Mutex::new(Memory { faults: self.faults, ..Memory::default() }),
                ..State::default()
            }),
        })
    }
}
