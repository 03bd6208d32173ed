//! The queen: the async shell around the [engine](crate::engine), and what an application talks to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::ClusterView,
    engine::{Counters, StoreFault},
    error::{Error, ErrorKind, Result, panic_message},
    hive::HiveBackend,
    id::{JobId, QueenId, WorkerId},
    job::JobStatus,
    model_info::ModelInfo,
    model_ref::{ModelRef, ModelSource},
    registry::{HiveRecord, JobFilter, JobRecord, Registry},
    request::Request,
    scheduler::{Ask, Explanation, LeastLoaded, Scheduler},
    settings::Settings,
    time::{Now, Time, WallTime},
};

mod attempt;
mod builder;
mod decision_history;
mod driver;
mod fleet;
mod handle;
mod hive_tasks;
mod inbox;
mod load_progress;
mod log;
mod logs;
mod models;
mod monitor;
mod placement;
mod policies;
mod policy;
mod replays;
mod rhythm;
mod submit;
mod tenants;
mod writer;

pub use crate::engine::PolicyHealth;
pub use builder::QueenBuilder;
pub use decision_history::Decision;
pub use handle::{JobAnswer, JobHandle};
pub use load_progress::LoadProgress;
pub use log::JobEvents;
pub use policies::{DryRunDecision, MAX_POLICY_BYTES, PolicyDryRun, PolicyStatus};
pub use replays::PolicyReplay;
pub use tenants::{TenantKey, TenantSummary};

use decision_history::DecisionHistory;
use inbox::{Inbox, Message};
use load_progress::LoadTracker;
use log::EventLog;
use logs::Logs;
use models::{Grant, Models};
use policy::Reign;
use tenants::TenantIndex;

pub use crate::engine::HiveSummary;
pub use crate::load_request::LoadRequest;

/// The orchestrator, inside the application's own process. Cloning gives another handle on the same one.
///
/// It runs on the tokio runtime it was built on. When the last handle (also of a job) is dropped it stops where it is,
/// as if the process had ended; [`shutdown`](Self::shutdown) is the orderly way.
///
/// ```
/// use rbee_core::{Queen, Request};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rbee_core::Result<()> {
/// # let my_worker = rbee_core::worker::EchoWorker::builder("my-model".parse()?).build();
///
/// let queen = Queen::builder().worker(my_worker).build().await?;
/// let mut answer = queen.submit(Request::chat("my-model").user("Hi")).await?;
/// while let Some(text) = answer.next_text().await? {
///     print!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Queen {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: QueenId,
    inbox: Inbox,
    logs: Arc<Logs>,
    loads: LoadTracker,
    registry: Arc<dyn Registry>,
    reign: Reign,
    built_in: LeastLoaded,
    fixed_policy: bool,
    /// What decides where neither an operator nor an earlier version does: what the application brings.
    own_policy: Mutex<Arc<dyn Scheduler>>,
    /// One change of the policy at a time.
    policy_change: Arc<tokio::sync::Mutex<()>>,
    /// One replay at a time.
    replays: Arc<tokio::sync::Semaphore>,
    decisions: DecisionHistory,
    tenants: TenantIndex,
    settings: Arc<Settings>,
    aliases: BTreeMap<String, ModelRef>,
    models: Models,
    restored: Vec<JobId>,
    remembered: Vec<HiveRecord>,
    /// Ends every task but the writer, which ends when it has written what was handed in.
    kill: CancellationToken,
    /// The store is to look as after a kill.
    #[cfg_attr(not(feature = "test-util"), expect(dead_code, reason = "only a test crashes"))]
    crashed: CancellationToken,
    /// The writer's task.
    written: Mutex<Option<JoinHandle<Result<()>>>>,
    /// When the queen's clock stood at zero.
    began: Instant,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.kill.cancel();
        // Nobody writes to them any more, so nobody is to wait for it.
        for (job, log) in self.logs.live() {
            log.interrupt(driver::interrupted(job, &inbox::gone(), false));
        }
    }
}

impl Queen {
    /// Begins to put a queen together.
    pub fn builder() -> QueenBuilder {
        QueenBuilder::default()
    }

    /// Her name.
    pub fn id(&self) -> &QueenId {
        &self.shared.id
    }

    /// Her settings.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What decides where jobs go.
    pub fn scheduler(&self) -> Arc<dyn Scheduler> {
        self.shared.reign.look().scheduler
    }

    /// The present moment on the clock that the [cluster](Self::cluster)'s times are of.
    pub fn now(&self) -> Time {
        time_since(self.shared.began)
    }

    /// Jobs that an earlier life had left in the registry and that run again, or are ended, in this one.
    pub fn restored(&self) -> &[JobId] {
        &self.shared.restored
    }

    /// The names that models go by here.
    pub fn aliases(&self) -> &BTreeMap<String, ModelRef> {
        &self.shared.aliases
    }

    /// The model that this name or reference stands for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where it is neither.
    pub fn resolve(&self, name: &str) -> Result<ModelRef> {
        self.shared.aliases.get(name).map_or_else(|| name.parse(), |model| Ok(model.clone()))
    }

    /// The same, as a hive can be given it: a reference to a hub names the commit, and the file where there are several,
    /// that it stands for now. One that a hive has under this very name stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where it is no reference, [`ErrorKind::ModelNotFound`] where the hub has no such
    /// model, [`ErrorKind::Unauthorized`] or [`ErrorKind::PermissionDenied`] where it gives it to others alone,
    /// [`ErrorKind::HubUnreachable`] where it does not answer and no hive has the model.
    pub async fn locate(&self, name: &str) -> Result<ModelRef> {
        self.locate_on_word(name, Grant::Operator).await
    }

    async fn locate_on_word(&self, name: &str, grant: Grant) -> Result<ModelRef> {
        let model = self.resolve(name)?;
        match model.source() {
            ModelSource::Hub { .. } => {
                self.shared.models.pinned(model, grant, &self.cluster().await?).await
            }
            _ => Ok(model),
        }
    }

    /// The events of a job, after the one of this number or from the beginning. Works while the job runs, and after
    /// its end for as long as its events are kept; those of a job that is [detached](Request::detached) or has an
    /// [idempotency key](Request::idempotency_key) as long as its record.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such job, or its events are gone.
    pub async fn attach(&self, job: JobId, after: Option<u64>) -> Result<JobEvents> {
        if let Some(log) = self.shared.logs.get(job) {
            return Ok(log.read(after));
        }
        let record = self.job(job).await?;
        let gone = |why: &str| {
            Err(Error::for_client(
                ErrorKind::NotFound,
                format!("the events of job {job} are not here: {why}"),
            ))
        };
        let JobStatus::Ended(ended) = &record.status else {
            return gone("another queen runs it");
        };
        if !record.has_whole_output() {
            return gone("they are no longer kept");
        }
        Ok(self.shared.logs.share(job, EventLog::of_ended(&record, ended)).read(after))
    }

    /// Ends a job. One that has ended already, or was never there, stays as it is.
    pub fn cancel(&self, job: JobId) {
        self.post_cancel(job);
    }

    /// What is recorded of a job.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such job.
    pub async fn job(&self, job: JobId) -> Result<JobRecord> {
        let found = self.shared.registry.jobs(&JobFilter::one(job)).await?;
        let missing =
            || Error::for_client(ErrorKind::NotFound, format!("job {job} does not exist"));
        found.into_iter().next().ok_or_else(missing)
    }

    /// Lists what is recorded of jobs.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        self.shared.registry.jobs(filter).await
    }

    /// How many jobs of the same model, tenant and priority go before this one; `None` where it is not waiting.
    pub async fn position(&self, job: JobId) -> Result<Option<usize>> {
        self.look(move |engine| engine.position(job)).await
    }

    /// The cluster as it is now.
    pub async fn cluster(&self) -> Result<ClusterView> {
        self.look(|engine| engine.view().clone()).await
    }

    /// What the files of a model say about it, where a hive has the model; `name` is an alias or a reference.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] where no hive has it, or none could read its files.
    pub async fn model_info(&self, name: &str) -> Result<Arc<ModelInfo>> {
        let model = self.resolve(name)?;
        let cluster = self.cluster().await?;
        let mut held = cluster.hives().flat_map(|hive| hive.models.values());
        let found = held.find_map(|held| held.info.clone().filter(|_| held.model.is_of(&model)));
        found.ok_or_else(|| {
            let message = format!("no hive has model {model}, or could read what its files say");
            Error::new(ErrorKind::ModelNotFound, message)
        })
    }

    /// What is being fetched and loaded at this moment, and how far it has come.
    pub fn loads(&self) -> Vec<LoadProgress> {
        self.shared.loads.all()
    }

    /// Why a worker that was to be started is not there; `None` for one whose start did not fail, or not among the
    /// last of them.
    pub fn load_failure(&self, worker: WorkerId) -> Option<Error> {
        self.shared.loads.failure(worker)
    }

    /// Why the store cannot be written at the moment; `None` while it can. No job is admitted meanwhile.
    pub async fn store_fault(&self) -> Result<Option<StoreFault>> {
        self.look(|engine| engine.store_fault().cloned()).await
    }

    /// Tries whether the store can be written now.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if it cannot, [`ErrorKind::Fenced`] if another queen has taken over.
    pub async fn check_store(&self) -> Result<()> {
        let epoch = self.look(|engine| engine.epoch()).await?;
        self.shared.registry.record(epoch, &[]).await
    }

    /// How much of everything there is.
    pub async fn counters(&self) -> Result<Counters> {
        self.look(|engine| engine.counters()).await
    }

    /// Sets the gauges of the metrics (feature `metrics`) to what is so at this moment; counters and histograms keep
    /// themselves. To be called before they are read, or every few seconds.
    pub async fn measure(&self) -> Result<()> {
        let look = |engine: &crate::engine::Engine| {
            let store_failed = engine.store_fault().is_some();
            (engine.view().clone(), engine.counters(), engine.waiting_by_priority(), store_failed)
        };
        let (view, counters, waiting, store_failed) = self.look(look).await?;
        crate::metrics::gauges(&view, counters, waiting, store_failed);
        Ok(())
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&crate::engine::Engine) -> T + Send + 'static,
    ) -> Result<T> {
        self.shared
            .inbox
            .ask(|reply| {
                Message::Look(Box::new(move |engine| {
                    let _ = reply.send(look(engine));
                }))
            })
            .await
    }

    /// Where the scheduler would send this request now, and why. Nothing is submitted.
    ///
    /// # Errors
    /// As [`submit`](Self::submit) for a request that is not allowed.
    pub async fn explain(&self, request: Request) -> Result<Explanation> {
        let job = Arc::new(self.check(request).await?);
        let cluster = self.cluster().await?;
        let now = Now { at: time_since(self.shared.began), wall: WallTime::now() };
        let ask = Ask::first(job, now, fresh_seed());
        let scheduler = self.scheduler();
        policies::aside(move || policy::guarded(|| Ok(scheduler.explain(&ask, &cluster)))).await?
    }

    /// Goes down in order: admits no more jobs, gives those that are there `grace` to end, stops the hives with their
    /// workers, and gives up the ownership of the store.
    ///
    /// A job that has not ended by then is left in the registry for the next life if somebody can come back for it: it is
    /// [detached](Request::detached) or has an [idempotency key](Request::idempotency_key). Its readers get no terminal event;
    /// their events [break off](JobEvents::interruption). A job whose handle waits for it and that is neither ends with
    /// [`ErrorKind::ShuttingDown`], recorded before the handle is told, so that nothing is run later for nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the store did not take the last changes; the jobs whose ends are among them are logged,
    /// and run again at the next start. Everything else is done all the same.
    pub async fn shutdown(&self, grace: Duration) -> Result<()> {
        let drained = self.shared.inbox.ask(|drained| Message::Drain { drained });
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::info!("jobs that had not ended within {grace:?} are left for the next start");
        }
        let (hives, written) = self.end().await?;
        let stops = hives.iter().map(|hive| async {
            if let Err(error) = hive.shutdown(self.shared.settings.abort_grace).await {
                tracing::warn!(hive = %hive.info().id, %error, "the hive could not be stopped");
            }
        });
        futures_util::future::join_all(stops).await;
        written
    }

    /// Hands over to another queen on the same registry: takes no more turns from this moment, writes what is to be
    /// written, and gives up the ownership. The hives and their workers go on. Jobs that have not ended go on or end as with
    /// [`shutdown`](Self::shutdown).
    pub async fn hand_over(&self) -> Result<()> {
        self.end().await?.1
    }

    /// Stops turning, writes what is to be written, and gives up the ownership of the store. Gives the hives, and
    /// whether everything is written.
    async fn end(&self) -> Result<(Vec<Arc<dyn HiveBackend>>, Result<()>)> {
        let why = Error::new(ErrorKind::ShuttingDown, "the queen goes down");
        let hives = self.shared.inbox.ask(|reply| Message::Freeze { reply, why }).await?;
        self.shared.kill.cancel();
        let written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(written) = written else { return Ok((hives, Ok(()))) };
        let written = match tokio::time::timeout(WRITER_TIMEOUT, written).await {
            Ok(written) => written.unwrap_or_else(|cause| {
                let message = "the task that writes to the registry broke off";
                Err(Error::new(ErrorKind::Internal, message).with_source(cause))
            }),
            Err(_) => {
                let message =
                    format!("the registry did not take the last changes within {WRITER_TIMEOUT:?}");
                Err(Error::new(ErrorKind::Storage, message))
            }
        };
        Ok((hives, written))
    }

    /// Stops as a kill of the process would: nothing more is written, and the ownership of the store is not given up.
    #[cfg(feature = "test-util")]
    pub fn crash(&self) {
        self.shared.crashed.cancel();
        self.shared.kill.cancel();
    }
}

/// How long the writer may take to write what it was handed.
const WRITER_TIMEOUT: Duration = Duration::from_secs(90);

/// The queen's clock.
fn time_since(began: Instant) -> Time {
    Time::from_micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn fresh_seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
