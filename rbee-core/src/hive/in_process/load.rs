//! Loads: each is a task of its own, which callers attach to and nobody owns.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{WorkerFactory, shared::Shared};
use crate::{
    Error, ErrorKind, HiveId, InUse, OutputStream, Progress, ProgressUpdate, Result, Run, Worker,
    WorkerHealth, WorkerId, WorkerInfo, WorkerSpec,
};

/// How long a load that was told to end at once may take to do so.
const FORCED: Duration = Duration::from_secs(1);

type Loaded = Result<Arc<dyn Worker>>;

/// A load under way.
#[derive(Clone, Debug)]
pub(super) struct Load {
    progress: watch::Receiver<Option<ProgressUpdate>>,
    outcome: watch::Receiver<Option<Loaded>>,
    force: CancellationToken,
    /// Nobody wants the worker any more. True in the hive's own copy; others may be older.
    pub(super) given_up: bool,
}

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: WorkerId,
    pub(super) hive: HiveId,
    pub(super) spec: WorkerSpec,
    /// The model in the store, kept there for the worker.
    pub(super) in_use: Option<InUse>,
    pub(super) factory: Arc<dyn WorkerFactory>,
}

impl Load {
    /// Begins. The load is to be put among the hive's before its lock is given up.
    pub(super) fn begin(order: Order, shared: Arc<Shared>) -> Self {
        let (tell_progress, progress) = watch::channel(None);
        let (tell_outcome, outcome) = watch::channel(None);
        let force = CancellationToken::new();
        let forced = force.clone();
        // An engine may keep its progress for life, so that holds no way to the outcome, which holds the engine.
        let tell = Progress::new(move |update| {
            tell_progress.send_replace(Some(update));
        });
        tokio::spawn(async move {
            let loaded = order.load(tell, forced).await;
            tell_outcome.send_replace(Some(order.settle(loaded, &shared)));
        });
        Self { progress, outcome, force, given_up: false }
    }

    /// Waits for the end, and passes on how far it has come.
    pub(super) async fn outcome(mut self, progress: &Progress) -> Loaded {
        let tell = |update: Option<ProgressUpdate>| {
            if let Some(ProgressUpdate { done, total }) = update {
                progress.update(done, total);
            }
        };
        let mut moves = true;
        loop {
            tokio::select! {
                biased;
                () = ended(&mut self.outcome) => {
                    if self.progress.has_changed().unwrap_or(false) {
                        tell(*self.progress.borrow_and_update());
                    }
                    return self.outcome.borrow().clone().unwrap_or_else(|| {
                        let message = "the load was ended with the runtime it ran on";
                        Err(Error::new(ErrorKind::Cancelled, message))
                    });
                }
                changed = self.progress.changed(), if moves => match changed {
                    Ok(()) => tell(*self.progress.borrow_and_update()),
                    Err(_) => moves = false,
                },
            }
        }
    }

    /// Waits for the end, and forces it after `grace`. A factory that blocks its thread cannot be forced; what it
    /// makes in the end is dropped.
    pub(super) async fn end(mut self, grace: Duration) {
        if timeout(grace, ended(&mut self.outcome)).await.is_ok() {
            return;
        }
        self.force.cancel();
        if timeout(FORCED, ended(&mut self.outcome)).await.is_err() {
            tracing::warn!("a load goes on that was told to end; what it makes will be dropped");
        }
    }

    /// Did it end without an outcome, with the runtime it ran on?
    pub(super) fn is_lost(&self) -> bool {
        self.outcome.has_changed().is_err() && self.outcome.borrow().is_none()
    }

    /// Ends it without waiting.
    pub(super) fn force(&self) {
        self.force.cancel();
    }
}

/// Returns when there is an outcome, or nobody left to give one.
async fn ended(outcome: &mut watch::Receiver<Option<Loaded>>) {
    let _ = outcome.wait_for(Option::is_some).await;
}

impl Order {
    async fn load(&self, progress: Progress, forced: CancellationToken) -> Loaded {
        // Called inside the block, so that a panic before the first await is caught too.
        let load = async {
            let factory = &self.factory;
            factory.load(self.id, &self.hive, &self.spec, progress).await
        };
        let loaded = tokio::select! {
            biased;
            () = forced.cancelled() => return Err(self.stopped()),
            loaded = AssertUnwindSafe(load).catch_unwind() => loaded,
        };
        let worker = loaded.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        let (is, shall) = (worker.info(), &self.spec.model);
        if (is.id, &is.hive, &is.model) != (self.id, &self.hive, shall) || is.slots == 0 {
            let message = format!(
                "the worker factory made worker {} of hive {} with {} and {} slots; asked for was worker {} of hive {} \
                 with {shall} and at least 1 slot",
                is.id, is.hive, is.model, is.slots, self.id, self.hive
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(worker)
    }

    /// Puts the worker among the hive's, unless it was given up.
    fn settle(&self, loaded: Loaded, shared: &Shared) -> Loaded {
        let mut unwanted = None;
        let mut outcome = Err(self.stopped());
        shared.change(|state| {
            let given_up = state.loads.remove(&self.id).is_none_or(|load| load.given_up);
            match loaded {
                Ok(worker) if !given_up => {
                    let worker = since(worker, state.rev + 1);
                    state.workers.insert(self.id, worker.clone());
                    if let Some(in_use) = &self.in_use {
                        state.in_use.insert(self.id, in_use.clone());
                    }
                    outcome = Ok(worker);
                    Some(())
                }
                Ok(worker) => {
                    unwanted = Some(worker);
                    None
                }
                Err(error) => {
                    outcome = Err(error);
                    None
                }
            }
        });
        // Outside the lock: what a worker does when it is dropped is not ours to know.
        drop(unwanted);
        outcome
    }

    fn stopped(&self) -> Error {
        let message = format!("worker {} was stopped while it was loading", self.id);
        Error::new(ErrorKind::Cancelled, message)
    }
}

/// The error for a factory that panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word");
    Error::new(ErrorKind::WorkerFault, format!("the worker factory panicked: {words}"))
}

/// The worker, which appeared at this revision.
pub(super) fn since(worker: Arc<dyn Worker>, rev: u64) -> Arc<dyn Worker> {
    Arc::new(Since::new(worker, rev))
}

/// A worker with the revision at which it appeared, which its factory cannot know before it is done.
#[derive(Debug)]
struct Since {
    worker: Arc<dyn Worker>,
    info: Arc<WorkerInfo>,
}

impl Since {
    fn new(worker: Arc<dyn Worker>, since: u64) -> Self {
        let info = WorkerInfo { since, ..WorkerInfo::clone(worker.info()) };
        Self { worker, info: Arc::new(info) }
    }
}

#[async_trait]
impl Worker for Since {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        self.worker.execute(run).await
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.worker.health().await
    }
}
