//! Backups of the database while it is in use: a separate thread copies it a few pages at a time.
//!
//! The copy is a snapshot: the thread reads through one read transaction, so it neither waits for the writer nor starts
//! again after a write. The copy is checked, and gets its final name only when it is complete. The oldest backups are
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

use super::{
    fault::Fault,
    file::{self, create_directory},
    loss_mark, migrate,
    options::Backups,
    queue::WeakQueue,
};
use crate::time::WallTime;

/// Pages copied at once: usually 1 MiB.
const STEP: i32 = 256;
/// The pause after each step, so that others can use the disk.
const PAUSE: Duration = Duration::from_millis(10);
/// The time for which a step is retried if the database is locked.
const BUSY: Duration = Duration::from_secs(60);
/// The delay of the first backup after the opening of a database.
const FIRST: Duration = Duration::from_secs(60);
/// The delay before a failed backup is retried, or the interval if that is shorter.
const AGAIN: Duration = Duration::from_secs(600);
/// Backups take at most this part of the time: a backup that takes a minute is not repeated within an hour.
const SHARE: u32 = 60;
/// The disk space that stays free in addition to the size of a copy.
const RESERVE: u64 = 1 << 20;

/// The status of a database's backups.
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

    /// The newest backup, and its time.
    pub fn last(&self) -> Option<(PathBuf, WallTime)> {
        self.lock().last.clone()
    }

    /// The failure of the last backup; `None` if it was made.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }
}

/// The thread that makes backups. It ends when this is dropped, even in the middle of a copy.
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
        writer: WeakQueue,
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
    writer: WeakQueue,
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
            // From now on the mark is newer than the copy, so that a backup that replaces the database is noticed.
            self.writer.mark();
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

    /// Waits. Returns true if the registry was dropped.
    fn must_stop(&self, delay: Duration) -> bool {
        self.stopped.recv_timeout(delay) != Err(RecvTimeoutError::Timeout)
    }

    /// The time until the next backup, given the existing ones.
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

    /// Makes one backup. `None` if the registry was dropped in the meantime.
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

    /// Frees disk space for a copy: as much as the database takes must stay free. The oldest backups are removed, but
    /// not the last one.
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
    // The names contain the time.
    found.sort_by(|one, other| other.1.cmp(&one.1));
    found.into_iter().map(|(path, _)| path).collect()
}

/// The backup files in a directory.
fn list(directory: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named =
        entries.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()));
    named.filter(|(_, name)| name.starts_with(PREFIX)).collect()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "cannot remove a file");
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

/// Copies a snapshot of the database to an empty file, as one complete database. Returns false if the registry was
/// dropped in the meantime; `pause` waits for a moment and returns true in that case.
pub(super) fn copy(
    database: &Path,
    to: &Path,
    busy: Duration,
    mut pause: impl FnMut() -> bool,
) -> Result<bool, Fault> {
    let source = migrate::open_reader(database, busy)?;
    // Everything is read in this transaction, so the copy is a snapshot and need not start again.
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

/// Makes the database a single file, without a log.
pub(super) fn seal(db: &Connection) -> Result<(), Fault> {
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    Ok(())
}
