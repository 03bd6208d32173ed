//! What an operator does with the fleet: machines, workers, and models on disks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Queen, mailbox::Message};
use crate::{
    Damage, Error, ErrorKind, HiveAddress, HiveBackend, HiveId, HiveRecord, HiveStatus, HiveView,
    ModelOnDisk, ModelRef, Progress, Result, WallTime, WorkerId, WorkerSpec, engine::Command,
};

/// A hive, as the queen knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct HiveSummary {
    /// Its name.
    pub id: HiveId,
    /// The machine's own name, or the name it is reached by.
    pub hostname: String,
    /// The port of its HTTP API; 0 where it has none.
    pub port: u16,
    /// How it is reached.
    pub address: HiveAddress,
    /// Is it reachable?
    pub status: HiveStatus,
    /// When it last answered in this life of the queen.
    pub last_seen: Option<WallTime>,
    /// Why it is not reachable.
    pub error: Option<Error>,
    /// What its owner says of it: see [`HiveView::labels`](crate::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

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
        self.shared.mailbox.ask(|reply| Message::Hives { reply }).await
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
        self.shared.mailbox.ask(add).await?.map(|()| report)
    }

    /// Takes a machine out of the fleet and stops it, with its workers. Its jobs go on elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, and what its shutdown fails with.
    pub async fn remove_hive(&self, hive: HiveId, grace: Duration) -> Result<()> {
        let backend =
            self.shared.mailbox.ask(|reply| Message::RemoveHive { hive, reply }).await??;
        backend.shutdown(grace).await
    }

    /// Stops a machine, with its workers; it stays in the fleet. Its jobs go on elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive, and what its shutdown fails with.
    pub async fn stop_hive(&self, hive: HiveId, grace: Duration) -> Result<()> {
        let backend = self.shared.mailbox.ask(|reply| Message::StopHive { hive, reply }).await??;
        backend.shutdown(grace).await
    }

    /// Starts a machine that was [stopped](Self::stop_hive), and lets one that was [drained](Self::drain_hive) take
    /// workers again. Returns at once; the machine counts as soon as it has reported. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive.
    pub async fn start_hive(&self, hive: HiveId) -> Result<()> {
        self.shared.mailbox.ask(|reply| Message::StartHive { hive, reply }).await?
    }

    /// Stops every worker of a machine as soon as its runs have ended, and starts none there until it is
    /// [started](Self::start_hive).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such hive.
    pub async fn drain_hive(&self, hive: HiveId) -> Result<()> {
        self.command(Command::DrainHive(hive, true)).await
    }

    /// Puts a model on the disk of a machine, and tells what it is. One that is there already is not fetched again; one
    /// that another machine has is copied from there. Where many want it at once it is downloaded once.
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
        let backend = self.backend(hive.clone()).await?;
        let holders = self.holders(&model).await?;
        let silence = self.shared.settings.provision_silence;
        let last = Arc::new(Mutex::new(Instant::now()));
        let (seen, own) = (last.clone(), progress);
        let load = self.shared.loads.begin(hive.clone(), model.clone(), None);
        let shown = load.progress(move || {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        });
        let progress = Progress::new(move |update| {
            shown.update(update.done, update.total);
            own.update(update.done, update.total);
        });
        let mut fetched = Box::pin(self.shared.models.put(&backend, &model, holders, progress));
        let on_disk = loop {
            let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + silence;
            tokio::select! {
                result = &mut fetched => break result?,
                () = tokio::time::sleep_until(until) => {
                    if last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= silence {
                        let message = format!("hive {hive} made no progress with {model} for {silence:?}");
                        return Err(Error::new(ErrorKind::HiveUnreachable, message));
                    }
                }
            }
        };
        self.report_of(&hive, &*backend).await?;
        Ok(on_disk)
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
        let backend = self.backend(hive.clone()).await?;
        let damage = backend.verify(&model, progress).await?;
        if !damage.is_empty() {
            self.report_of(&hive, &*backend).await?;
        }
        Ok(damage)
    }

    /// Hives that can be asked for the files of this model.
    async fn holders(&self, model: &ModelRef) -> Result<Vec<Arc<dyn HiveBackend>>> {
        let cluster = self.cluster().await?;
        let holds = |hive: &&Arc<HiveView>| hive.online && hive.models.contains_key(model);
        let mut holders = Vec::new();
        for hive in cluster.hives().filter(holds) {
            // One that has left the fleet meanwhile holds nothing for us.
            holders.extend(self.backend(hive.id.clone()).await.ok());
        }
        Ok(holders)
    }

    /// Removes a model from the disk of a machine.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where a worker of that machine has it loaded, [`ErrorKind::NotFound`] where there is no
    /// such hive.
    pub async fn remove_model(&self, hive: HiveId, model: ModelRef) -> Result<()> {
        let backend = self.backend(hive.clone()).await?;
        let cluster = self.cluster().await?;
        if let Some(worker) = cluster.on_hive(&hive).find(|worker| worker.info.model == model) {
            let message =
                format!("worker {} has model {model} loaded; stop it first", worker.info.id);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let limit = self.shared.settings.probe_timeout;
        let removed = tokio::time::timeout(limit, backend.remove_model(&model)).await;
        removed.map_err(|_| late(&hive, limit))??;
        self.report_of(&hive, &*backend).await
    }

    /// Tells the engine what the hive looks like now.
    async fn report_of(&self, hive: &HiveId, backend: &dyn HiveBackend) -> Result<()> {
        let limit = self.shared.settings.probe_timeout;
        let report = tokio::time::timeout(limit, backend.report()).await;
        let report = Box::new(report.map_err(|_| late(hive, limit))??);
        let fact = crate::engine::HiveFact::Report(report);
        let input = crate::engine::Input::Hive { hive: hive.clone(), fact };
        self.shared.mailbox.send(Message::Input(input)).await
    }

    async fn backend(&self, hive: HiveId) -> Result<Arc<dyn HiveBackend>> {
        self.shared.mailbox.ask(|reply| Message::Hive { hive, reply }).await?
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
        self.command(Command::Unload(worker)).await
    }

    /// Keeps a worker from being evicted, or no longer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such worker.
    pub async fn pin(&self, worker: WorkerId, pin: bool) -> Result<()> {
        self.command(Command::Pin(worker, pin)).await
    }

    pub(super) async fn command(&self, command: Command) -> Result<()> {
        self.shared.mailbox.ask(|reply| Message::Command { command, reply }).await?
    }
}

fn late(hive: &HiveId, limit: Duration) -> Error {
    Error::new(ErrorKind::HiveUnreachable, format!("hive {hive} did not answer within {limit:?}"))
}
