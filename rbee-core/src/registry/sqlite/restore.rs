//! The operator's options after a database was lost or damaged: restore a backup, start with an empty database, or
//! accept the loss. In each case the previous database is kept, and epochs continue to grow.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteRegistry, backup,
    fault::Fault,
    file::{beside, create_private},
    loss_mark, migrate, owner_lock,
};
use crate::{
    error::{Error, ErrorKind, Result},
    time::WallTime,
};

/// The increase of the epochs, in case the mark is damaged and the database misses some. It is small: a hive may treat
/// a large step as the epoch of an unrelated queen.
const EPOCHS: u64 = 10;
/// The time to wait for a lock: nobody should hold one.
const BUSY: Duration = Duration::from_secs(5);

/// The result of a repair of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The new path of the previous database; `None` if there was none, or if it is still in use.
    pub replaced: Option<PathBuf>,
    /// The time of its contents; `None` for an empty one.
    pub from: Option<WallTime>,
    /// Jobs in it that have not ended. They run at the next start; jobs that ran before continue from their last
    /// checkpoint.
    pub live_jobs: u64,
}

impl SqliteRegistry {
    /// The backups in this directory, the newest first.
    pub fn find_backups(directory: impl AsRef<Path>) -> Vec<PathBuf> {
        backup::find(directory.as_ref())
    }

    /// Replaces the database with a backup. The backup itself stays as it is, and the previous database is renamed.
    ///
    /// Jobs that had not ended when the backup was made are live again: they run at the next start, also those that
    /// have ended since. Data recorded since then is not in the database any more. Epochs continue to grow from the
    /// greatest one ever assigned, so hives do not take the next queen for an older one.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while a queen uses the database, [`ErrorKind::Storage`] if the backup is not a complete
    /// database of rbee, or if a file cannot be written. The database then stays as it was.
    pub fn restore(database: impl AsRef<Path>, backup: impl AsRef<Path>) -> Result<Restored> {
        let backup = backup.as_ref();
        exchange(database.as_ref(), "restore the registry", |new| {
            let found = std::path::absolute(backup).map_err(Fault::from).and_then(|backup| {
                drop(migrate::open_backup(&backup, BUSY)?);
                backup::copy(&backup, new, BUSY, || false)
            });
            found
                .map(drop)
                .map_err(|fault| Fault::Backup { path: backup.to_owned(), cause: Box::new(fault) })
        })
    }

    /// Starts with an empty database. The previous one is renamed.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    pub fn start_anew(database: impl AsRef<Path>) -> Result<Restored> {
        exchange(database.as_ref(), "begin the registry", |_| Ok(()))
    }

    /// Accepts the database as it is, although it does not contain what its mark states, or its log is damaged. The
    /// missing data is lost.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore), and [`ErrorKind::Storage`] if there is no database, or the database file
    /// itself is damaged.
    pub fn accept_loss(database: impl AsRef<Path>) -> Result<Restored> {
        let path = std::path::absolute(database.as_ref()).map_err(Fault::from);
        let accepted = path.and_then(|path| {
            refuse_if_used(&path)?;
            let found = fs::metadata(&path)?;
            if found.len() == 0 {
                return Err(Fault::Io(io::Error::other("the file is empty")));
            }
            let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            migrate::check_pages(&db)?;
            let restored = adopt(db, &path, &path, None)?;
            Ok(restored)
        });
        accepted.map_err(|fault| named(fault, "continue with the registry", database.as_ref()))
    }
}

fn named(fault: Fault, operation: &str, database: &Path) -> Error {
    match fault {
        Fault::Used => {
            let message = format!(
                "cannot {operation} {}: a queen uses it; stop the queen first",
                database.display()
            );
            Error::new(ErrorKind::Conflict, message)
        }
        fault => fault.during(operation, database),
    }
}

/// Replaces this database with another: `make` writes the new file.
fn exchange(
    database: &Path,
    operation: &str,
    make: impl FnOnce(&Path) -> Result<(), Fault>,
) -> Result<Restored> {
    let exchanged = std::path::absolute(database).map_err(Fault::from).and_then(|path| {
        refuse_if_used(&path)?;
        let now = WallTime::now();
        let moment = loss_mark::utc(now.as_millis()).replace(['-', ':'], "");
        let new = beside(&path, &format!("-new-{moment}"));
        let old = beside(&path, &format!("-replaced-{moment}"));
        let restored = (|| {
            drop(create_private(&new)?);
            make(&new)?;
            let db = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            adopt(db, &new, &path, Some(&old))
        })();
        if restored.is_err() {
            // The file may not exist.
            let _ = fs::remove_file(&new);
        }
        restored
    });
    exchanged.map_err(|fault| named(fault, operation, database))
}

fn refuse_if_used(database: &Path) -> Result<(), Fault> {
    if migrate::is_open_here(database) || owner_lock::is_anyone_alive(database)? {
        Err(Fault::Used)
    } else {
        Ok(())
    }
}

/// Makes this database the one that the mark describes. With `old` it replaces `path`, and the previous file is renamed
/// to that name.
fn adopt(
    mut db: Connection,
    new: &Path,
    path: &Path,
    old: Option<&Path>,
) -> Result<Restored, Fault> {
    db.busy_timeout(BUSY)?;
    // The mark itself may be damaged: then only the database shows which epochs were assigned.
    let before = loss_mark::read(path).unwrap_or_else(|error| {
        tracing::warn!(%error, "the mark is written again");
        None
    });
    let (stamp, epoch) = before.as_ref().map_or((0, 0), |mark| (mark.stamp, mark.epoch));
    migrate::bring_up_to_date(&mut db)?;
    if old.is_some() {
        backup::seal(&db)?;
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    let from = loss_mark::identity(&db)?.filter(|found| found.at_ms > 0);
    let alive = db.unchecked_transaction()?;
    loss_mark::raise_epoch(&alive, epoch.max(last_epoch_of(path)).saturating_add(EPOCHS))?;
    loss_mark::stamp(&alive, stamp, WallTime::now())?;
    alive.commit()?;
    let written = loss_mark::of(&db, WallTime::now())?;
    db.close().map_err(|(_, error)| error)?;
    let replaced = old.map(|old| move_aside(path, old)).transpose()?.flatten();
    if old.is_some() {
        fs::File::open(new)?.sync_all()?;
        fs::rename(new, path)?;
        loss_mark::sync_directory(path)?;
    }
    if let Some(written) = &written {
        loss_mark::write(path, written)?;
    }
    Ok(Restored {
        replaced,
        from: from.map(|found| WallTime::from_millis(found.at_ms)),
        live_jobs: written.map_or(0, |mark| mark.live_jobs),
    })
}

/// The greatest epoch of the existing database, as far as it can be read.
fn last_epoch_of(path: &Path) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = Connection::open_with_flags(path, flags).map_err(Fault::from);
    read.and_then(|db| loss_mark::last_epoch(&db)).unwrap_or(0)
}

/// Renames the database and its log, if they exist.
fn move_aside(path: &Path, old: &Path) -> Result<Option<PathBuf>, Fault> {
    let mut moved = None;
    // The log first: without it the database is older, but it is never combined with the log of another.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, suffix), beside(old, suffix)) {
            Ok(()) => moved = Some(old.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(moved)
}
