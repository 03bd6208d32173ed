//! The thread that loads a model and runs it, and the async interface to it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{
        Semaphore,
        mpsc::{self, error::TryRecvError},
        oneshot,
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    batch::{
        Clock,
        outlet::{HEARTBEAT, OUTPUTS, Outlet},
        slots::{Slot, Slots},
        steps::{Batch, guarded, panic_message},
    },
    causal_lm::{CausalLm, Frontend},
    embed::{Embedder, Sink},
    files::{LoadFault, Loaded},
    generate::Begun,
    heartbeat::Heartbeat,
    rerank::Reranker,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::Output,
    task::Task,
    worker::Run,
};

/// A loaded model.
#[derive(Debug)]
pub(super) enum Engine {
    /// A model that continues text.
    Text(Box<CausalLm>),
    /// A model that makes vectors.
    Vectors(Box<Embedder>),
    /// A model that scores documents.
    Scores(Box<Reranker>),
}

/// The part of a loaded model that checks runs.
#[derive(Clone, Debug)]
enum Planner {
    Text(Arc<Frontend>),
    Vectors(Arc<Embedder>),
    Scores(Arc<Reranker>),
}

/// A run that was checked against the model.
#[derive(Debug)]
enum Plan {
    Text(Begun),
    Whole(Whole),
}

/// Computes a run, and returns the end; `None` if the run was cancelled.
type Compute = dyn FnOnce(&mut ChannelSink<'_>) -> Result<Option<Output>> + Send;

/// The computation of a run that shares no steps with other runs.
struct Whole(Box<Compute>);

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole").finish_non_exhaustive()
    }
}

impl Planner {
    /// Checks everything about a run that can be refused, before anything is computed.
    fn plan(&self, run: Run) -> Result<Plan> {
        match self {
            Self::Text(frontend) => {
                frontend.plan(run).map(|plan| Plan::Text(plan.begin(&frontend.vocabulary)))
            }
            Self::Vectors(embedder) => {
                let (plan, embedder) = (embedder.plan(&run)?, embedder.clone());
                Ok(Plan::Whole(Whole(Box::new(move |sink| embedder.embed(&plan, sink)))))
            }
            Self::Scores(reranker) => {
                let (plan, reranker) = (reranker.plan(&run)?, reranker.clone());
                Ok(Plan::Whole(Whole(Box::new(move |sink| reranker.rerank(&plan, sink)))))
            }
        }
    }

    /// The number of tokens of a prompt.
    fn count_tokens(&self, task: &Task) -> Result<u32> {
        match (self, task) {
            (Self::Text(frontend), Task::Generate { prompt, .. }) => {
                let tokens = frontend.tokens(prompt)?.len();
                Ok(u32::try_from(tokens).unwrap_or(u32::MAX))
            }
            _ => {
                let message = "tokens are counted of prompts for a model that continues text";
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }
}

/// A run for the thread.
#[derive(Debug)]
enum Command {
    Text(Begun, Outlet),
    Whole(Whole, mpsc::Sender<Result<Output>>, Slot),
}

/// The async interface. Dropping it ends the thread, between two steps if runs are active.
#[derive(Debug)]
pub(super) struct Handle {
    commands: mpsc::Sender<Command>,
    planner: Planner,
    slots: Slots,
    /// Held while the tokens of a prompt are counted, so that counting takes at most one core.
    counting: Arc<Semaphore>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What the thread reports.
#[derive(Debug)]
struct Shared {
    heartbeat: Heartbeat,
    /// The prefix keys whose prompts are cached.
    warm: Mutex<Vec<u64>>,
}

impl Shared {
    fn warm(&self) -> MutexGuard<'_, Vec<u64>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handle {
    /// Starts the thread with its pool of `threads`, and loads there. The loader gets a function that returns true if
    /// the caller has disconnected. A model that continues text has this number of slots, another one has 1.
    pub(super) async fn start<T: Send + 'static>(
        threads: usize,
        slots: u32,
        load: impl FnOnce(&dyn Fn() -> bool) -> Loaded<(Engine, T)> + Send + 'static,
    ) -> Loaded<(Self, T)> {
        let (ready, loaded) = oneshot::channel();
        let (commands, inbox) = mpsc::channel(slots.max(1) as usize);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let shared = Arc::new(Shared { heartbeat: Heartbeat::new(), warm: Mutex::default() });
        let reported = shared.clone();
        // The engine runs on a thread of the pool that its kernels use, so that no step crosses threads needlessly.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("rbee-candle-{index}"))
            .build()
            .map_err(|source| LoadFault::Engine { source: source.into() })?;
        pool.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .map_err(|source| LoadFault::Engine { source: source.into() });
            let gone = || ready.is_closed();
            let result = runtime.and_then(|runtime| {
                // Every file is checked before it is used; this catches failures that the checks do not cover.
                let loaded = catch_unwind(AssertUnwindSafe(|| load(&gone)));
                let (engine, rest) = loaded.unwrap_or_else(|panic| {
                    let what = panic_message(&*panic);
                    Err(LoadFault::Panicked { what })
                })?;
                Ok((engine, rest, runtime))
            });
            let (engine, rest, runtime) = match result {
                Ok(loaded) => loaded,
                // The caller may be gone; then nobody needs the result.
                Err(fault) => return drop(ready.send(Err(fault))),
            };
            let thread = Thread { inbox, stop: &stopped, runtime: &runtime, shared: &reported };
            // A panic that is not of one run alone ends the thread: the streams of all runs end.
            let served = catch_unwind(AssertUnwindSafe(|| match engine {
                Engine::Text(causal_lm) => {
                    let CausalLm { model, frontend } = *causal_lm;
                    let vocabulary = frontend.vocabulary.clone();
                    if ready.send(Ok((Planner::Text(frontend), rest))).is_ok() {
                        thread.serve_text(Batch::new(model, vocabulary, Clock::system()));
                    }
                }
                Engine::Vectors(embedder) => {
                    if ready.send(Ok((Planner::Vectors(embedder.into()), rest))).is_ok() {
                        thread.serve_whole();
                    }
                }
                Engine::Scores(reranker) => {
                    if ready.send(Ok((Planner::Scores(reranker.into()), rest))).is_ok() {
                        thread.serve_whole();
                    }
                }
            }));
            if let Err(panic) = served {
                tracing::error!(message = panic_message(&*panic), "the engine panicked");
            }
        });
        let (planner, rest) =
            loaded.await.map_err(|source| LoadFault::Engine { source: source.into() })??;
        let slots = Slots::new(match planner {
            Planner::Text(_) => slots.max(1),
            Planner::Vectors(_) | Planner::Scores(_) => 1,
        });
        let counting = Arc::new(Semaphore::new(1));
        Ok((Self { commands, planner, slots, counting, shared, stop }, rest))
    }

    /// The most concurrent runs.
    pub(super) fn slots(&self) -> u32 {
        self.slots.most()
    }

    /// The number of active runs.
    pub(super) fn busy(&self) -> u32 {
        self.slots.busy()
    }

    /// The prefix keys whose prompts are cached.
    pub(super) fn warm(&self) -> Vec<u64> {
        self.shared.warm().clone()
    }

    /// The duration of the current step, if it is so long that the step must hang.
    pub(super) fn hangs_for(&self) -> Option<Duration> {
        self.shared.heartbeat.hangs_for()
    }

    /// True if the thread is running.
    pub(super) fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Begins a run. It is checked on a thread for blocking work: the tokens of a long prompt take some time, in which
    /// the engine's thread goes on with the other runs.
    pub(super) async fn execute(&self, run: Run) -> Result<mpsc::Receiver<Result<Output>>> {
        let Some(slot) = self.slots.take() else {
            let message = match self.slots.most() {
                1 => "the worker has 1 slot, and a run is active".into(),
                slots => format!("the worker has {slots} slots, and as many runs are active"),
            };
            return Err(Error::new(ErrorKind::WorkerBusy, message));
        };
        let planner = self.planner.clone();
        // The slot stays taken until the check has ended, also if nobody waits for it any more.
        let check = move || (guarded(|| planner.plan(run)), slot);
        let (plan, slot) = tokio::task::spawn_blocking(check).await.map_err(|_| lost())?;
        let (command, receiver) = match plan? {
            Plan::Text(begun) => {
                let (outlet, receiver) = Outlet::new(slot).ok_or_else(lost)?;
                (Command::Text(begun, outlet), receiver)
            }
            Plan::Whole(whole) => {
                let (outputs, receiver) = mpsc::channel(OUTPUTS + 1);
                (Command::Whole(whole, outputs, slot), receiver)
            }
        };
        // Only holders of slots send, each once, so there is capacity unless the thread is gone.
        self.commands.try_send(command).map_err(|_| lost())?;
        Ok(receiver)
    }
}

impl Handle {
    /// The number of tokens of a prompt, counted on a thread for blocking work.
    pub(super) async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        let permit = self.counting.clone().acquire_owned().await.map_err(|_| lost())?;
        let planner = self.planner.clone();
        // The permit is held until the count has ended, also if nobody waits for it any more.
        let count = move || {
            let _permit = permit;
            guarded(|| planner.count_tokens(&task))
        };
        tokio::task::spawn_blocking(count).await.map_err(|_| lost())?
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::WorkerLost, "the worker's engine has ended")
}

/// The thread's side of the interface.
struct Thread<'a> {
    inbox: mpsc::Receiver<Command>,
    stop: &'a CancellationToken,
    runtime: &'a Runtime,
    shared: &'a Shared,
}

impl Thread<'_> {
    /// Computes steps as long as there are runs, and takes new runs between them.
    fn serve_text(mut self, mut batch: Batch) {
        let Shared { heartbeat, .. } = self.shared;
        let join = |batch: &mut Batch, command| {
            if let Command::Text(run, outlet) = command {
                heartbeat.begin();
                batch.join(run, outlet);
            }
        };
        loop {
            let ended = loop {
                match self.inbox.try_recv() {
                    Ok(command) => join(&mut batch, command),
                    Err(TryRecvError::Empty) => break self.stop.is_cancelled(),
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            if ended {
                heartbeat.pause();
                // What was sent before the end.
                self.inbox.close();
                while let Ok(command) = self.inbox.try_recv() {
                    join(&mut batch, command);
                }
                return batch.close(&lost());
            }
            batch.settle();
            let goes_on = batch.step(heartbeat);
            if let Some(warm) = batch.warm() {
                *self.shared.warm() = warm;
            }
            if goes_on {
                continue;
            }
            heartbeat.pause();
            let command = self.runtime.block_on(async {
                tokio::select! {
                    command = self.inbox.recv() => command,
                    () = self.stop.cancelled() => None,
                    () = batch.changed() => None,
                }
            });
            if let Some(command) = command {
                join(&mut batch, command);
            }
        }
    }

    /// Computes one run after the other.
    fn serve_whole(mut self) {
        let Shared { heartbeat, .. } = self.shared;
        while let Some(command) = self.inbox.blocking_recv() {
            let Command::Whole(Whole(compute), outputs, slot) = command else {
                continue;
            };
            // Reserved capacity for the last output: a slow reader does not keep the thread from its next run.
            let Ok(last) = outputs.clone().try_reserve_owned() else {
                continue;
            };
            heartbeat.begin();
            let (stop, runtime) = (self.stop, self.runtime);
            let mut sink = ChannelSink { outputs, stop, runtime, heartbeat, last: Instant::now() };
            let result = guarded(|| compute(&mut sink));
            heartbeat.pause();
            // Released before the end is sent, so that a reader of the end can begin a new run.
            drop(slot);
            let word = match result {
                Ok(Some(end)) => Ok(end),
                Ok(None) if self.stop.is_cancelled() => Err(lost()),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            last.send(word);
        }
    }
}

struct ChannelSink<'a> {
    outputs: mpsc::Sender<Result<Output>>,
    stop: &'a CancellationToken,
    runtime: &'a Runtime,
    heartbeat: &'a Heartbeat,
    /// The time of the last output.
    last: Instant,
}

impl Sink for ChannelSink<'_> {
    fn put(&mut self, output: Output) -> bool {
        if self.closed() {
            return false;
        }
        self.heartbeat.beat();
        self.last = Instant::now();
        match self.outputs.try_send(Ok(output)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(output)) => {
                self.heartbeat.pause();
                let sent = self.runtime.block_on(async {
                    tokio::select! {
                        sent = self.outputs.send(output) => sent.is_ok(),
                        () = self.stop.cancelled() => false,
                    }
                });
                self.heartbeat.step(0);
                sent
            }
        }
    }

    fn step(&mut self, tokens: usize) {
        self.heartbeat.step(tokens);
    }

    fn beat(&mut self) {
        self.heartbeat.beat();
        if self.last.elapsed() >= HEARTBEAT {
            self.last = Instant::now();
            // A reader that has not taken the last outputs yet knows that the run continues.
            let _ = self.outputs.try_send(Ok(Output::Heartbeat));
        }
    }

    fn closed(&self) -> bool {
        self.outputs.is_closed() || self.stop.is_cancelled()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
