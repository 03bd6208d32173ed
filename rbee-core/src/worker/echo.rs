//! [`EchoWorker`]: a worker without a model, for tests and for measurements of the code around a worker.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    error::{Error, ErrorKind, Result},
    id::JobId,
    model_ref::ModelRef,
    task::{Prompt, Task},
    worker::{OutputStream, Resume, Run, Worker, WorkerHealth, WorkerInfo},
};

mod script;
mod stream;

pub use script::{EchoBuilder, EchoFault, EchoGate};

use script::{Armed, Script};

/// Prompts whose prefix keys are reported as warm; the least recently seen one is dropped first.
const WARM_PROMPTS: usize = 32;
/// Runs that are remembered; the oldest is dropped first.
const REMEMBERED_RUNS: usize = 1024;

/// A run that an [`EchoWorker`] received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoRun {
    /// The job.
    pub job: JobId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The output of earlier attempts.
    pub resume: Resume,
}

/// A worker without a model: its answers are a function of the job's seed, its faults are scripted, and it remembers
/// its runs.
///
/// Token *p* (from 0) of every answer is [`EchoWorker::token`]`(seed, p)`, also in a continued answer, so a test can
/// detect a continued answer that skips or repeats tokens. The answer has `max_tokens` tokens, 16 if the job sets none,
/// and ends with [`Finish::Length`](crate::Finish::Length); a stop text ends it earlier if it is inside one token. A
/// prompt counts one token for every 4 bytes of text.
///
/// Without delays and gates it uses no timer, and allocates nothing per token except its text.
///
/// ```
/// use rbee_core::{worker::{EchoFault, EchoWorker}, ErrorKind, Worker};
///
/// let worker = EchoWorker::builder("echo".parse()?)
///     .slots(2)
///     .fault_times(EchoFault::Fail { at: 3, kind: ErrorKind::WorkerLost }, 1)
///     .build();
/// assert_eq!(worker.info().slots, 2);
/// assert_eq!(EchoWorker::token(7, 0), EchoWorker::token(7, 0));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Debug)]
pub struct EchoWorker {
    info: Arc<WorkerInfo>,
    script: Arc<Script>,
    state: Arc<State>,
}

/// The state that changes while it works; shared with the runs.
#[derive(Debug, Default)]
struct State {
    active: AtomicU32,
    started: AtomicU64,
    /// Wakes the tasks that wait for a change of the two fields above.
    changed: Notify,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    faults: Vec<Armed>,
    runs: VecDeque<EchoRun>,
    warm: VecDeque<Arc<[u64]>>,
    sick: Option<Error>,
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A test that panics while it holds the lock leaves complete data.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One slot in use; released when the run's stream is dropped.
#[derive(Debug)]
struct Slot(Arc<State>);

impl Slot {
    fn take(state: &Arc<State>, slots: u32) -> Result<Self> {
        state
            .active
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |active| {
                (active < slots).then_some(active + 1)
            })
            .map_err(|active| {
                Error::new(ErrorKind::WorkerBusy, format!("{active} of {slots} slots are taken"))
            })?;
        state.started.fetch_add(1, Ordering::AcqRel);
        state.changed.notify_waiters();
        Ok(Self(state.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl EchoWorker {
    /// A worker of the hive `local` with one slot, no delays and no faults.
    pub fn new(model: ModelRef) -> Arc<Self> {
        Self::builder(model).build()
    }

    /// A builder for a worker.
    pub fn builder(model: ModelRef) -> EchoBuilder {
        EchoBuilder::new(model)
    }

    /// The token at this position (from 0) of every answer with this seed: its id and its text.
    pub fn token(seed: u64, position: u32) -> (u32, String) {
        let id = stream::token_id(seed, position);
        (id, stream::word(id).as_str().to_owned())
    }

    /// The text of the first `tokens` tokens of every answer with this seed.
    pub fn text(seed: u64, tokens: u32) -> String {
        (0..tokens).map(|position| Self::token(seed, position).1).collect()
    }

    /// Current runs: those whose stream is not dropped yet.
    pub fn active(&self) -> u32 {
        self.state.active.load(Ordering::Acquire)
    }

    /// The number of runs that got a slot so far.
    pub fn started(&self) -> u64 {
        self.state.started.load(Ordering::Acquire)
    }

    /// The last runs that got a slot, oldest first; at most 1024 are remembered.
    pub fn runs(&self) -> Vec<EchoRun> {
        self.state.memory().runs.iter().cloned().collect()
    }

    /// Waits until exactly this many runs are active.
    pub async fn until_active(&self, runs: u32) {
        self.until(|worker| worker.active() == runs).await;
    }

    /// Waits until at least this many runs got a slot.
    pub async fn until_started(&self, runs: u64) {
        self.until(|worker| worker.started() >= runs).await;
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.state.changed.notified());
            // Registered before the check, so that no change is lost between the two.
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    /// Applies this fault to the next `times` runs; faults injected earlier are applied first.
    pub fn inject(&self, fault: EchoFault, times: u32) {
        self.state.memory().faults.push(Armed::new(fault, times));
    }

    /// Removes every fault, also those for all runs. Current runs keep theirs.
    pub fn heal(&self) {
        self.state.memory().faults.clear();
    }

    /// Makes [`health`](Worker::health) fail with this error, until it is set to `None`.
    pub fn set_health_error(&self, error: Option<Error>) {
        self.state.memory().sick = error;
    }

    /// Remembers the run and takes its fault.
    fn admit(&self, run: &Run) -> Option<EchoFault> {
        let mut memory = self.state.memory();
        if memory.runs.len() == REMEMBERED_RUNS {
            memory.runs.pop_front();
        }
        memory.runs.push_back(EchoRun {
            job: run.job.id,
            attempt: run.attempt,
            resume: run.resume.clone(),
        });
        let prefix = &run.job.prefix;
        if !prefix.is_empty() {
            if let Some(at) = memory.warm.iter().position(|seen| seen == prefix) {
                memory.warm.remove(at);
            } else if memory.warm.len() == WARM_PROMPTS {
                memory.warm.pop_front();
            }
            memory.warm.push_back(prefix.clone());
        }
        script::next_fault(&mut memory.faults)
    }
}

#[async_trait]
impl Worker for EchoWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let slot = Slot::take(&self.state, self.info.slots)?;
        let fault = self.admit(&run);
        match fault {
            Some(EchoFault::Refuse(kind)) => {
                return Err(Error::new(kind, "the echo worker refuses, as scripted"));
            }
            Some(EchoFault::PanicInExecute) => {
                panic!("the echo worker panics in execute, as scripted")
            }
            Some(EchoFault::HangInExecute) => std::future::pending().await,
            _ => {}
        }
        if matches!(&run.job.task, Task::Generate { prompt: Prompt::Chat(chat), .. } if chat.messages.is_empty())
        {
            let message = "messages is empty; allowed is at least one message";
            return Err(Error::for_client(ErrorKind::InvalidRequest, message));
        }
        stream::answer(&self.info, self.script.clone(), run, fault, slot)
    }

    async fn health(&self) -> Result<WorkerHealth> {
        let memory = self.state.memory();
        if let Some(error) = &memory.sick {
            return Err(error.clone());
        }
        Ok(WorkerHealth {
            busy: self.active(),
            warm: memory.warm.iter().flat_map(|keys| keys.iter().copied()).collect(),
            vram_bytes: self.script.vram_bytes,
        })
    }

    /// One token for every four bytes of text, rounded up, as in the usage of its runs.
    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        Ok(stream::prompt_tokens(&task))
    }
}
