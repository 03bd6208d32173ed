//! Load orders and their execution.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{
    factory::WorkerFactory,
    load::{Load, Loaded, Loading},
    shared::Shared,
};
use crate::{
    error::{Error, ErrorKind, Result},
    hive::WorkerSpec,
    id::{HiveId, WorkerId},
    model_ref::{ModelRef, ModelSource},
    models::InUse,
    progress::Progress,
    task::Task,
    worker::{OutputStream, Run, Worker, WorkerHealth, WorkerInfo},
};

/// The order to load a worker.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: WorkerId,
    pub(super) hive: HiveId,
    pub(super) spec: WorkerSpec,
    /// The model in the store, kept there as long as the worker exists.
    pub(super) in_use: Option<InUse>,
    pub(super) factory: Arc<dyn WorkerFactory>,
}

impl Order {
    /// Begins the load, in a separate task. Insert it into the hive's loads before the lock of the hive is released.
    pub(super) fn begin(self, shared: Arc<Shared>) -> Load {
        let (load, Loading { progress, outcome, force }) = Load::new();
        // An engine may keep its progress for its whole lifetime, so this must not hold the result, which holds the
        // engine.
        let progress = Progress::new(move |update| {
            progress.send_replace(Some(update));
        });
        tokio::spawn(async move {
            let loaded = self.load(progress, force).await;
            outcome.send_replace(Some(self.settle(loaded, &shared)));
        });
        load
    }

    async fn load(&self, progress: Progress, forced: CancellationToken) -> Loaded {
        // Called inside the block, so that a panic before the first await is also caught.
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

    /// Adds the worker to the hive, unless the load was abandoned.
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
                    let is_no_model =
                        self.in_use.is_none() && refuses_file(&self.spec.model, &error);
                    outcome = Err(error);
                    // A worker of it may run all the same, if its files were changed since.
                    let mut workers = state.workers.values();
                    let is_loaded = workers.any(|worker| worker.info().model == self.spec.model);
                    (is_no_model && !is_loaded)
                        .then(|| state.models.remove(&self.spec.model))
                        .flatten()
                        .map(drop)
                }
            }
        });
        // Outside the lock: the drop of a worker may run any code.
        drop(unwanted);
        outcome
    }

    fn stopped(&self) -> Error {
        let message = format!("worker {} was stopped while it was loading", self.id);
        Error::new(ErrorKind::Cancelled, message)
    }
}

/// True if a path that someone typed proved to be no model that the engine can load. It is not listed as a model then.
fn refuses_file(model: &ModelRef, error: &Error) -> bool {
    let is_refusal = matches!(
        error.kind(),
        ErrorKind::ModelNotFound | ErrorKind::ModelIncompatible | ErrorKind::Unsupported
    );
    is_refusal && matches!(model.source(), ModelSource::File(_))
}

/// The error for a factory that panicked.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    Error::new(ErrorKind::WorkerFault, format!("the worker factory panicked: {words}"))
}

/// The worker, with this revision as the one at which it appeared.
pub(super) fn since(worker: Arc<dyn Worker>, rev: u64) -> Arc<dyn Worker> {
    Arc::new(Since::new(worker, rev))
}

/// A worker with the revision at which it appeared, which its factory cannot know in advance.
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

    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.worker.count_tokens(task).await
    }
}
