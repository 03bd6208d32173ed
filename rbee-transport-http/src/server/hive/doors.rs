//! Ports for workers that live inside this process.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use rbee_core::{Result, Worker, WorkerId, WorkerInfo};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Reach;
use crate::{
    Token,
    server::{Server, WorkerServer},
    wire::hive::WorkerAddress,
};

/// Opens a port for each worker that is asked for, and closes it when the worker is gone.
#[derive(Debug)]
pub(super) struct Doors {
    host: IpAddr,
    open: Arc<Mutex<BTreeMap<WorkerId, Door>>>,
    /// One is opened at a time, so that no worker gets two.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Door {
    worker: Weak<dyn Worker>,
    port: u16,
    token: Token,
    _close: DropGuard,
}

impl Doors {
    pub(super) fn new(host: IpAddr) -> Self {
        Self { host, open: Arc::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The open doors; those of workers that are gone are closed.
    fn open(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Door>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, door| door.worker.strong_count() > 0);
        open
    }
}

#[async_trait]
impl Reach for Doors {
    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress> {
        let _one = self.opening.lock().await;
        let info = WorkerInfo::clone(worker.info());
        if let Some(door) = self.open().get(&info.id) {
            return Ok(WorkerAddress { info, port: door.port, token: door.token.clone() });
        }
        let (server, token) =
            (Server::bind(SocketAddr::new(self.host, 0)).await?, Token::random()?);
        let port = server.address().port();
        let host = WorkerServer::new(info.id);
        // Held weakly: a worker that its hive lets go of is gone, whoever could still knock.
        host.ready(Arc::new(Held { worker: Arc::downgrade(worker), info: worker.info().clone() }));
        let close = CancellationToken::new();
        tokio::spawn(server.run(host.router(token.clone()), close.clone(), Duration::ZERO));
        let door = Door {
            worker: Arc::downgrade(worker),
            port,
            token: token.clone(),
            _close: close.drop_guard(),
        };
        self.open().insert(info.id, door);
        Ok(WorkerAddress { info, port, token })
    }
}

/// A worker that may be gone.
#[derive(Debug)]
struct Held {
    worker: Weak<dyn Worker>,
    info: Arc<WorkerInfo>,
}

impl Held {
    fn worker(&self) -> Result<Arc<dyn Worker>> {
        self.worker.upgrade().ok_or_else(|| {
            let message = format!("worker {} is gone", self.info.id);
            rbee_core::Error::new(rbee_core::ErrorKind::WorkerLost, message)
        })
    }
}

#[async_trait]
impl Worker for Held {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }
    async fn execute(&self, run: rbee_core::Run) -> Result<rbee_core::OutputStream> {
        self.worker()?.execute(run).await
    }
    async fn health(&self) -> Result<rbee_core::WorkerHealth> {
        self.worker()?.health().await
    }
}
