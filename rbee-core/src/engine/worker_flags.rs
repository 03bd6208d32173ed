//! The flags of single workers, kept over a restart of the queen and an outage of their hive: pinned, and replica.

use super::*;
use crate::registry::WorkerRecord;

/// The flags of all workers that have any.
#[derive(Debug, Default)]
pub(super) struct WorkerFlags(BTreeMap<HiveId, BTreeMap<WorkerId, WorkerRecord>>);

impl WorkerFlags {
    pub(super) fn of(&self, hive: &HiveId, worker: WorkerId) -> WorkerRecord {
        let found = self.0.get(hive).and_then(|worker_flags| worker_flags.get(&worker));
        found.cloned().unwrap_or_else(|| WorkerRecord::new(worker, hive.clone()))
    }

    /// Sets the flags of a worker, and returns the change to record.
    pub(super) fn put(&mut self, record: WorkerRecord) -> Change {
        let WorkerRecord { worker, hive, .. } = record.clone();
        if record.says_nothing() {
            self.forget(&hive, worker);
            return Change::WorkerGone { hive, worker };
        }
        self.0.entry(hive).or_default().insert(worker, record.clone());
        Change::WorkerPut(record)
    }

    fn forget(&mut self, hive: &HiveId, worker: WorkerId) {
        if let Some(worker_flags) = self.0.get_mut(hive) {
            worker_flags.remove(&worker);
            if worker_flags.is_empty() {
                self.0.remove(hive);
            }
        }
    }

    /// Forgets the workers of this hive that are gone, and returns the change to record.
    pub(super) fn forget_gone(
        &mut self,
        hive: &HiveId,
        is_there: impl Fn(WorkerId) -> bool,
    ) -> Vec<Change> {
        let marked = self.0.get(hive).into_iter().flat_map(BTreeMap::keys).copied();
        let gone: Vec<_> = marked.filter(|worker| !is_there(*worker)).collect();
        let forget = |worker| {
            self.forget(hive, worker);
            Change::WorkerGone { hive: hive.clone(), worker }
        };
        gone.into_iter().map(forget).collect()
    }
}

impl Engine {
    /// Changes the flags of a worker, and returns the change to record; `None` if nothing changes.
    pub(super) fn set_flags(
        &mut self,
        worker: WorkerId,
        change: impl FnOnce(&mut WorkerRecord),
    ) -> Option<Change> {
        let hive = self.view.worker(worker)?.info.hive.clone();
        let before = self.watch.flags.of(&hive, worker);
        let mut after = before.clone();
        change(&mut after);
        (after != before).then(|| self.watch.flags.put(after))
    }

    /// The flags of a worker that was found running.
    pub(super) fn recognize(&mut self, hive: &HiveId, worker: WorkerId) -> WorkerRecord {
        let mark = self.watch.flags.of(hive, worker);
        if mark.replica {
            self.autoscaler.is_replica(worker);
        }
        mark
    }

    /// The hive has reported its workers: forgets the others.
    pub(super) fn forget_gone(&mut self, hive: &HiveId, seen: &BTreeSet<WorkerId>, out: &mut Out) {
        let view = &self.view;
        let is_there = |worker| seen.contains(&worker) || view.worker(worker).is_some();
        let changes = self.watch.flags.forget_gone(hive, is_there);
        if !changes.is_empty() {
            out.push(Effect::Record { n: None, changes });
        }
    }
}
