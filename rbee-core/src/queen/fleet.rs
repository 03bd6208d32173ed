//! What an operator does with the fleet: machines, workers, and models on disks.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Queen, inbox::Message, placement::unexpected};
use crate::{
    engine::{Command, CommandOutput, HiveSummary},
    error::Result,
    hive::HiveBackend,
    id::{HiveId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::Damage,
    progress::Progress,
    registry::HiveRecord,
    worker_spec::WorkerSpec,
};

impl Queen {
    /// Hives that the registry remembers of an earlier life. Those that are given to the builder or
    /// [added](Self::add_hive) are in the fleet; the others are for the application to find again.
    pub fn remembered_hives(&self) -> &[HiveRecord] {
        &self.shared.remembered
    }

    /// Every hive of the fleet.
    ///
    /// # Errors
    /// [`ErrorKind::ShuttingDown`] where the queen is gone.
    pub async fn hives(&self) -> Result<Vec<HiveSummary>> {
        self.look(|engine| engine.hives()).await
    }

    /// Takes a machine into the fleet. Returns at once; the machine counts as soon as it has reported.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where there is one of that name, [`ErrorKind::ShuttingDown`] where the queen is gone.
    pub async fn add_hive(&self, hive: impl HiveBackend) -> Result<()> {
        self.connect(Arc::new(hive)).await.map(drop)
    }

    pub(super) async fn connect(
        &self,
        hive: Arc<dyn HiveBackend>,
    ) -> Result<oneshot::Receiver<()>> {
        let (reported, report) = oneshot::channel();
        let add = |reply| Message::AddHive { hive, reported, reply };
        self.shared.inbox.ask(add).await?.map(|()| report)
    }

    /// Takes a machine out of the fleet and stops it, with its workers. Its jobs go on elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, and what its shutdown fails with.
    pub async fn remove_hive(&self, hive: HiveId, grace: Duration) -> Result<()> {
        let backend = self.shared.inbox.ask(|reply| Message::RemoveHive { hive, reply }).await??;
        backend.shutdown(grace).await
    }

    /// Stops a machine, with its workers; it stays in the fleet. Its jobs go on elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, and what its shutdown fails with.
    pub async fn stop_hive(&self, hive: HiveId, grace: Duration) -> Result<()> {
        let backend = self.shared.inbox.ask(|reply| Message::StopHive { hive, reply }).await??;
        backend.shutdown(grace).await
    }

    /// Starts a machine that was [stopped](Self::stop_hive), and lets one that was [drained](Self::drain_hive) take
    /// workers again. Returns at once; the machine counts as soon as it has reported. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive.
    pub async fn start_hive(&self, hive: HiveId) -> Result<()> {
        self.shared.inbox.ask(|reply| Message::StartHive { hive, reply }).await?
    }

    /// Stops every worker of a machine as soon as its runs have ended, and starts none there until it is
    /// [started](Self::start_hive).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive.
    pub async fn drain_hive(&self, hive: HiveId) -> Result<()> {
        self.command(Command::DrainHive(hive, true)).await.map(drop)
    }

    /// Puts a model on the disk of a machine, and tells what it is. One that is there already is not fetched again; one
    /// that another machine has is copied from there. If many want it at once it is downloaded once, and all of them see
    /// how far it has come. It goes on if the caller goes away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, [`ErrorKind::ModelNotFound`] where the model is nowhere to
    /// be had, [`ErrorKind::DiskInUse`] where models in use take too much of the machine's budget for them,
    /// [`ErrorKind::HiveUnreachable`] where there is no progress for as long as the setting
    /// `provision_silence` says.
    pub async fn provision(
        &self,
        hive: HiveId,
        model: ModelRef,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let model = self.locate(model.as_str()).await?;
        match self.command_with(Command::Provision { hive, model }, progress).await? {
            CommandOutput::Model(on_disk) => Ok(*on_disk),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads every file of a model on a machine again, and tells which are damaged. Those are put aside; where the model
    /// is wanted next they are fetched again, and they alone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, [`ErrorKind::ModelNotFound`] where its store does not have the
    /// model, [`ErrorKind::Unsupported`] where it has no store.
    pub async fn verify(
        &self,
        hive: HiveId,
        model: ModelRef,
        progress: Progress,
    ) -> Result<Vec<Damage>> {
        let model = self.locate(model.as_str()).await?;
        match self.command_with(Command::Verify { hive, model }, progress).await? {
            CommandOutput::Damage(damage) => Ok(damage),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes a model from the disk of a machine.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if a worker of that machine has it or is loading it, or while it is being fetched there,
    /// [`ErrorKind::NotFound`] if there is no such hive.
    pub async fn remove_model(&self, hive: HiveId, model: ModelRef) -> Result<()> {
        self.command(Command::RemoveModel { hive, model }).await.map(drop)
    }

    /// Starts a worker, whether or not a job needs it; it is there when [`cluster`](Self::cluster) shows it ready.
    /// A pinned one is never evicted. [`load_model`](Self::load_model) leaves the details to the scheduler.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::HiveUnreachable`] where the hive is not there,
    /// [`ErrorKind::InsufficientVram`] where what the worker needs is not free on its devices.
    pub async fn load(&self, hive: HiveId, spec: WorkerSpec, pin: bool) -> Result<WorkerId> {
        let (worker, evict) = (WorkerId::random(), Vec::new());
        self.shared.models.vouch_for(&spec.model);
        self.command(Command::Load { worker, hive, spec, evict, pin }).await?;
        Ok(worker)
    }

    /// Stops a worker as soon as its runs have ended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such worker.
    pub async fn unload(&self, worker: WorkerId) -> Result<()> {
        self.command(Command::Unload(worker)).await.map(drop)
    }

    /// Keeps a worker from being evicted, or no longer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such worker.
    pub async fn pin(&self, worker: WorkerId, pin: bool) -> Result<()> {
        self.command(Command::Pin(worker, pin)).await.map(drop)
    }

    /// Orders something that nobody watches on its way.
    pub(super) async fn command(&self, command: Command) -> Result<CommandOutput> {
        self.command_with(command, Progress::ignore()).await
    }

    async fn command_with(&self, command: Command, progress: Progress) -> Result<CommandOutput> {
        self.shared.inbox.ask(|reply| Message::Command { command, progress, reply }).await?
    }
}
