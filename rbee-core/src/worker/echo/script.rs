//! What an echo worker is told to do.

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

/// A fault of an [`EchoWorker`]. Positions count the tokens of the answer from 0, those of earlier attempts included;
/// a run that is continued behind the position has the fault at its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EchoFault {
    /// `execute` answers with an error of this kind.
    Refuse(ErrorKind),
    /// `execute` panics.
    PanicInExecute,
    /// `execute` never answers.
    HangInExecute,
    /// An error of this kind comes in the place of the token.
    Fail {
        /// The position.
        at: u32,
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// The stream ends in the place of the token, without [`Output::End`].
    Cut {
        /// The position.
        at: u32,
    },
    /// The stream panics in the place of the token.
    Panic {
        /// The position.
        at: u32,
    },
    /// Nothing ever comes in the place of the token.
    Stall {
        /// The position.
        at: u32,
    },
    /// Nothing comes for so long in the place of the token, not even a heartbeat; then the answer goes on.
    Pause {
        /// The position.
        at: u32,
        /// How long (tokio's time, so a test can pause it).
        lasts: Duration,
    },
    /// The answer goes on beyond `max_tokens`, and never ends.
    Overrun,
    /// Another token and another end follow the end.
    TalkAfterEnd,
}

/// A fault, and for how many more runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    fault: EchoFault,
    /// None: for all runs.
    times: Option<u32>,
}

impl Armed {
    pub(super) fn new(fault: EchoFault, times: u32) -> Self {
        Self { fault, times: Some(times) }
    }
}

/// The fault of the next run. Those with a number come before those that befall all.
pub(super) fn next_fault(faults: &mut Vec<Armed>) -> Option<EchoFault> {
    faults.retain(|armed| armed.times != Some(0));
    let counted = faults.iter_mut().find(|armed| armed.times.is_some());
    if let Some(Armed { fault, times: Some(times) }) = counted {
        *times -= 1;
        return Some(*fault);
    }
    faults.first().map(|armed| armed.fault)
}

/// Holds the tokens of the workers it is given to until the test lets them go. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct EchoGate(Arc<Semaphore>);

impl EchoGate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets this many tokens pass, now or later, whichever run they are of.
    pub fn release(&self, tokens: u32) {
        self.0.add_permits(tokens as usize);
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.0.close();
    }

    pub(super) async fn pass(&self) {
        // An error says that the semaphore was closed, that is, the gate opened.
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

/// What holds for every run of a worker.
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

/// Describes an [`EchoWorker`].
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
        info.capabilities =
            Capabilities { generate: true, resume: true, ..Capabilities::default() };
        Self { info, script: Script::default(), faults: Vec::new() }
    }

    /// Its name; a random one where not given.
    pub fn id(self, id: WorkerId) -> Self {
        self.info(|info| info.id = id)
    }

    /// The hive it belongs to; `local` where not given.
    pub fn hive(self, hive: HiveId) -> Self {
        self.info(|info| info.hive = hive)
    }

    /// How many runs it can do at once; 1 where not given. One more is refused as
    /// [`WorkerBusy`](ErrorKind::WorkerBusy).
    pub fn slots(self, slots: u32) -> Self {
        self.info(|info| info.slots = slots)
    }

    /// What its numbers are said to depend on; `echo` where not given.
    pub fn numerics(self, numerics: &str) -> Self {
        self.info(|info| info.numerics = numerics.into())
    }

    /// Can it continue what another worker began? It can where not given; else it refuses such a run as
    /// [`Unsupported`](ErrorKind::Unsupported).
    pub fn resume(self, resume: bool) -> Self {
        self.info(|info| info.capabilities.resume = resume)
    }

    /// The longest prompt and answer together, in tokens; no limit where not given. A longer prompt is refused as
    /// [`ContextExceeded`](ErrorKind::ContextExceeded), a longer answer ends there.
    pub fn context_tokens(self, tokens: u32) -> Self {
        self.info(|info| info.capabilities.context_tokens = Some(tokens))
    }

    /// It also makes vectors, of this many numbers, which depend on the text alone.
    pub fn embed(mut self, dimensions: usize) -> Self {
        self.script.dimensions = dimensions;
        self.info(|info| info.capabilities.embed = true)
    }

    /// The revision of the hive's state at which it appeared; 0 where not given.
    pub fn since(self, since: u64) -> Self {
        self.info(|info| info.since = since)
    }

    /// Changes anything else of who it is.
    pub fn info(mut self, change: impl FnOnce(&mut WorkerInfo)) -> Self {
        change(&mut self.info);
        self
    }

    /// How long it takes to the first token (tokio's time, so a test can pause it).
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.script.first_delay = delay;
        self
    }

    /// How long it takes from one token to the next (tokio's time, so a test can pause it).
    pub fn token_delay(mut self, delay: Duration) -> Self {
        self.script.token_delay = delay;
        self
    }

    /// Holds every token, and every vector, until the gate lets it pass. The end needs no leave.
    pub fn gate(mut self, gate: &EchoGate) -> Self {
        self.script.gate = Some(gate.clone());
        self
    }

    /// Begins every answer with measurements.
    pub fn metrics(mut self) -> Self {
        self.script.metrics = true;
        self
    }

    /// Gives a heartbeat whenever a run has had nothing to give for so long (tokio's time), unless it hangs by a fault.
    pub fn heartbeats(mut self, every: Duration) -> Self {
        self.script.heartbeat = Some(every);
        self.info(|info| info.capabilities.heartbeats = true)
    }

    /// Leaves the ids of tokens out, as engines do that cannot tell them.
    pub fn without_ids(mut self) -> Self {
        self.script.no_ids = true;
        self
    }

    /// The memory it says it holds, in bytes.
    pub fn vram_bytes(mut self, bytes: u64) -> Self {
        self.script.vram_bytes = Some(bytes);
        self
    }

    /// Answers every run with exactly these outputs, whatever is asked; delays and gate hold each of them back.
    pub fn script(mut self, outputs: impl IntoIterator<Item = Result<Output>>) -> Self {
        self.script.outputs = Some(outputs.into_iter().collect());
        self
    }

    /// A fault that befalls every run.
    pub fn fault(mut self, fault: EchoFault) -> Self {
        self.faults.push(Armed { fault, times: None });
        self
    }

    /// A fault that befalls the first `times` runs; of several, one after the other.
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
