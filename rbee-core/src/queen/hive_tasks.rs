//! Operations on hives for the driver, each in its own task, limited in time and always answered.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    inbox::{Inbox, Message},
    load_progress::{LoadTracker, Work},
    model_locator::{ModelLocator, Readers},
};
use crate::{
    engine::{HiveFact, Input},
    error::{Error, ErrorKind, Result},
    hive::HiveBackend,
    id::WorkerId,
    metrics,
    model_ref::ModelRef,
    settings::Settings,
    within::within,
    worker::Worker,
    worker_spec::WorkerSpec,
};

/// Time beyond the engine's own timeouts: the engine gives up first, and this ends tasks that it has forgotten.
const SLACK: Duration = Duration::from_secs(30);
/// The shortest interval between two progress reports of a download to the engine.
const TOLD_EVERY: Duration = Duration::from_secs(1);

pub(super) struct HiveTasks {
    pub(super) hive: Arc<dyn HiveBackend>,
    pub(super) inbox: Inbox,
    pub(super) settings: Arc<Settings>,
    pub(super) loads: LoadTracker,
    pub(super) models: ModelLocator,
    pub(super) kill: CancellationToken,
}

impl HiveTasks {
    fn run(&self, task: impl Future<Output = Message> + Send + 'static) {
        let inbox = self.inbox.clone();
        let task = async move { inbox.send(task.await) };
        tokio::spawn(self.kill.clone().run_until_cancelled_owned(task));
    }

    pub(super) fn spawn(self, worker: WorkerId, spec: WorkerSpec) {
        let (hive, limit) = (self.hive.clone(), self.settings.spawn_timeout + SLACK);
        let model = spec.model.clone();
        let load = self.loads.begin(Work::Load, hive.info().id.clone(), model, Some(worker));
        let loads = self.loads.clone();
        self.run(async move {
            let spawning = hive.spawn(worker, &spec, load.progress(|| {}));
            let began = Instant::now();
            let spawned = in_time(&*hive, limit, "start a worker", spawning).await;
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
            let stopping = hive.stop(worker, grace);
            if let Err(error) = in_time(&*hive, grace + SLACK, "stop a worker", stopping).await {
                tracing::warn!(hive = %hive.info().id, %worker, %error, "the worker could not be stopped");
            }
            Message::Input(Input::Stopped { worker })
        });
    }

    pub(super) fn connect(self, worker: WorkerId) {
        let (hive, limit) = (self.hive.clone(), self.settings.probe_timeout + SLACK);
        self.run(async move {
            let connected: Result<Arc<dyn Worker>> =
                in_time(&*hive, limit, "connect a worker", hive.worker(worker)).await;
            match connected {
                Ok(handle) => {
                    let then = Input::Connected { worker, result: Ok(()) };
                    Message::Worker { id: worker, worker: handle, then }
                }
                Err(error) => Message::Input(Input::Connected { worker, result: Err(error) }),
            }
        });
    }

    /// Fetches a model. A download has no time limit as long as it makes progress.
    pub(super) fn provision(
        self,
        holders: Vec<Arc<dyn HiveBackend>>,
        model: ModelRef,
        readers: Readers,
    ) {
        let (hive, silence) = (self.hive.clone(), self.settings.provision_silence + SLACK);
        let (id, inbox, name) = (hive.info().id.clone(), self.inbox.clone(), model.clone());
        let (signs, told) = (Signs::new(), Signs::new());
        let load = self.loads.begin(Work::Load, id.clone(), model.clone(), None);
        let seen = signs.clone();
        let progress = load.progress(move || {
            seen.note();
            if told.note_after(TOLD_EVERY) {
                inbox.input(Input::ProvisionProgress { hive: id.clone(), model: name.clone() });
            }
        });
        let models = self.models.clone();
        self.run(async move {
            let fetched = models.put(&hive, &model, holders, readers, progress);
            let result = while_it_moves(&*hive, &model, silence, &signs, fetched).await;
            drop(load);
            Message::Input(Input::Provisioned { hive: hive.info().id.clone(), model, result })
        });
    }

    /// Verifies a model. There is no time limit as long as it makes progress.
    pub(super) fn verify(self, model: ModelRef) {
        let (hive, silence) = (self.hive.clone(), self.settings.provision_silence);
        let (id, signs) = (hive.info().id.clone(), Signs::new());
        let load = self.loads.begin(Work::Verify, id, model.clone(), None);
        let seen = signs.clone();
        let progress = load.progress(move || seen.note());
        let (inbox, limit) = (self.inbox.clone(), self.settings.probe_timeout);
        self.run(async move {
            let verified = hive.verify(&model, progress);
            let result = while_it_moves(&*hive, &model, silence, &signs, verified).await;
            drop(load);
            if result.as_ref().is_ok_and(|damage| !damage.is_empty()) {
                report(&*hive, limit, &inbox).await;
            }
            Message::Input(Input::Verified { hive: hive.info().id.clone(), model, result })
        });
    }

    pub(super) fn remove_model(self, model: ModelRef) {
        let (hive, limit) = (self.hive.clone(), self.settings.probe_timeout);
        let inbox = self.inbox.clone();
        self.run(async move {
            let removing = hive.remove_model(&model);
            let what = format!("remove model {model}");
            let result = in_time(&*hive, limit, &what, removing).await;
            if result.is_ok() {
                report(&*hive, limit, &inbox).await;
            }
            Message::Input(Input::ModelRemoved { hive: hive.info().id.clone(), model, result })
        });
    }
}

/// Reports the hive's current state to the engine, so that it is visible before the operation is answered.
async fn report(hive: &dyn HiveBackend, limit: Duration, inbox: &Inbox) {
    match in_time(hive, limit, "report", hive.report()).await {
        Ok(report) => {
            let fact = HiveFact::Report(Box::new(report));
            inbox.input(Input::Hive { hive: hive.info().id.clone(), fact });
        }
        // The task that watches it notices if it is unreachable.
        Err(error) => tracing::warn!(hive = %hive.info().id, %error, "the hive does not report"),
    }
}

/// The time of the last progress.
#[derive(Clone, Debug)]
struct Signs(Arc<Mutex<Instant>>);

impl Signs {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Notes progress, and returns true, if the last note is at least `pause` old.
    fn note_after(&self, pause: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.elapsed() >= pause;
        if is_due {
            *last = Instant::now();
        }
        is_due
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of the work; a timeout error if it makes no progress for `silence`.
async fn while_it_moves<T>(
    hive: &dyn HiveBackend,
    model: &ModelRef,
    silence: Duration,
    signs: &Signs,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = Box::pin(guarded(work));
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep_until(signs.last() + silence) => {
                if signs.last().elapsed() >= silence {
                    let hive = &hive.info().id;
                    let message = format!("hive {hive} made no progress with {model} for {silence:?}");
                    return Err(Error::new(ErrorKind::HiveUnreachable, message));
                }
            }
        }
    }
}

/// Probes a worker. A worker that panics, or does not answer in time, counts as not healthy.
pub(super) fn probe(worker: WorkerId, handle: Arc<dyn Worker>, limit: Duration, inbox: Inbox) {
    tokio::spawn(async move {
        let health = AssertUnwindSafe(handle.health()).catch_unwind().map(|health| {
            health.unwrap_or_else(|panic| {
                let message =
                    format!("worker {worker} panicked: {}", super::panic_message(&*panic));
                Err(Error::new(ErrorKind::WorkerFault, message))
            })
        });
        let what = format!("worker {worker} did not report its health");
        let result = within(limit, ErrorKind::WorkerFault, what, health).await;
        inbox.input(Input::Probed { worker, result });
    });
}

async fn in_time<T>(
    hive: &dyn HiveBackend,
    limit: Duration,
    what: &str,
    task: impl Future<Output = Result<T>>,
) -> Result<T> {
    let what = format!("hive {} did not {what}", hive.info().id);
    within(limit, ErrorKind::HiveUnreachable, what, guarded(task)).await
}

/// Turns a panic of a backend into an error, so that the queen's task goes on.
async fn guarded<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(task).catch_unwind().await.unwrap_or_else(|panic| {
        let message = format!("the hive panicked: {}", super::panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::hive::InProcessHive;

    const SILENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_engine_hears_of_progress_once_a_second_however_quickly_it_comes() {
        let told = Signs::new();
        let mut heard = 0;
        for _ in 0..100 {
            advance(Duration::from_millis(100)).await;
            heard += u32::from(told.note_after(TOLD_EVERY));
        }
        assert_eq!(heard, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn work_may_take_long_while_it_moves_and_is_given_up_when_it_stands_still() {
        let (hive, model, signs) = (InProcessHive::new(), "bee".parse().unwrap(), Signs::new());
        let moving = async {
            for _ in 0..5 {
                sleep(SILENCE / 2).await;
                signs.note();
            }
            sleep(SILENCE / 2).await;
            Ok(7)
        };
        assert_eq!(while_it_moves(&hive, &model, SILENCE, &signs, moving).await, Ok(7));
        signs.note();
        let began = Instant::now();
        let still = std::future::pending::<Result<u32>>();
        let error = while_it_moves(&hive, &model, SILENCE, &signs, still).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::HiveUnreachable, SILENCE));
        assert_eq!(error.message(), "hive local made no progress with bee for 10s");
    }
}
