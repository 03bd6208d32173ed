//! What an operator does about a database that was lost or damaged: restore a backup, begin anew, or go on with what is
//! there. In each case what was there before is kept, and epochs go on growing.

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

/// How far epochs jump, should the mark be damaged and the database have missed some. Not far: a hive may take a large
/// step for that of a stranger.
const EPOCHS: u64 = 10;
/// How long to wait for a lock: nobody should hold one.
const BUSY: Duration = Duration::from_secs(5);

/// What became of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Where the database is that was there before; `None` if there was none, or it is still in use.
    pub replaced: Option<PathBuf>,
    /// When its contents are from; `None` for an empty one.
    pub from: Option<WallTime>,
    /// Jobs in it that have not ended. They run at the next start, those that ran before from their last checkpoint.
    pub live_jobs: u64,
}

impl SqliteRegistry {
    /// The backups in this directory, the newest first.
    pub fn find_backups(directory: impl AsRef<Path>) -> Vec<PathBuf> {
        backup::find(directory.as_ref())
    }

    /// Puts a backup in the place of the database. The backup itself stays as it is, and the database that was there is
    /// moved aside.
    ///
    /// Jobs that had not ended when the backup was made are live again: they run at the next start, also those that have
    /// ended since. What was recorded since is not in the database any more. Epochs go on growing from the greatest that
    /// was ever given out, so hives do not take the next queen for an older one.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while a queen uses the database, [`ErrorKind::Storage`] if the backup is not a whole
    /// database of rbee, or a file cannot be written. The database is as it was then.
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

    /// Begins with an empty database. The one that was there is moved aside.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    pub fn start_anew(database: impl AsRef<Path>) -> Result<Restored> {
        exchange(database.as_ref(), "begin the registry", |_| Ok(()))
    }

    /// Goes on with the database as it is, although it does not hold what its mark says, or its log is damaged. What is
    /// missing is lost.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore), and [`ErrorKind::Storage`] if there is no database, or it is damaged itself.
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
        accepted.map_err(|fault| named(fault, "go on with the registry", database.as_ref()))
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

/// Puts another database in the place of this one: `make` writes the new file.
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
            // It may not even be there.
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

/// Makes this database the one that is marked. With `old` it is put in the place of `path`, and what is there is moved
/// to that name.
fn adopt(
    mut db: Connection,
    new: &Path,
    path: &Path,
    old: Option<&Path>,
) -> Result<Restored, Fault> {
    db.busy_timeout(BUSY)?;
    // The mark may be what is damaged: then the database alone says which epochs were given out.
    let before = loss_mark::read(path).unwrap_or_else(|error| {
        tracing::warn!(%error, "the mark is made anew");
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

/// The greatest epoch of the database that is there, as far as it can be read.
fn last_epoch_of(path: &Path) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = Connection::open_with_flags(path, flags).map_err(Fault::from);
    read.and_then(|db| loss_mark::last_epoch(&db)).unwrap_or(0)
}

/// Moves the database and its log aside, if there is one.
fn move_aside(path: &Path, old: &Path) -> Result<Option<PathBuf>, Fault> {
    let mut moved = None;
    // The log first: without it the database is older, but never with another's log.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, suffix), beside(old, suffix)) {
            Ok(()) => moved = Some(old.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(moved)
}
