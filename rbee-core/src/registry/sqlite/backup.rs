//! Backups of the database while it is used: a thread of its own copies it a few pages at a time.
//!
//! The copy is of one moment: the thread reads through one read transaction, so it neither waits for the writer nor
//! begins anew when something is written. It is checked, and has its name only when it is whole. The oldest are
//! removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use tokio::sync::mpsc::WeakSender;

use super::{
    fault::Fault,
    file::{self, create_directory},
    loss_mark, migrate,
    options::Backups,
    writer::Message,
};
use crate::time::WallTime;

/// Pages that are copied at once: 1 MiB as a rule.
const STEP: i32 = 256;
/// The pause after each step, so that others get at the disk.
const PAUSE: Duration = Duration::from_millis(10);
/// A step that finds the database locked is tried again for so long.
const BUSY: Duration = Duration::from_secs(60);
/// The first backup of a database is made so long after it was opened.
const FIRST: Duration = Duration::from_secs(60);
/// A failed backup is tried again after so long, or after the interval if that is shorter.
const AGAIN: Duration = Duration::from_secs(600);
/// Making backups takes at most this part of the time: one that takes a minute is not made again within an hour.
const SHARE: u32 = 60;
/// What stays free beside a copy, on top of its own size.
const RESERVE: u64 = 1 << 20;

/// How the backups of a database fare.
#[derive(Clone, Debug, Default)]
pub struct BackupStatus(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: Option<(PathBuf, WallTime)>,
    error: Option<String>,
}

impl BackupStatus {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest backup, and when it was made.
    pub fn last(&self) -> Option<(PathBuf, WallTime)> {
        self.lock().last.clone()
    }

    /// Why the last one could not be made; `None` if it was made.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }
}

/// The thread that makes them. It ends when this is dropped, in the middle of a copy, too.
#[derive(Debug)]
pub(super) struct BackupThread {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    status: BackupStatus,
}

impl BackupThread {
    pub(super) fn start(
        database: Arc<Path>,
        busy: Duration,
        settings: Backups,
        commits: Arc<AtomicU64>,
        writer: WeakSender<Message>,
    ) -> io::Result<Self> {
        let (stop, stopped) = std::sync::mpsc::sync_channel(0);
        let status = BackupStatus::default();
        let worker = Worker { database, busy, settings, status: status.clone(), stopped, writer };
        let thread = std::thread::Builder::new()
            .name("rbee-backup".into())
            .spawn(move || worker.run(&commits))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), status })
    }

    pub(super) fn status(&self) -> BackupStatus {
        self.status.clone()
    }
}

impl Drop for BackupThread {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes backups panicked");
        }
    }
}

struct Worker {
    database: Arc<Path>,
    busy: Duration,
    settings: Backups,
    status: BackupStatus,
    stopped: Receiver<()>,
    writer: WeakSender<Message>,
}

impl Worker {
    fn run(self, commits: &AtomicU64) {
        let mut delay = self.first_delay();
        let mut copied = None;
        while !self.must_stop(delay) {
            let now = commits.load(Ordering::Relaxed);
            delay = self.settings.interval;
            if copied == Some(now) {
                continue;
            }
            let began = Instant::now();
            let made = self.make();
            // What is copied is older than the mark from now on, so that a backup in the place of the database is noticed.
            if let Some(writer) = self.writer.upgrade() {
                let _ = writer.blocking_send(Message::Mark);
            }
            let mut status = self.status.lock();
            match made {
                Ok(Some((path, at))) => {
                    tracing::info!(path = %path.display(), took = ?began.elapsed(), "made a backup");
                    copied = Some(now);
                    status.last = Some((path, at));
                    status.error = None;
                    delay = delay.max(began.elapsed().saturating_mul(SHARE));
                }
                Ok(None) => return,
                Err(fault) => {
                    let message = format!(
                        "no backup of {} could be made in {}: {fault}",
                        self.database.display(),
                        self.settings.directory.display()
                    );
                    tracing::warn!("{message}");
                    status.error = Some(message);
                    delay = delay.min(AGAIN);
                }
            }
        }
    }

    /// Waits. Says whether the registry was dropped.
    fn must_stop(&self, delay: Duration) -> bool {
        self.stopped.recv_timeout(delay) != Err(RecvTimeoutError::Timeout)
    }

    /// Until the next one is due after those that are there.
    fn first_delay(&self) -> Duration {
        let first = FIRST.min(self.settings.interval);
        let newest = find(&self.settings.directory).into_iter().next();
        let made = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
        let Some((made, path)) = newest.and_then(made) else {
            return first;
        };
        let at = made.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(at.as_millis()).unwrap_or_default();
        self.status.lock().last = Some((path, WallTime::from_millis(millis)));
        let age = made.elapsed().unwrap_or_default();
        self.settings.interval.saturating_sub(age).max(first)
    }

    /// Makes one. `None` if it was told to stop meanwhile.
    fn make(&self) -> Result<Option<(PathBuf, WallTime)>, Fault> {
        let directory = &self.settings.directory;
        create_directory(directory)?;
        self.make_room()?;
        let now = WallTime::now();
        let stamp = loss_mark::utc(now.as_millis()).replace(['-', ':'], "");
        let path = directory.join(format!("{PREFIX}{stamp}{SUFFIX}"));
        let part = directory.join(format!("{PREFIX}{stamp}{PART}"));
        drop(file::create_private(&part)?);
        let copied = copy(&self.database, &part, self.busy, || self.must_stop(PAUSE));
        let is_whole = match copied {
            Ok(is_whole) => is_whole,
            Err(fault) => {
                remove(&part);
                return Err(fault);
            }
        };
        if !is_whole {
            remove(&part);
            return Ok(None);
        }
        fs::rename(&part, &path)?;
        loss_mark::sync_directory(&path)?;
        find(directory).iter().skip(self.settings.kept.max(1)).for_each(|old| remove(old));
        Ok(Some((path, now)))
    }

    /// A copy needs as much room as the database, and so much must stay free. The oldest backups make way, but not the
    /// last one.
    fn make_room(&self) -> Result<(), Fault> {
        let directory = &self.settings.directory;
        for part in list(directory).into_iter().filter(|(_, name)| name.contains(PART)) {
            remove(&part.0);
        }
        let size = |suffix| {
            fs::metadata(file::beside(&self.database, suffix)).map_or(0, |found| found.len())
        };
        let needed = (size("") + size("-wal")).saturating_mul(2).saturating_add(RESERVE);
        let mut old = find(directory);
        loop {
            match free_bytes(directory) {
                Some(free) if free < needed => {
                    if old.len() <= 1 {
                        return Err(Fault::NoRoom { needed, free });
                    }
                    old.pop().iter().for_each(|oldest| remove(oldest));
                }
                _ => return Ok(()),
            }
        }
    }
}

const PREFIX: &str = "backup-";
const SUFFIX: &str = ".db";
const PART: &str = ".part";

/// The backups in this directory, the newest first.
pub(super) fn find(directory: &Path) -> Vec<PathBuf> {
    let mut found = list(directory);
    found.retain(|(_, name)| name.ends_with(SUFFIX));
    // The names hold the moment.
    found.sort_by(|one, other| other.1.cmp(&one.1));
    found.into_iter().map(|(path, _)| path).collect()
}

/// What is ours in it.
fn list(directory: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named =
        entries.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()));
    named.filter(|(_, name)| name.starts_with(PREFIX)).collect()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a file stays behind");
    }
}

fn free_bytes(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(directory).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}

/// Copies the database as it is at this moment to an empty file, which is one whole database. Says whether it was not
/// told to stop meanwhile; `pause` waits a moment and says that.
pub(super) fn copy(
    database: &Path,
    to: &Path,
    busy: Duration,
    mut pause: impl FnMut() -> bool,
) -> Result<bool, Fault> {
    let source = migrate::open_reader(database, busy)?;
    // Everything is read in this transaction, so the copy is of one moment and need not begin anew.
    let moment = source.unchecked_transaction()?;
    loss_mark::identity(&moment)?;
    let mut copy = Connection::open(to)?;
    let since = Instant::now();
    {
        let backup = Backup::new(&source, &mut copy)?;
        loop {
            match backup.step(STEP)? {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked if since.elapsed() > BUSY => {
                    return Err(Fault::Io(io::ErrorKind::ResourceBusy.into()));
                }
                _ => {}
            }
            if pause() {
                return Ok(false);
            }
        }
    }
    moment.finish()?;
    seal(&copy)?;
    migrate::check_pages(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    fs::File::open(to)?.sync_all()?;
    Ok(true)
}

/// Makes it one file, without a log beside it.
pub(super) fn seal(db: &Connection) -> Result<(), Fault> {
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    Ok(())
}
