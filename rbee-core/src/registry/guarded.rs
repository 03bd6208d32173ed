//! A registry that fails on demand, for tests of a queen's reaction to its store.

use std::{
    fmt,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{
    Change, JobFilter, JobRecord, MemoryRegistry, PolicyFilter, PolicyRecord, Registry, Snapshot,
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::{Epoch, QueenId},
};

type Guard = dyn Fn(&[Change]) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// A [`MemoryRegistry`] for tests, in which a guard accepts, delays or refuses each write.
///
/// Clones share one store, and the guard.
///
/// ```
/// use std::future::ready;
/// use rbee_core::{registry::GuardedRegistry, Error, ErrorKind, Queen, Request};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rbee_core::Result<()> {
/// # let my_worker = rbee_core::worker::EchoWorker::builder("my-model".parse()?).build();
///
/// let full = GuardedRegistry::new(|_changes| {
///     Box::pin(ready(Err(Error::new(ErrorKind::Storage, "the disk is full"))))
/// });
/// let queen = Queen::builder().registry(full).worker(my_worker).build().await?;
/// let error = queen.submit(Request::chat("my-model").user("Hi")).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Storage);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GuardedRegistry {
    inner: MemoryRegistry,
    guard: Arc<Guard>,
}

impl GuardedRegistry {
    /// An empty registry. The guard sees the changes before they are written; if it returns an error, they are not
    /// written. A heartbeat has no changes: the list is empty.
    pub fn new(
        guard: impl Fn(&[Change]) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self { inner: MemoryRegistry::new(), guard: Arc::new(guard) }
    }

    /// An empty registry whose writes fail as on a full disk while the switch is on.
    pub fn with_switch(switch: Arc<AtomicBool>) -> Self {
        Self::new(move |_| {
            Box::pin(ready(match switch.load(Ordering::SeqCst) {
                true => Err(Error::new(ErrorKind::Storage, "the disk is full")
                    .with_retry_after(Duration::from_secs(10))),
                false => Ok(()),
            }))
        })
    }
}

impl fmt::Debug for GuardedRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedRegistry").finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for GuardedRegistry {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        self.inner.open(queen, lease).await
    }
    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        (self.guard)(changes).await?;
        self.inner.record(epoch, changes).await
    }
    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> Result<()> {
        self.inner.keep_ends(epoch, ends).await
    }
    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        (self.guard)(&[]).await?;
        self.inner.renew(epoch).await
    }
    async fn release(&self, epoch: Epoch) -> Result<()> {
        self.inner.release(epoch).await
    }
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        self.inner.jobs(filter).await
    }
    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        self.inner.policies(filter).await
    }
}
