//! The backends of the hives, and the tasks that watch them. The engine has everything that is known of the hives.

use super::*;

/// The backend of a hive of the fleet.
pub(super) struct Hive {
    pub(super) backend: Arc<dyn HiveBackend>,
    pub(super) report_soon: Arc<Notify>,
    /// Ends the task that watches it.
    pub(super) watch: CancellationToken,
}

impl Driver {
    pub(super) fn add_hive(
        &mut self,
        backend: Arc<dyn HiveBackend>,
        reported: oneshot::Sender<()>,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let info = Box::new(backend.info().clone());
        let id = info.id.clone();
        if self.hives.contains_key(&id) {
            let message = format!("hive {id} belongs to the fleet already");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let hive = self.watch_hive(backend, reported);
        self.hives.insert(id.clone(), hive);
        self.fact(&id, HiveFact::Added(info), effects);
        Ok(())
    }

    fn watch_hive(&self, backend: Arc<dyn HiveBackend>, reported: oneshot::Sender<()>) -> Hive {
        let (watch, report_soon) = (self.context.kill.child_token(), Arc::new(Notify::new()));
        tokio::spawn(watch.clone().run_until_cancelled_owned(monitor::watch(
            backend.clone(),
            self.engine.epoch(),
            self.context.settings.clone(),
            self.context.inbox.clone(),
            report_soon.clone(),
            reported,
        )));
        Hive { backend, report_soon, watch }
    }

    pub(super) fn remove_hive(
        &mut self,
        id: &HiveId,
        effects: &mut Vec<Effect>,
    ) -> Result<Arc<dyn HiveBackend>> {
        let hive = self.hives.remove(id).ok_or_else(|| unknown(id))?;
        hive.watch.cancel();
        self.fact(id, HiveFact::Removed, effects);
        Ok(hive.backend)
    }

    /// Stops a hive. It stays in the fleet, without workers, until it is started again. Its jobs go on elsewhere.
    pub(super) fn stop_hive(
        &mut self,
        id: &HiveId,
        effects: &mut Vec<Effect>,
    ) -> Result<Arc<dyn HiveBackend>> {
        let hive = self.hives.get(id).ok_or_else(|| unknown(id))?;
        hive.watch.cancel();
        let backend = hive.backend.clone();
        self.fact(id, HiveFact::Stopped, effects);
        Ok(backend)
    }

    /// Starts a hive that was stopped, and lets one that was drained take workers again. One that does not answer is
    /// tried again at once.
    pub(super) fn start_hive(&mut self, id: &HiveId, effects: &mut Vec<Effect>) -> Result<()> {
        let is_away = self.engine.hives().iter().any(|hive| hive.id == *id && hive.error.is_some());
        let hive = self.hives.get(id).ok_or_else(|| unknown(id))?;
        if hive.watch.is_cancelled() || is_away {
            hive.watch.cancel();
            // Nobody waits for its first report.
            let (reported, _) = oneshot::channel();
            let hive = self.watch_hive(hive.backend.clone(), reported);
            self.hives.insert(id.clone(), hive);
        }
        self.fact(id, HiveFact::Started, effects);
        Ok(())
    }

    fn fact(&mut self, id: &HiveId, fact: HiveFact, effects: &mut Vec<Effect>) {
        self.turn(Input::Hive { hive: id.clone(), fact }, effects);
    }
}

fn unknown(id: &HiveId) -> Error {
    Error::new(ErrorKind::NotFound, format!("hive {id} does not exist"))
}
