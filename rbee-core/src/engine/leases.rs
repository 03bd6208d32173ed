//! Leases: which job holds which slot. A lease is taken out exactly once, and only if it exists.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{JobId, LeaseId, WorkerId};

#[derive(Debug, Default)]
pub(super) struct Leases {
    given: BTreeMap<LeaseId, (JobId, WorkerId)>,
    by_worker: BTreeMap<WorkerId, BTreeSet<LeaseId>>,
}

impl Leases {
    pub(super) fn give(&mut self, lease: LeaseId, job: JobId, worker: WorkerId) {
        self.given.insert(lease, (job, worker));
        self.by_worker.entry(worker).or_default().insert(lease);
    }

    /// Ends the lease. `None` if it has already ended; its end may be reported twice.
    pub(super) fn take(&mut self, lease: LeaseId) -> Option<(JobId, WorkerId)> {
        let (job, worker) = self.given.remove(&lease)?;
        if let Some(held) = self.by_worker.get_mut(&worker) {
            held.remove(&lease);
            if held.is_empty() {
                self.by_worker.remove(&worker);
            }
        }
        Some((job, worker))
    }

    /// The job and the worker of the lease.
    pub(super) fn get(&self, lease: LeaseId) -> Option<(JobId, WorkerId)> {
        self.given.get(&lease).copied()
    }

    pub(super) fn of_worker(&self, worker: WorkerId) -> Vec<(LeaseId, JobId)> {
        let held = self.by_worker.get(&worker).into_iter().flatten();
        held.filter_map(|lease| Some((*lease, self.given.get(lease)?.0))).collect()
    }

    /// The number of slots of this worker in use.
    pub(super) fn count(&self, worker: WorkerId) -> u32 {
        let held = self.by_worker.get(&worker).map_or(0, BTreeSet::len);
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.given.len()
    }
}
