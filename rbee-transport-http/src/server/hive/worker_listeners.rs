//! Ports for workers that live inside this process.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use rbee_core::{Error, ErrorKind, Result, Worker, WorkerId, WorkerInfo};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Reach;
use crate::{
    server::{Server, TlsFiles, WorkerServer},
    token::Token,
    wire::hive::WorkerAddress,
};

/// Opens a port for each worker, and closes it when the worker is gone.
#[derive(Debug)]
pub(super) struct WorkerListeners {
    host: IpAddr,
    tls: Option<TlsFiles>,
    open: Arc<Mutex<BTreeMap<WorkerId, WorkerListener>>>,
    /// Held while one is opened, so that no worker gets two.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct WorkerListener {
    worker: Weak<dyn Worker>,
    port: u16,
    token: Token,
    _close: DropGuard,
}

impl WorkerListeners {
    /// Listeners on this address, with TLS if there are files of it.
    pub(super) fn new(host: IpAddr, tls: Option<TlsFiles>) -> Self {
        Self { host, tls, open: Arc::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The open listeners; those of workers that are gone are closed.
    fn open_now(&self) -> MutexGuard<'_, BTreeMap<WorkerId, WorkerListener>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, door| door.worker.strong_count() > 0);
        open
    }
}

#[async_trait]
impl Reach for WorkerListeners {
    fn must_open(&self) -> bool {
        true
    }

    async fn open(&self, worker: &Arc<dyn Worker>) -> Result<()> {
        let _one = self.opening.lock().await;
        let info = worker.info();
        if self.open_now().contains_key(&info.id) {
            return Ok(());
        }
        let (server, token) =
            (Server::bind(SocketAddr::new(self.host, 0)).await?, Token::random()?);
        let server = match &self.tls {
            Some(files) => server.with_tls_files(files.clone()),
            None => server,
        };
        let port = server.address().port();
        let exposed = WorkerServer::new(info.id);
        // Held weakly: a worker that its hive drops is gone, even if its port is still open.
        let held = Held { worker: Arc::downgrade(worker), info: info.clone() };
        exposed.ready(Arc::new(held));
        let close = CancellationToken::new();
        let router = exposed.router(token.clone());
        tokio::spawn(server.run(router, close.clone(), Duration::ZERO));
        let worker = Arc::downgrade(worker);
        let door = WorkerListener { worker, port, token, _close: close.drop_guard() };
        self.open_now().insert(info.id, door);
        Ok(())
    }

    async fn address(&self, worker: &Arc<dyn Worker>) -> Result<WorkerAddress> {
        let info = WorkerInfo::clone(worker.info());
        match self.open_now().get(&info.id) {
            Some(door) => Ok(WorkerAddress {
                info,
                port: door.port,
                token: door.token.clone(),
                links: WorkerServer::links(),
            }),
            None => {
                let message = format!(
                    "worker {} has no port yet; it gets one when a queen claims the hive",
                    info.id
                );
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
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
            Error::new(ErrorKind::WorkerLost, message)
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
    async fn health(&self) -> Result<rbee_core::worker::WorkerHealth> {
        self.worker()?.health().await
    }
    async fn count_tokens(&self, task: Arc<rbee_core::request::Task>) -> Result<u32> {
        self.worker()?.count_tokens(task).await
    }
}
