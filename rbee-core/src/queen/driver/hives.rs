//! The hives of the fleet, and what the store and an operator are told of them.

use super::*;
use crate::{Change, HiveInfo, HiveRecord, HiveStatus, HiveSummary};

/// A machine of the fleet.
pub(super) struct Hive {
    pub(super) backend: Arc<dyn HiveBackend>,
    pub(super) report_soon: Arc<Notify>,
    /// Ends its watch.
    pub(super) watch: CancellationToken,
    online: Option<bool>,
    last_seen: Option<WallTime>,
    error: Option<Error>,
}

impl Hive {
    pub(super) fn summary(&self) -> HiveSummary {
        let HiveInfo { id, hostname, port, address, labels } = self.backend.info().clone();
        HiveSummary {
            id,
            hostname,
            port,
            address,
            labels,
            status: match (self.online, self.last_seen, &self.error) {
                (Some(true), ..) => HiveStatus::Online,
                // It has never answered, and there is a reason.
                (_, None, Some(_)) => HiveStatus::Error,
                _ => HiveStatus::Offline,
            },
            last_seen: self.last_seen,
            error: self.error.clone(),
        }
    }
}

impl Driver {
    pub(super) fn hive_answers(&mut self, id: &HiveId, capabilities: serde_json::Value) {
        let Some(hive) = self.hives.get_mut(id) else { return };
        hive.last_seen = Some(WallTime::now());
        hive.error = None;
        if hive.online.replace(true) != Some(true) {
            self.record_hive(id, capabilities);
        }
    }

    pub(super) fn hive_is_away(&mut self, id: &HiveId, why: Error) {
        let Some(hive) = self.hives.get_mut(id) else { return };
        hive.error = Some(why);
        if hive.online.replace(false) != Some(false) {
            self.record_hive(id, serde_json::Value::Null);
        }
    }

    /// The store is told when a hive comes and goes, not at every probe.
    fn record_hive(&self, id: &HiveId, capabilities: serde_json::Value) {
        let Some(hive) = self.hives.get(id) else { return };
        let summary = hive.summary();
        let record = HiveRecord {
            id: summary.id,
            hostname: summary.hostname,
            port: summary.port,
            address: summary.address,
            capabilities,
            last_seen: summary.last_seen.unwrap_or_else(WallTime::now),
            status: summary.status,
            labels: summary.labels,
        };
        self.shell.writer.write(None, vec![Change::HivePut(Box::new(record))]);
    }

    pub(super) fn add_hive(
        &mut self,
        backend: Arc<dyn HiveBackend>,
        reported: oneshot::Sender<()>,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let id = backend.info().id.clone();
        if self.hives.contains_key(&id) {
            let message = format!("hive {id} belongs to the fleet already");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let hive = self.watch_hive(backend, reported);
        self.hives.insert(id.clone(), hive);
        self.join(id, effects);
        Ok(())
    }

    /// The engine is told that there is such a hive, and what its owner says of it.
    fn join(&mut self, id: HiveId, effects: &mut Vec<Effect>) {
        let labels = self.hives.get(&id).map(|hive| hive.backend.info().labels.clone());
        self.turn(Input::Hive { hive: id.clone(), fact: HiveFact::Added }, effects);
        if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
            self.turn(Input::Hive { hive: id, fact: HiveFact::Labels(labels) }, effects);
        }
    }

    fn watch_hive(&self, backend: Arc<dyn HiveBackend>, reported: oneshot::Sender<()>) -> Hive {
        let (watch, report_soon) = (self.shell.kill.child_token(), Arc::new(Notify::new()));
        tokio::spawn(watch.clone().run_until_cancelled_owned(monitor::watch(
            backend.clone(),
            self.engine.epoch(),
            self.shell.settings.clone(),
            self.shell.mailbox.clone(),
            report_soon.clone(),
            reported,
        )));
        Hive { backend, report_soon, watch, online: None, last_seen: None, error: None }
    }

    pub(super) fn remove_hive(
        &mut self,
        id: &HiveId,
        effects: &mut Vec<Effect>,
    ) -> Result<Arc<dyn HiveBackend>> {
        let hive = self.hives.remove(id).ok_or_else(|| unknown(id))?;
        hive.watch.cancel();
        self.turn(Input::Hive { hive: id.clone(), fact: HiveFact::Removed }, effects);
        self.shell.writer.write(None, vec![Change::HiveGone(id.clone())]);
        Ok(hive.backend)
    }

    /// It stays in the fleet, without workers, until it is started again. Its jobs go on elsewhere.
    pub(super) fn stop_hive(
        &mut self,
        id: &HiveId,
        effects: &mut Vec<Effect>,
    ) -> Result<Arc<dyn HiveBackend>> {
        let hive = self.hives.get(id).ok_or_else(|| unknown(id))?;
        hive.watch.cancel();
        let backend = hive.backend.clone();
        self.turn(Input::Hive { hive: id.clone(), fact: HiveFact::Removed }, effects);
        self.join(id.clone(), effects);
        self.hive_is_away(id, Error::new(ErrorKind::HiveUnreachable, "the hive was stopped"));
        Ok(backend)
    }

    /// Starts one that was stopped, and lets one that was drained take workers again.
    pub(super) fn start_hive(&mut self, id: &HiveId, effects: &mut Vec<Effect>) -> Result<()> {
        let hive = self.hives.get(id).ok_or_else(|| unknown(id))?;
        if hive.watch.is_cancelled() {
            let (last_seen, backend) = (hive.last_seen, hive.backend.clone());
            // Nobody waits for its first report.
            let (reported, _) = oneshot::channel();
            let hive = Hive { last_seen, ..self.watch_hive(backend, reported) };
            self.hives.insert(id.clone(), hive);
        }
        let command = Command::DrainHive(id.clone(), false);
        self.turn(Input::Command { n: 0, command }, effects);
        Ok(())
    }

    pub(super) fn backend(&self, id: &HiveId) -> Result<Arc<dyn HiveBackend>> {
        self.hives.get(id).map(|hive| hive.backend.clone()).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: &HiveId) -> Error {
    Error::new(ErrorKind::NotFound, format!("hive {id} does not exist"))
}
