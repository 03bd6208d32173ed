//! The durable registry: one SQLite file, one thread that writes, a few connections that read.
//!
//! Every record is encoded by its caller. If nobody else writes, the caller writes it too. Else it goes to the writer's
//! thread through a bounded channel: the thread takes all queued records, writes them in one transaction and answers
//! every caller after the commit, so a hundred callers share one commit, and each of them still gets only its own
//! failure. The write-ahead log lets readers continue in the meantime.

mod answers;
mod apply;
mod backup;
mod durability;
mod ends;
mod fault;
mod file;
mod log_check;
mod loss_mark;
mod migrate;
mod ops;
mod options;
mod outcome;
mod owner_lock;
mod owners;
mod queue;
mod read;
mod restore;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod token_chunks;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::{
    answers::Caller,
    backup::BackupThread,
    fault::Fault,
    queue::{Message, Queue, SharedWriter},
    read::Readers,
    writer::{Record, Writer},
};
pub use self::{
    backup::BackupStatus,
    durability::Durability,
    options::{Backups, SqliteOptions},
    restore::Restored,
};
use super::{Change, JobFilter, JobRecord, Registry, Snapshot};
use crate::{
    error::Result,
    id::{Epoch, QueenId},
    registry::{PolicyFilter, PolicyRecord},
};

/// A [`Registry`] in one SQLite database.
///
/// A record that [`record`](Registry::record) acknowledged survives the death of the process, and with
/// [`Durability::PowerLoss`] that of the machine. Several queens, in one process or in several on the same machine, may
/// share the file, each through its own `SqliteRegistry`. In addition to its lease, each run holds a lock on a small
/// file next to the database, which the system frees when the process ends; so the rows of a queen that was killed are
/// taken over at the next opening or renewal, long before its lease expires.
///
/// A file next to the database, its *mark*, states what the database must contain at least. A database that was
/// deleted, emptied or replaced by an older one, or whose log was damaged, is refused when it is opened; use
/// [`restore`](Self::restore), [`start_anew`](Self::start_anew) or [`accept_loss`](Self::accept_loss) then.
///
/// A failure of the file returns [`ErrorKind::Storage`](crate::ErrorKind::Storage) and changes nothing; the registry
/// works again once the cause is gone. Dropping it writes all accepted records and waits for that.
///
/// ```
/// use std::time::Duration;
/// use rbee_core::{id::QueenId, Registry, SqliteRegistry};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("rbee.db");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let registry = SqliteRegistry::open(path)?;
/// let found = registry.open(&QueenId::new("home")?, Duration::from_secs(30)).await?;
/// assert!(found.jobs.is_empty());
/// # Ok::<(), rbee_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteRegistry {
    path: Arc<Path>,
    /// `None` once the drop has begun.
    queue: Option<Queue>,
    writer: Arc<SharedWriter>,
    thread: Option<JoinHandle<()>>,
    readers: Readers,
    commits: Arc<AtomicU64>,
    lives: writer::Locks,
    backups: Option<BackupThread>,
    _open: migrate::OpenHere,
}

impl SqliteRegistry {
    /// Opens the database, or creates it (mode 0600, missing directories 0700), with the default options.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) that names the file: it cannot be opened or created, is not a
    /// database, belongs to another application, or was written by a newer rbee. Such a file stays as it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// The options to open a database with.
    pub fn options() -> SqliteOptions {
        SqliteOptions::default()
    }

    /// The number of committed transactions with records. It is smaller than the number of records if many callers
    /// recorded at once.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The status of its backups; `None` if none are made.
    pub fn backup_status(&self) -> Option<BackupStatus> {
        self.backups.as_ref().map(BackupThread::status)
    }

    fn start(path: &Path, options: &SqliteOptions) -> Result<Self, Fault> {
        let (connection, open) =
            migrate::open_writer(path, options.durability, options.busy_timeout)?;
        let path: Arc<Path> = path.into();
        let (queue, inbox) = Queue::new();
        let writer = Writer::new(connection, path.clone(), options)?;
        let (commits, lives) = (writer.commits(), writer.lives());
        let writer = Arc::new(SharedWriter::new(writer, options.durability));
        let thread = std::thread::Builder::new().name("rbee-registry".into());
        let thread = thread.spawn({
            let writer = writer.clone();
            move || writer.run(inbox)
        })?;
        let backups = options.backups.clone().map(|settings| {
            let (path, commits) = (path.clone(), commits.clone());
            let writer = queue.downgrade();
            BackupThread::start(path, options.busy_timeout, settings, commits, writer)
        });
        Ok(Self {
            readers: Readers::new(path.clone(), options.busy_timeout),
            backups: backups.transpose()?,
            _open: open,
            path,
            queue: Some(queue),
            writer,
            thread: Some(thread),
            commits,
            lives,
        })
    }

    /// Sends one message to the writer and waits for the reply.
    async fn ask<T>(
        &self,
        operation: &str,
        message: impl FnOnce(oneshot::Sender<Result<T>>) -> Message,
    ) -> Result<T> {
        let stopped = || Fault::Stopped.during(operation, &self.path);
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        if !queue.send(message(reply)).await {
            return Err(stopped());
        }
        answer.await.map_err(|_| stopped())?
    }

    /// Runs a function on the writer's connection, to cause failures in tests.
    #[cfg(test)]
    async fn on_writer(&self, act: impl FnOnce(&rusqlite::Connection) + Send + 'static) {
        let act = Box::new(act);
        let done = self.ask("test", |reply| Message::Act { act, reply }).await;
        done.expect("the writer runs");
    }
}

impl fmt::Debug for SqliteRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteRegistry").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for SqliteRegistry {
    fn drop(&mut self) {
        // The last connection that closes cleans up the log, so the readers are closed first.
        self.backups = None;
        self.readers.close();
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the thread of the registry panicked");
        }
    }
}

#[async_trait]
impl Registry for SqliteRegistry {
    async fn open(&self, queen: &QueenId, lease: Duration) -> Result<Snapshot> {
        let queen = queen.clone();
        let message = |reply| Message::Open { queen, lease, reply };
        self.ask("begin a run in", message).await
    }

    async fn record(&self, epoch: Epoch, changes: &[Change]) -> Result<()> {
        let ops = ops::encode(changes).map_err(|fault| fault.during(writer::RECORD, &self.path))?;
        let mut record = Record { epoch, ops };
        if let Some(queue) = &self.queue {
            record = match self.writer.write_at_once(queue, record) {
                Ok(result) => return result,
                Err(record) => record,
            };
        }
        let message = |reply| Message::Record(record, Caller::new(reply));
        self.ask(writer::RECORD, message).await
    }

    async fn renew(&self, epoch: Epoch) -> Result<Snapshot> {
        self.ask("renew a lease in", |reply| Message::Renew { epoch, reply }).await
    }

    async fn release(&self, epoch: Epoch) -> Result<()> {
        let message = |reply| Message::Release { epoch, reply };
        self.ask("release a run in", message).await
    }

    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> Result<()> {
        // Not through the writer: it may be waiting for the lock of the database.
        let mut lives = writer::lock(&self.lives);
        let Some(life) = lives.get_mut(&epoch) else {
            let message =
                "ends of jobs cannot be kept next to the database: there are no file locks here";
            return Err(crate::error::Error::new(crate::error::ErrorKind::Unsupported, message));
        };
        let kept = if ends.is_empty() { life.ends.clear() } else { life.ends.keep(ends) };
        kept.map_err(|error| Fault::from(error).during("keep ends of jobs next to", &self.path))
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        self.readers.jobs(filter).await
    }

    async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        self.readers.policies(filter).await
    }
}
