//! The fleet, as an operator manages it: machines and workers.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Queen, inbox::Message};
use crate::{
    engine::{Command, HiveSummary},
    error::Result,
    hive::HiveBackend,
    id::{HiveId, WorkerId},
    progress::Progress,
    registry::HiveRecord,
    worker_spec::WorkerSpec,
};

/// The machines and workers of a queen; see [`Queen::fleet`].
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    pub(super) queen: &'a Queen,
}

impl<'a> Fleet<'a> {
    /// Every hive of the fleet.
    ///
    /// # Errors
    /// [`ErrorKind::ShuttingDown`](crate::ErrorKind::ShuttingDown) if the queen has stopped.
    pub async fn list(self) -> Result<Vec<HiveSummary>> {
        self.queen.inspect(|engine| engine.hives()).await
    }

    /// The hives that the registry remembers from a previous run. Those that were given to the builder or
    /// [added](Self::add) are in the fleet. The application must reconnect the others itself.
    pub fn remembered(self) -> &'a [HiveRecord] {
        &self.queen.shared.remembered
    }

    /// Adds a machine to the fleet. Returns at once; the machine is used as soon as it has reported.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the fleet has a hive of that name,
    /// [`ErrorKind::ShuttingDown`](crate::ErrorKind::ShuttingDown) if the queen has stopped.
    pub async fn add(self, hive: impl HiveBackend) -> Result<()> {
        self.connect(Arc::new(hive)).await.map(drop)
    }

    /// Adds a machine to the fleet. The receiver gets a message when the machine has reported.
    pub(super) async fn connect(self, hive: Arc<dyn HiveBackend>) -> Result<oneshot::Receiver<()>> {
        let (reported, report) = oneshot::channel();
        let add = |reply| Message::AddHive { hive, reported, reply };
        self.queen.shared.inbox.ask(add).await?.map(|()| report)
    }

    /// Removes a machine from the fleet and stops it with its workers. Its jobs continue on other machines.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such hive, and every error of its shutdown.
    pub async fn remove(self, hive: HiveId, grace: Duration) -> Result<()> {
        let remove = |reply| Message::RemoveHive { hive, reply };
        let backend = self.queen.shared.inbox.ask(remove).await??;
        backend.shutdown(grace).await
    }

    /// Stops a machine with its workers; it stays in the fleet. Its jobs continue on other machines.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such hive, and every error of its shutdown.
    pub async fn stop(self, hive: HiveId, grace: Duration) -> Result<()> {
        let stop = |reply| Message::StopHive { hive, reply };
        let backend = self.queen.shared.inbox.ask(stop).await??;
        backend.shutdown(grace).await
    }

    /// Starts a machine that was [stopped](Self::stop), and lets one that was [drained](Self::drain) take workers
    /// again. Returns at once; the machine is used as soon as it has reported. One that did not answer is tried again
    /// at once, and shows a new [error](HiveSummary::error) if it still does not. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such hive.
    pub async fn start(self, hive: HiveId) -> Result<()> {
        self.queen.shared.inbox.ask(|reply| Message::StartHive { hive, reply }).await?
    }

    /// Stops each worker of a machine as soon as its runs have ended, and starts none there until the machine is
    /// [started](Self::start).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such hive.
    pub async fn drain(self, hive: HiveId) -> Result<()> {
        self.command(Command::DrainHive(hive, true)).await
    }

    /// Starts a worker, whether or not a job needs it. It can take jobs when [`Queen::cluster`] shows it as ready. A
    /// pinned worker is never evicted. [`Models::load`](super::Models::load) leaves the details to the scheduler.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) or
    /// [`ErrorKind::HiveUnreachable`](crate::ErrorKind::HiveUnreachable) if the hive does not exist or does not answer,
    /// [`ErrorKind::InsufficientVram`](crate::ErrorKind::InsufficientVram) if its devices have too little free memory
    /// for the worker.
    pub async fn start_worker(self, hive: HiveId, spec: WorkerSpec, pin: bool) -> Result<WorkerId> {
        let (worker, evict) = (WorkerId::random(), Vec::new());
        self.queen.shared.models.vouch_for(&spec.model);
        self.command(Command::Load { worker, hive, spec, evict, pin }).await?;
        Ok(worker)
    }

    /// Stops a worker as soon as its runs have ended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such worker.
    pub async fn unload(self, worker: WorkerId) -> Result<()> {
        self.command(Command::Unload(worker)).await
    }

    /// Protects a worker from eviction, or ends the protection if `pin` is false.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such worker.
    pub async fn pin(self, worker: WorkerId, pin: bool) -> Result<()> {
        self.command(Command::Pin(worker, pin)).await
    }

    async fn command(self, command: Command) -> Result<()> {
        self.queen.command(command, Progress::ignore()).await.map(drop)
    }
}
