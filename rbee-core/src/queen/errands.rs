//! What the driver has done on a hive, each in a task of its own, bounded in time and always answered.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    loads::Loads,
    mailbox::{Mailbox, Message},
    models::Models,
};
use crate::{
    Error, ErrorKind, HiveBackend, ModelRef, Result, Settings, Worker, WorkerId, WorkerSpec,
    engine::Input, metrics,
};

/// Beyond what the engine waits for: it gives up first, and this ends what was forgotten.
const SLACK: Duration = Duration::from_secs(30);

pub(super) struct Errands {
    pub(super) hive: Arc<dyn HiveBackend>,
    pub(super) mailbox: Mailbox,
    pub(super) settings: Arc<Settings>,
    pub(super) loads: Loads,
    pub(super) models: Models,
    pub(super) kill: CancellationToken,
}

impl Errands {
    fn run(&self, errand: impl Future<Output = Message> + Send + 'static) {
        let mailbox = self.mailbox.clone();
        let errand = async move { mailbox.post(errand.await) };
        tokio::spawn(self.kill.clone().run_until_cancelled_owned(errand));
    }

    pub(super) fn spawn(self, worker: WorkerId, spec: WorkerSpec) {
        let (hive, limit) = (self.hive.clone(), self.settings.spawn_timeout + SLACK);
        let load = self.loads.begin(hive.info().id.clone(), spec.model.clone(), Some(worker));
        let loads = self.loads.clone();
        self.run(async move {
            let spawning = hive.spawn(worker, &spec, load.progress(|| {}));
            let began = Instant::now();
            let spawned = within(limit, "start a worker", spawning).await;
            metrics::spawned(spawned.is_ok(), began.elapsed());
            match spawned {
                Ok(handle) => {
                    let result = Ok(handle.info().clone());
                    Message::Worker {
                        id: worker,
                        worker: handle,
                        then: Input::Spawned { worker, result },
                    }
                }
                Err(error) => {
                    loads.fail(worker, error.clone());
                    Message::Input(Input::Spawned { worker, result: Err(error) })
                }
            }
        });
    }

    pub(super) fn stop(self, worker: WorkerId) {
        let (hive, grace) = (self.hive.clone(), self.settings.abort_grace);
        self.run(async move {
            if let Err(error) = within(grace + SLACK, "stop a worker", hive.stop(worker, grace)).await {
                tracing::warn!(hive = %hive.info().id, %worker, %error, "the worker could not be stopped");
            }
            Message::Input(Input::Stopped { worker })
        });
    }

    pub(super) fn connect(self, worker: WorkerId) {
        let (hive, limit) = (self.hive.clone(), self.settings.probe_timeout + SLACK);
        self.run(async move {
            let connected: Result<Arc<dyn Worker>> =
                within(limit, "connect a worker", hive.worker(worker)).await;
            match connected {
                Ok(handle) => {
                    let then = Input::Connected { worker, result: Ok(()) };
                    Message::Worker { id: worker, worker: handle, then }
                }
                Err(error) => Message::Input(Input::Connected { worker, result: Err(error) }),
            }
        });
    }

    /// A download may take as long as it likes while it makes progress.
    pub(super) fn provision(self, holders: Vec<Arc<dyn HiveBackend>>, model: ModelRef) {
        let (hive, silence) = (self.hive.clone(), self.settings.provision_silence + SLACK);
        let (id, mailbox, name) = (hive.info().id.clone(), self.mailbox.clone(), model.clone());
        let last = Arc::new(Mutex::new(Instant::now()));
        let seen = last.clone();
        let load = self.loads.begin(id.clone(), model.clone(), None);
        let progress = load.progress(move || {
            let mut last = seen.lock().unwrap_or_else(PoisonError::into_inner);
            // The engine need not hear of every block.
            if last.elapsed() >= Duration::from_secs(1) {
                mailbox.input(Input::ProvisionProgress { hive: id.clone(), model: name.clone() });
            }
            *last = Instant::now();
        });
        let models = self.models.clone();
        self.run(async move {
            let mut fetched = Box::pin(guarded(models.put(&hive, &model, holders, progress)));
            let result = loop {
                let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + silence;
                tokio::select! {
                    result = &mut fetched => break result,
                    () = tokio::time::sleep_until(until) => {
                        let since = last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                        if since >= silence {
                            break Err(late("fetch a model", silence));
                        }
                    }
                }
            };
            drop((fetched, load));
            Message::Input(Input::Provisioned { hive: hive.info().id.clone(), model, result })
        });
    }
}

/// Asks a worker how it is. One that panics, or does not answer in time, is not well.
pub(super) fn probe(worker: WorkerId, handle: Arc<dyn Worker>, limit: Duration, mailbox: Mailbox) {
    tokio::spawn(async move {
        let health = AssertUnwindSafe(handle.health()).catch_unwind();
        let fault = |message| Err(Error::new(ErrorKind::WorkerFault, message));
        let result = match tokio::time::timeout(limit, health).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                fault(format!("worker {worker} panicked: {}", super::panic_message(&*panic)))
            }
            Err(_) => fault(format!("worker {worker} did not say how it is within {limit:?}")),
        };
        mailbox.input(Input::Probed { worker, result });
    });
}

fn late(what: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::HiveUnreachable, format!("the hive did not {what} within {limit:?}"))
}

async fn within<T>(
    limit: Duration,
    what: &str,
    errand: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, guarded(errand)).await.map_err(|_| late(what, limit))?
}

/// A backend that panics has failed; it does not take the queen's task with it.
async fn guarded<T>(errand: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(errand).catch_unwind().await.unwrap_or_else(|panic| {
        let message = format!("the hive panicked: {}", super::panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}
