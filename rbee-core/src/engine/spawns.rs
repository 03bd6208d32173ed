//! Workers that are being started.

use super::*;

/// A worker that is being started.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) hive: HiveId,
    pub(super) spec: WorkerSpec,
    pub(super) pin: bool,
    /// Workers that must be gone first.
    pub(super) waits_for: BTreeSet<WorkerId>,
    /// The hive got the order to start it.
    pub(super) issued: bool,
}

/// All workers that are being started.
#[derive(Debug, Default)]
pub(super) struct Spawns(BTreeMap<WorkerId, Starting>);

impl Spawns {
    pub(super) fn insert(&mut self, worker: WorkerId, starting: Starting) {
        self.0.insert(worker, starting);
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Starting> {
        self.0.get(&worker)
    }

    pub(super) fn contains(&self, worker: WorkerId) -> bool {
        self.0.contains_key(&worker)
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Starting> {
        self.0.remove(&worker)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Slots of the starting workers of this model.
    pub(super) fn slots(&self, model: &ModelRef) -> usize {
        let workers = self.0.values().filter(|starting| starting.spec.model == *model);
        workers.map(|starting| starting.spec.slots as usize).sum()
    }

    pub(super) fn pin(&mut self, worker: WorkerId, pin: bool) {
        if let Some(starting) = self.0.get_mut(&worker) {
            starting.pin = pin;
        }
    }

    /// Returns the order for the hive, once, when the workers that must be gone first are gone.
    pub(super) fn issue(&mut self, worker: WorkerId) -> Option<(HiveId, WorkerSpec)> {
        let starting = self.0.get_mut(&worker)?;
        if starting.issued || !starting.waits_for.is_empty() {
            return None;
        }
        starting.issued = true;
        Some((starting.hive.clone(), starting.spec.clone()))
    }

    /// This worker is gone. Returns those that were waiting for that.
    pub(super) fn made_room(&mut self, gone: WorkerId) -> Vec<WorkerId> {
        let waited = self
            .0
            .iter_mut()
            .filter_map(|(worker, starting)| starting.waits_for.remove(&gone).then_some(*worker));
        waited.collect()
    }
}
