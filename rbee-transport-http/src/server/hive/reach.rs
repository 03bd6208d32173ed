//! How the workers of a hive are reached.

use std::sync::Arc;

use async_trait::async_trait;
use rbee_core::{Result, Worker};

use crate::wire::hive::WorkerAddress;

/// How the workers of a hive are reached from outside of its process.
#[async_trait]
pub trait Reach: std::fmt::Debug + Send + Sync + 'static {
    /// Makes a worker reachable: one that was just started, or that is there when a queen claims the hive, or appears while
    /// that queen follows it. Idempotent. Nothing has to be done by default.
    ///
    /// # Errors
    /// Whatever keeps it from being reached.
    async fn open(&self, worker: &Arc<dyn Worker>) -> Result<()> {
        let _ = worker;
        Ok(())
    }

    /// Does [`open`](Self::open) do something? No by default: then a claim need not look for workers.
    fn must_open(&self) -> bool {
        false
    }

    /// Where this worker listens, and the token it takes. Changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](rbee_core::ErrorKind::NotFound) if it has ended, or whatever keeps it from being reached.
    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress>;
}

#[cfg(all(feature = "process", unix))]
#[async_trait]
impl Reach for crate::process_hive::ProcessHive {
    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress> {
        crate::process_hive::ProcessHive::address(self, worker.info().id).await
    }
}
