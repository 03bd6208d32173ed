//! What is remembered of single workers, also over a restart of the queen and an outage of their hive: who is pinned,
//! and who is a replica.

use super::*;
use crate::registry::WorkerRecord;

/// What is remembered, of workers of which there is anything to remember.
#[derive(Debug, Default)]
pub(super) struct WorkerFlags(BTreeMap<HiveId, BTreeMap<WorkerId, WorkerRecord>>);

impl WorkerFlags {
    pub(super) fn of(&self, hive: &HiveId, worker: WorkerId) -> WorkerRecord {
        let found = self.0.get(hive).and_then(|worker_flags| worker_flags.get(&worker));
        found.cloned().unwrap_or_else(|| WorkerRecord::new(worker, hive.clone()))
    }

    /// Remembers it, and tells what is to be recorded.
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

    /// Forgets the workers of this hive that are no more, and tells what is to be recorded.
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
    /// Changes what is remembered of a worker, and tells what is to be recorded; none where nothing is.
    pub(super) fn set_flags(
        &mut self,
        worker: WorkerId,
        change: impl FnOnce(&mut WorkerRecord),
    ) -> Option<Change> {
        let hive = self.view.worker(worker)?.info.hive.clone();
        let before = self.worker_flags.of(&hive, worker);
        let mut after = before.clone();
        change(&mut after);
        (after != before).then(|| self.worker_flags.put(after))
    }

    /// A worker that is found running is what it was before.
    pub(super) fn recognize(&mut self, hive: &HiveId, worker: WorkerId) -> WorkerRecord {
        let mark = self.worker_flags.of(hive, worker);
        if mark.replica {
            self.autoscaler.is_replica(worker);
        }
        mark
    }

    /// The hive has told which workers it has.
    pub(super) fn forget_gone(&mut self, hive: &HiveId, seen: &BTreeSet<WorkerId>, out: &mut Out) {
        let view = &self.view;
        let is_there = |worker| seen.contains(&worker) || view.worker(worker).is_some();
        let changes = self.worker_flags.forget_gone(hive, is_there);
        if !changes.is_empty() {
            out.push(Effect::Record { n: None, changes });
        }
    }
}
