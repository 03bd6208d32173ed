//! How the workers of a hive are reached.

use std::sync::Arc;

use async_trait::async_trait;
use rbee_core::{Result, Worker};

use crate::wire::hive::WorkerAddress;

/// How the workers of a hive are reached from outside its process.
#[async_trait]
pub trait Reach: std::fmt::Debug + Send + Sync + 'static {
    /// Makes a worker reachable: one that was just started, that exists when a queen takes the lease on the hive, or
    /// that appears while that queen follows it. Idempotent. Does nothing by default.
    ///
    /// # Errors
    /// Any reason why it cannot be reached.
    async fn open(&self, worker: &Arc<dyn Worker>) -> Result<()> {
        let _ = worker;
        Ok(())
    }

    /// True if [`open`](Self::open) does something. False by default: then taking the lease need not list the
    /// workers.
    fn must_open(&self) -> bool {
        false
    }

    /// The address of this worker, and the token it accepts. Changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](rbee_core::ErrorKind::NotFound) if it has ended, or any other reason why it cannot be reached.
    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress>;
}

#[cfg(all(feature = "process", unix))]
#[async_trait]
impl Reach for crate::process_hive::ProcessHive {
    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress> {
        crate::process_hive::ProcessHive::address(self, worker.info().id).await
    }
}
