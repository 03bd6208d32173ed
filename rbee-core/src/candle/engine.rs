//! The thread that loads a model and runs it, and the async interface to it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{
    causal_lm::CausalLm,
    embed::{self, Embedder},
    files::{LoadFault, Loaded},
    generate::{self, Sink, generate},
    heartbeat::Heartbeat,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::Output,
    worker::Run,
};

/// The most outputs that wait for their reader; more stall only this run.
const OUTPUTS: usize = 8;
/// After this time without an output, the next finished step sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A loaded model.
#[derive(Debug)]
pub(super) enum Engine {
    /// A model that continues text.
    Text(Box<CausalLm>),
    /// A model that makes vectors.
    Vectors(Box<Embedder>),
}

/// A run that was checked against the model.
enum Plan {
    Text(generate::Plan),
    Vectors(embed::Plan),
}

impl Engine {
    /// Checks everything about a run that can be refused, before anything is computed.
    fn plan(&self, run: Run) -> Result<Plan> {
        match self {
            Self::Text(causal_lm) => causal_lm.plan(run).map(Plan::Text),
            Self::Vectors(embedder) => embedder.plan(&run).map(Plan::Vectors),
        }
    }

    /// Runs to the end, which is returned; `None` if the run was cancelled.
    fn run(&self, plan: &Plan, sink: &mut impl Sink) -> Result<Option<Output>> {
        match (self, plan) {
            (Self::Text(causal_lm), Plan::Text(plan)) => generate(&causal_lm.model, plan, sink),
            (Self::Vectors(embedder), Plan::Vectors(plan)) => embedder.embed(plan, sink),
            _ => Err(Error::new(ErrorKind::Internal, "the plan of a run is another engine's")),
        }
    }
}

/// The right to the only run at a time; released when dropped.
#[derive(Debug)]
struct Slot(Arc<AtomicBool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

struct Command {
    run: Run,
    /// Whether the run was accepted.
    reply: oneshot::Sender<Result<()>>,
    outputs: mpsc::Sender<Result<Output>>,
    slot: Slot,
}

/// The async interface. Dropping it ends the thread, between two tokens if a run is active.
#[derive(Debug)]
pub(super) struct Handle {
    commands: mpsc::Sender<Command>,
    busy: Arc<AtomicBool>,
    heartbeat: Arc<Heartbeat>,
    stop: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handle {
    /// Starts the thread with its pool of `threads`, and loads there. The loader gets a function that returns true if
    /// the caller has disconnected.
    pub(super) async fn start<T: Send + 'static>(
        threads: usize,
        load: impl FnOnce(&dyn Fn() -> bool) -> Loaded<(Engine, T)> + Send + 'static,
    ) -> Loaded<(Self, T)> {
        let (ready, loaded) = oneshot::channel();
        let (commands, inbox) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let heartbeat = Arc::new(Heartbeat::new());
        let beaten = heartbeat.clone();
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
            match result {
                Ok((engine, rest, runtime)) => {
                    if ready.send(Ok(rest)).is_ok() {
                        serve(&engine, inbox, &stopped, &runtime, &beaten);
                    }
                }
                // The caller may be gone; then nobody needs the result.
                Err(fault) => drop(ready.send(Err(fault))),
            }
        });
        let rest = loaded.await.map_err(|source| LoadFault::Engine { source: source.into() })??;
        let busy = Arc::new(AtomicBool::new(false));
        Ok((Self { commands, busy, heartbeat, stop }, rest))
    }

    /// True if a run is active.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// The duration of the current step, if it is so long that the step must hang.
    pub(super) fn hangs_for(&self) -> Option<Duration> {
        self.heartbeat.hangs_for()
    }

    /// True if the thread is running.
    pub(super) fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Begins a run.
    pub(super) async fn execute(&self, run: Run) -> Result<mpsc::Receiver<Result<Output>>> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Error::new(
                ErrorKind::WorkerBusy,
                "the worker has 1 slot, and a run is active",
            ));
        }
        let slot = Slot(self.busy.clone());
        let (reply, accepted) = oneshot::channel();
        let (outputs, receiver) = mpsc::channel(OUTPUTS + 1);
        let command = Command { run, reply, outputs, slot };
        // Only the holder of the slot sends, so there is capacity unless the thread is gone.
        self.commands.try_send(command).map_err(|_| lost())?;
        accepted.await.map_err(|_| lost())??;
        Ok(receiver)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::WorkerLost, "the worker's engine has ended")
}

fn serve(
    engine: &Engine,
    mut inbox: mpsc::Receiver<Command>,
    stop: &CancellationToken,
    runtime: &Runtime,
    heartbeat: &Heartbeat,
) {
    while let Some(Command { run, reply, outputs, slot }) = inbox.blocking_recv() {
        // Reserved capacity for the last output: a slow reader does not keep the thread from its next run.
        let Ok(last) = outputs.clone().try_reserve_owned() else {
            continue;
        };
        heartbeat.begin();
        let plan = guarded(|| engine.plan(run));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                heartbeat.pause();
                drop(slot);
                drop(reply.send(Err(error)));
                continue;
            }
        };
        if reply.send(Ok(())).is_err() {
            heartbeat.pause();
            continue;
        }
        let mut sink = ChannelSink { outputs, stop, runtime, heartbeat, last: Instant::now() };
        let result = guarded(|| engine.run(&plan, &mut sink));
        heartbeat.pause();
        // Released before the end is sent, so that a reader of the end can begin a new run.
        drop((plan, slot));
        let word = match result {
            Ok(Some(end)) => Ok(end),
            Ok(None) if stop.is_cancelled() => Err(lost()),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        last.send(word);
    }
}

/// Runs a step; a panic in it is a fault of this run alone.
fn guarded<T>(step: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let message = format!("the engine panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::WorkerFault, message))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    super::files::shown(text.unwrap_or_else(|| "without a message".into()))
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
