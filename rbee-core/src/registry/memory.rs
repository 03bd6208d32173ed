//! A registry in memory, for tests and for applications that need no state after a restart.

mod store;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use self::store::Store;
use super::{Change, JobFilter, JobRecord, PolicyFilter, Registry, Snapshot, clock::Clock};
use crate::{
    error::Result,
    id::{Epoch, QueenId},
    registry::PolicyRecord,
    time::WallTime,
};

/// The most ended jobs that are kept; the jobs that ended first are dropped first.
const ENDED_KEPT: usize = 10_000;
/// The most bytes of the answers of all ended jobs; beyond it, the jobs that ended first are dropped.
const ANSWERS_KEPT: usize = 256 << 20;

/// A [`Registry`] in memory. It follows every rule of the trait, but nothing survives the process. It keeps the last
/// 10,000 ended jobs, and fewer if their answers take more than 256 MiB.
///
/// Clones share one store, so two queens of one process can share it as they would share a database.
#[derive(Clone)]
pub struct MemoryRegistry {
    store: Arc<Mutex<Store>>,
    clock: Clock,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry with this clock for the leases and the current day; for tests and simulations.
    pub fn with_clock(clock: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        Self {
            store: Arc::new(Mutex::new(Store::new(ENDED_KEPT, ANSWERS_KEPT))),
            clock: Clock::new(clock),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Nothing in the store can panic in the middle of a change, so the data behind a poisoned lock is complete.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::with_clock(WallTime::now)
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry").finish_non_exhaustive()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        Ok(self.store().open(queen, lease, self.clock.now()))
    }

    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        self.store().record(epoch, changes)
    }

    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        self.store().renew(epoch, self.clock.now())
    }

    async fn release(&self, epoch: Epoch) -> Result<()> {
        self.store().release(epoch);
        Ok(())
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        Ok(self.store().jobs(filter))
    }

    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        Ok(self.store().policies(filter))
    }
}
