//! The memory of a worker process, as its hive measures it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rbee_core::{
    OutputStream, Result, Run, Worker, WorkerInfo, hive::Devices, request::Task,
    worker::WorkerHealth,
};
use tokio::time::timeout;

/// How long the system may take to report the memory of a process.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A worker whose memory is measured in addition to its own report: the hive also sees the memory of an engine that
/// the worker has started, and growth while it runs.
#[derive(Debug)]
pub(super) struct Measured {
    worker: Arc<dyn Worker>,
    process: Option<u32>,
    machine: Devices,
}

impl Measured {
    pub(super) fn new(worker: Arc<dyn Worker>, process: Option<u32>, machine: Devices) -> Self {
        Self { worker, process, machine }
    }

    async fn seen(&self) -> Option<u64> {
        let devices = &self.worker.info().devices;
        timeout(TIMEOUT, self.machine.taken_by(self.process?, devices)).await.ok()?
    }
}

#[async_trait]
impl Worker for Measured {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.worker.info()
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        self.worker.execute(run).await
    }

    async fn health(&self) -> Result<WorkerHealth> {
        let (health, seen) = tokio::join!(self.worker.health(), self.seen());
        let health = health?;
        Ok(WorkerHealth { vram_bytes: health.vram_bytes.max(seen), ..health })
    }

    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.worker.count_tokens(task).await
    }
}
