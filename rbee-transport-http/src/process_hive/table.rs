//! The worker processes of a hive.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use rbee_core::{Error, ErrorKind, InProcessHive, Result, WorkerId, WorkerSpec};
use serde::{Deserialize, Serialize};

use crate::{
    client::Endpoint,
    dial::{Dial, Sockets, Tcp},
    process::{Identity, LogFile, Running, StateDir},
    token::Token,
    wire::worker::WorkerTls,
};

/// The record of a worker, for the next hive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: WorkerId,
    pub(super) process: Identity,
    pub(super) host: IpAddr,
    pub(super) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sockets: Option<PathBuf>,
    /// The TLS that others find at its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<WorkerTls>,
    pub(super) token: Token,
    pub(super) spec: WorkerSpec,
}

impl Record {
    /// The endpoint at which the hive itself reaches it.
    pub(super) fn endpoint(&self) -> Endpoint {
        let endpoint =
            |dial: Arc<dyn Dial>| Endpoint::new(dial, self.port, Some(self.token.clone()));
        if let Some(directory) = self.socket_directory() {
            return endpoint(Arc::new(Sockets::new(directory)));
        }
        let host = match self.host {
            IpAddr::V4(any) if any.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(any) if any.is_unspecified() => "::1".to_owned(),
            host => host.to_string(),
        };
        endpoint(Arc::new(Tcp::new(host)))
    }

    /// The directory with the socket at which the hive reaches it, if it has one.
    fn socket_directory(&self) -> Option<&PathBuf> {
        self.sockets.as_ref().or(self.tls.as_ref().map(|tls| &tls.sockets))
    }

    /// Removes what a process that was killed has left.
    pub(super) fn clean(&self) {
        if let Some(directory) = self.socket_directory() {
            // A process that ended by itself has removed it.
            let _ = std::fs::remove_file(Sockets::new(directory).path(self.port));
        }
    }
}

/// A worker process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) record: Record,
    pub(super) running: Running,
    pub(super) endpoint: Endpoint,
    pub(super) log: LogFile,
    /// The protocols of the framed link that it offers; empty until it is ready.
    pub(super) links: Vec<String>,
}

impl Process {
    /// The error for its unexpected end.
    pub(super) async fn lost(&self) -> Error {
        let ended = self.running.ended().await;
        let mut message = format!("worker {} ended ({})", self.record.id, ended.how);
        let words = self.log.last_words();
        if !words.is_empty() {
            message = format!("{message}; its last output was:\n{words}");
        }
        Error::new(ErrorKind::WorkerLost, message)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    books: Weak<InProcessHive>,
    state_dir: StateDir,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    processes: BTreeMap<WorkerId, Process>,
    /// Workers that are being stopped, with the number of callers that stop each.
    stopping: BTreeMap<WorkerId, usize>,
}

impl Table {
    pub(super) fn new(books: Weak<InProcessHive>, state_dir: StateDir) -> Self {
        Self { books, state_dir, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one call on one map.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_dir(&self) -> &StateDir {
        &self.state_dir
    }

    pub(super) fn log(&self, id: WorkerId) -> LogFile {
        self.state_dir.log(&id.to_string())
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<Process> {
        self.inner().processes.get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Process> {
        self.inner().processes.values().cloned().collect()
    }

    /// Adds a process. From here on its end is noticed and reported to watchers.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the worker is being stopped.
    pub(super) fn insert(self: &Arc<Self>, process: Process) -> Result<()> {
        let id = process.record.id;
        {
            let mut inner = self.inner();
            if inner.stopping.contains_key(&id) {
                let message = format!("worker {id} was stopped while it was starting");
                return Err(Error::new(ErrorKind::Cancelled, message));
            }
            inner.processes.insert(id, process.clone());
        }
        let table = Arc::downgrade(self);
        tokio::spawn(async move {
            let why = process.lost().await;
            if let Some(table) = table.upgrade() {
                table.ended(&process, why);
            }
        });
        Ok(())
    }

    /// Records the protocols of the framed link that a process offers, once it is ready.
    pub(super) fn offers(&self, id: WorkerId, links: Vec<String>) {
        if let Some(process) = self.inner().processes.get_mut(&id) {
            process.links = links;
        }
    }

    /// Removes a process whose load has failed.
    pub(super) fn forget(&self, process: &Process) {
        self.ended(process, Error::new(ErrorKind::Cancelled, "its load failed"));
    }

    fn ended(&self, process: &Process, why: Error) {
        let id = process.record.id;
        let asked = {
            let mut inner = self.inner();
            let same = |is: &Process| is.running.identity() == process.running.identity();
            if !inner.processes.get(&id).is_some_and(same) {
                return;
            }
            inner.processes.remove(&id);
            inner.stopping.contains_key(&id)
        };
        process.record.clean();
        self.state_dir.remove(&id.to_string());
        if asked {
            process.log.remove();
        } else if let Some(books) = self.books.upgrade() {
            // A worker that never became ready is not among them: its load reports the error.
            if books.lost(id, why.clone()) {
                tracing::warn!(worker = %id, %why, "a worker is gone");
            }
        }
    }

    pub(super) fn is_stopping(&self, id: WorkerId) -> bool {
        self.inner().stopping.contains_key(&id)
    }

    /// Refuses new processes of this id until the returned value is dropped.
    pub(super) fn stopping(&self, id: WorkerId) -> Stopping<'_> {
        *self.inner().stopping.entry(id).or_default() += 1;
        Stopping { table: self, id }
    }

    /// Ends every process, concurrently.
    pub(super) async fn end_all(&self, grace: Duration) {
        let all: Vec<_> = self.inner().processes.keys().copied().collect();
        let stops = all.into_iter().map(|id| async move { self.stopping(id).end(grace).await });
        join_all(stops).await;
    }
}

/// A worker is being stopped.
#[derive(Debug)]
pub(super) struct Stopping<'a> {
    table: &'a Table,
    id: WorkerId,
}

impl Stopping<'_> {
    /// Ends the process, and removes it.
    pub(super) async fn end(&self, grace: Duration) {
        let Some(process) = self.table.get(self.id) else { return };
        process.running.end(grace).await;
        let why = Error::new(ErrorKind::Cancelled, "it was stopped");
        self.table.ended(&process, why);
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        let mut inner = self.table.inner();
        if let Some(count) = inner.stopping.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                inner.stopping.remove(&self.id);
            }
        }
    }
}
