//! The heartbeat that needs no clock: a lock on a small file next to the database, held as long as the process runs.
//!
//! The system frees it however the process ends. It belongs to the open file, not to the process, so it also
//! distinguishes two queens of one process. If the file system has no locks, only the lease decides.
//!
//! Files are created, tested and removed only by a holder of the database's write lock. So nobody can mistake a new
//! file that is not locked yet for the file of an ended run.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    ends::KeptEnds,
    file::{create_private, lock_path},
};

/// The most files of a directory that are checked for leftovers of ended runs.
const LOOKED_AT: usize = 4_096;

/// A held lock. Dropping it releases the lock; the file stays until somebody removes it.
#[derive(Debug)]
pub(super) struct OwnerLock {
    name: String,
    /// Ends of jobs that the database does not have yet.
    pub(super) ends: KeptEnds,
    _file: File,
}

impl OwnerLock {
    /// Creates the file and locks it; `None` if this file system has no locks.
    pub(super) fn take(database: &Path) -> io::Result<Option<Self>> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let path = lock_path(database, &name);
        let file = create_private(&path)?;
        if let Err(error) = file.try_lock() {
            tracing::warn!(path = %path.display(), %error, "no file locks here; only leases decide who is alive");
            fs::remove_file(&path)?;
            return Ok(None);
        }
        // The lock belongs to the open file: every handle of it holds the lock.
        let ends = KeptEnds::new(file.try_clone()?);
        Ok(Some(Self { name, ends, _file: file }))
    }

    /// Its name in the database.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Releases the lock and removes the file.
    pub(super) fn remove(self, database: &Path) {
        remove(&lock_path(database, &self.name));
    }
}

/// True if the process that held this lock has ended. False if that is unknown.
pub(super) fn has_died(database: &Path, name: &str) -> bool {
    is_free(&lock_path(database, name))
}

/// True if a living process holds one of the locks next to this database. False if that is unknown.
pub(super) fn is_anyone_alive(database: &Path) -> io::Result<bool> {
    Ok(lock_files(database)?.iter().any(|(path, _)| {
        let is_held = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        File::open(path).is_ok_and(is_held)
    }))
}

/// The lock files next to this database, and the names of their runs.
fn lock_files(database: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let prefix = lock_path(database, "");
    let (Some(directory), Some(prefix)) = (prefix.parent(), prefix.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = prefix.to_string_lossy();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.take(LOOKED_AT) {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_string_lossy().strip_prefix(&*prefix) {
            found.push((entry.path(), name.to_owned()));
        }
    }
    Ok(found)
}

/// Removes the files of runs that `is_known` does not know and whose lock is free.
pub(super) fn sweep(database: &Path, is_known: impl Fn(&str) -> bool) -> io::Result<()> {
    for (path, name) in lock_files(database)? {
        if !is_known(&name) && is_free(&path) {
            remove(&path);
        }
    }
    Ok(())
}

fn is_free(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "cannot remove a lock file");
    }
}
