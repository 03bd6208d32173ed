//! The queen: the async shell around the [engine](crate::engine), and the object that an application works with.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::ClusterView,
    engine::{Command, CommandOutput, Engine},
    error::{Error, ErrorKind, Result, panic_message},
    hive::HiveBackend,
    id::{JobId, QueenId},
    job::JobStatus,
    model_ref::ModelRef,
    progress::Progress,
    registry::{Change, HiveRecord, JobFilter, JobRecord, Registry},
    scheduler::{LeastLoaded, Scheduler},
    settings::Settings,
    time::{Now, Time, WallTime},
};

mod active_policy;
mod attempt;
mod builder;
mod count_tokens;
mod decision_history;
mod driver;
mod fleet;
mod handle;
mod hive_tasks;
mod inbox;
mod load_progress;
mod log;
mod logs;
mod model_locator;
mod models;
mod monitor;
mod policy;
mod rhythm;
mod status;
mod submit;
mod tenants;
mod writer;

pub use crate::engine::PolicyHealth;
pub use builder::QueenBuilder;
pub use count_tokens::TokenCount;
pub use decision_history::Decision;
pub use fleet::Fleet;
pub use handle::{JobAnswer, JobHandle};
pub use load_progress::LoadProgress;
pub use log::JobEvents;
pub use models::{ModelDescription, Models};
pub use policy::{
    DryRunDecision, MAX_POLICY_BYTES, Policy, PolicyDryRun, PolicyReplay, PolicyStatus,
};
pub use status::QueenStatus;
pub use tenants::{TenantKey, TenantSummary, Tenants};

use active_policy::ActivePolicy;
use decision_history::DecisionHistory;
use inbox::{Inbox, Message};
use load_progress::LoadTracker;
use log::EventLog;
use logs::Logs;
use model_locator::ModelLocator;
use tenants::TenantIndex;

pub use crate::engine::HiveSummary;
pub use crate::load_request::LoadRequest;

/// The orchestrator, inside the application's own process. A clone is another handle to the same queen.
///
/// The methods of the queen itself are about jobs and about its own start and end. The rest is on four handles:
/// [`fleet`](Self::fleet) (machines and workers), [`models`](Self::models), [`policy`](Self::policy) and
/// [`tenants`](Self::tenants).
///
/// The queen runs on the tokio runtime that it was built on. When the last handle (also the last job handle) is
/// dropped, it stops at once, as if the process had ended. [`shutdown`](Self::shutdown) stops it in order.
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
#[derive(Clone)]
pub struct Queen {
    shared: Arc<Shared>,
}

impl fmt::Debug for Queen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queen").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// What several callers wait for together. It goes on where it was if one of them is dropped.
type Steps<T> = futures_util::future::Shared<BoxFuture<'static, T>>;
/// The hives of a queen that has ended, and the result of its writer.
type End = (Vec<Arc<dyn HiveBackend>>, Result<()>);

struct Shared {
    id: QueenId,
    inbox: Inbox,
    logs: Arc<Logs>,
    loads: LoadTracker,
    registry: Arc<dyn Registry>,
    active_policy: ActivePolicy,
    built_in: LeastLoaded,
    fixed_policy: bool,
    /// The application's own policy, which is active if neither an operator nor a recorded version sets another.
    own_policy: Mutex<Arc<dyn Scheduler>>,
    /// One change of the policy at a time.
    policy_change: Arc<tokio::sync::Mutex<()>>,
    /// One replay at a time.
    replays: Arc<tokio::sync::Semaphore>,
    decisions: DecisionHistory,
    tenants: TenantIndex,
    settings: Arc<Settings>,
    aliases: BTreeMap<String, ModelRef>,
    models: ModelLocator,
    restored: Arc<[JobId]>,
    remembered: Vec<HiveRecord>,
    /// Ends every task except the writer, which ends when it has written all changes that it received.
    kill: CancellationToken,
    /// Leaves the store as a kill of the process would.
    #[cfg_attr(not(feature = "test-util"), expect(dead_code, reason = "only a test crashes"))]
    crashed: CancellationToken,
    /// The task of the writer.
    written: Mutex<Option<JoinHandle<Result<()>>>>,
    /// The end of the queen, once it is asked for.
    end: Mutex<Option<Steps<Result<End>>>>,
    /// The end of the queen and of its hives, once it is asked for.
    stop: Mutex<Option<Steps<Result<()>>>>,
    /// The zero of the queen's clock.
    began: Instant,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.kill.cancel();
        // No task writes to these logs any more, so their readers must not wait.
        for (job, log) in self.logs.live() {
            log.interrupt(driver::interrupted(job, &inbox::gone(), false));
        }
    }
}

impl Queen {
    /// Starts to configure a queen.
    pub fn builder() -> QueenBuilder {
        QueenBuilder::default()
    }

    /// The machines and workers of this queen.
    pub fn fleet(&self) -> Fleet<'_> {
        Fleet { queen: self }
    }

    /// The models: names, places, downloads and loads.
    pub fn models(&self) -> Models<'_> {
        Models { queen: self }
    }

    /// The scheduling policy: the active one, its versions, dry runs and replays.
    pub fn policy(&self) -> Policy<'_> {
        Policy { queen: self }
    }

    /// The tenants, with their limits and keys.
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants { queen: self }
    }

    /// The settings of the queen.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The events of a job, from the beginning or after the event with the number `after`. Works while the job runs,
    /// and after its end for as long as its events are kept. The events of a job that is
    /// [detached](crate::Request::detached) or has an [idempotency key](crate::Request::idempotency_key) are kept as
    /// long as its record.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such job, or its events are no longer kept.
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

    /// Cancels a job. Does nothing if the job has already ended or does not exist.
    pub fn cancel(&self, job: JobId) {
        self.post_cancel(job);
    }

    /// The record of a job.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such job.
    pub async fn job(&self, job: JobId) -> Result<JobRecord> {
        let found = self.shared.registry.jobs(&JobFilter::one(job)).await?;
        let missing =
            || Error::for_client(ErrorKind::NotFound, format!("job {job} does not exist"));
        found.into_iter().next().ok_or_else(missing)
    }

    /// Erases the texts of a job that has ended: its request and its answer. The rest of its record stays.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such job, [`ErrorKind::Conflict`] if it has not ended,
    /// [`ErrorKind::Storage`] if the store cannot be written.
    pub async fn erase(&self, job: JobId) -> Result<()> {
        let record = self.job(job).await?;
        if record.status.state().is_live() {
            let message = format!("job {job} has not ended; cancel it first");
            return Err(Error::for_client(ErrorKind::Conflict, message));
        }
        let epoch = self.inspect(|engine| engine.epoch()).await?;
        self.shared.registry.record(epoch, &[Change::JobErased { job }]).await?;
        self.shared.logs.forget(job);
        Ok(())
    }

    /// The records of the jobs that the filter selects.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        self.shared.registry.jobs(filter).await
    }

    /// The number of jobs of the same model, tenant and priority that are ahead of this one; `None` if it is not
    /// waiting.
    pub async fn position(&self, job: JobId) -> Result<Option<usize>> {
        self.inspect(move |engine| engine.position(job)).await
    }

    /// The present state of the cluster.
    pub async fn cluster(&self) -> Result<ClusterView> {
        self.inspect(|engine| engine.view().clone()).await
    }

    /// The present state of the queen itself.
    ///
    /// # Errors
    /// [`ErrorKind::ShuttingDown`] if the queen has stopped.
    pub async fn status(&self) -> Result<QueenStatus> {
        let (counters, store_fault) =
            self.inspect(|engine| (engine.counters(), engine.store_fault().cloned())).await?;
        Ok(QueenStatus {
            id: self.shared.id.clone(),
            now: time_since(self.shared.began),
            counters,
            store_fault,
            restored: self.shared.restored.clone(),
        })
    }

    /// Writes to the store now, to find out whether it can be written. [`QueenStatus::store_fault`] is what the queen
    /// already knows, without a write.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the store cannot be written, [`ErrorKind::Fenced`] if another queen has taken over.
    pub async fn check_store(&self) -> Result<()> {
        let epoch = self.inspect(|engine| engine.epoch()).await?;
        self.shared.registry.record(epoch, &[]).await
    }

    /// Sends a command to the engine.
    async fn command(&self, command: Command, progress: Progress) -> Result<CommandOutput> {
        self.shared.inbox.ask(|reply| Message::Command { command, progress, reply }).await?
    }

    /// The time on both clocks.
    fn now(&self) -> Now {
        Now { at: time_since(self.shared.began), wall: WallTime::now() }
    }

    /// Runs `inspect` on the engine.
    async fn inspect<T: Send + 'static>(
        &self,
        inspect: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T> {
        self.shared
            .inbox
            .ask(|reply| {
                Message::Look(Box::new(move |engine| {
                    let _ = reply.send(inspect(engine));
                }))
            })
            .await
    }

    /// Stops the queen in order: admits no more jobs, gives the present jobs `grace` to end, stops the hives with their
    /// workers, and releases the ownership of the store.
    ///
    /// A job that has not ended by then stays in the registry for the next run if its client can come back for it: the
    /// job is [detached](crate::Request::detached) or has an [idempotency key](crate::Request::idempotency_key). Its
    /// readers get no terminal event; their events are [interrupted](JobEvents::interruption). Any other job ends with
    /// [`ErrorKind::ShuttingDown`]. That end is recorded before the handle receives it, so that no later run executes a
    /// job that nobody waits for.
    ///
    /// It may be called more than once, also at the same time: every call waits for the same end and returns its
    /// result. The shortest `grace` counts.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the store did not take the last changes. The jobs whose ends are among these changes
    /// are logged, and run again at the next start. All other steps are done nevertheless.
    pub async fn shutdown(&self, grace: Duration) -> Result<()> {
        let drained = self.shared.inbox.ask(|drained| Message::Drain { drained });
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::info!("jobs that had not ended within {grace:?} are left for the next start");
        }
        self.stop_hives().await
    }

    /// Hands over to another queen on the same registry: processes no more inputs from now on, writes the pending
    /// changes, and releases the ownership of the store. The hives and their workers keep running. Jobs that have not
    /// ended are kept or end as with [`shutdown`](Self::shutdown).
    pub async fn hand_over(&self) -> Result<()> {
        self.end().await?.1
    }

    /// Stops the driver, writes the pending changes, and releases the ownership of the store. Returns the hives, and
    /// the result of the writer. Every call waits for the same end.
    fn end(&self) -> Steps<Result<End>> {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        let end = end.get_or_insert_with(|| {
            let (inbox, kill) = (self.shared.inbox.clone(), self.shared.kill.clone());
            let written = self.shared.written.lock().unwrap_or_else(PoisonError::into_inner).take();
            let steps = async move {
                let why = Error::new(ErrorKind::ShuttingDown, "the queen goes down");
                let hives = inbox.ask(|reply| Message::Freeze { reply, why }).await?;
                kill.cancel();
                let Some(written) = written else { return Ok((hives, Ok(()))) };
                let written = match tokio::time::timeout(WRITER_TIMEOUT, written).await {
                    Ok(written) => written.unwrap_or_else(|cause| {
                        let message =
                            "the task that writes to the registry ended before it was done";
                        Err(Error::new(ErrorKind::Internal, message).with_source(cause))
                    }),
                    Err(_) => {
                        let message = format!(
                            "the registry did not take the last changes within {WRITER_TIMEOUT:?}"
                        );
                        Err(Error::new(ErrorKind::Storage, message))
                    }
                };
                Ok((hives, written))
            };
            steps.boxed().shared()
        });
        end.clone()
    }

    /// Ends the queen, and then stops its hives. Every call waits for the same end.
    fn stop_hives(&self) -> Steps<Result<()>> {
        let mut stop = self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = stop.get_or_insert_with(|| {
            let (end, grace) = (self.end(), self.shared.settings.abort_grace);
            let steps = async move {
                let (hives, written) = end.await?;
                let stops = hives.iter().map(|hive| async {
                    if let Err(error) = hive.shutdown(grace).await {
                        tracing::warn!(hive = %hive.info().id, %error, "the hive could not be stopped");
                    }
                });
                futures_util::future::join_all(stops).await;
                written
            };
            steps.boxed().shared()
        });
        stop.clone()
    }

    /// Stops the queen as a kill of the process would: nothing more is written, and the ownership of the store is not
    /// released.
    #[cfg(feature = "test-util")]
    pub fn crash(&self) {
        self.shared.crashed.cancel();
        self.shared.inbox.close();
        self.shared.kill.cancel();
    }
}

/// The time limit for the writer to write the pending changes.
const WRITER_TIMEOUT: Duration = Duration::from_secs(90);

/// The time on the queen's clock.
fn time_since(began: Instant) -> Time {
    Time::from_micros(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn fresh_seed() -> u64 {
    let (high, low) = crate::id::random_uuid().as_u64_pair();
    high ^ low
}

/// The error for an output that does not belong to its command. The engine never gives one, so this is a defect.
fn unexpected(output: &CommandOutput) -> Error {
    let given = match output {
        CommandOutput::Done => "no result",
        CommandOutput::Worker(_) => "a worker",
        CommandOutput::Model(_) => "a model",
        CommandOutput::Damage(_) => "a list of damaged files",
    };
    Error::new(ErrorKind::Internal, format!("the command was answered with {given}"))
}

/// Sets the gauges of a queen to their current values. Call it before the metrics are read, or every few seconds.
/// Counters and histograms need no such call.
///
/// # Errors
/// [`ErrorKind::ShuttingDown`] if the queen has stopped.
#[cfg(feature = "metrics")]
pub async fn measure(queen: &Queen) -> Result<()> {
    let inspect = |engine: &Engine| {
        let store_failed = engine.store_fault().is_some();
        (engine.view().clone(), engine.counters(), engine.waiting_by_priority(), store_failed)
    };
    let (view, counters, waiting, store_failed) = queen.inspect(inspect).await?;
    crate::metrics::gauges(&view, counters, waiting, store_failed);
    Ok(())
}
