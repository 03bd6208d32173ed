//! The sign of life that needs no clock: a lock on a small file beside the database, held as long as its process lives.
//!
//! The system frees it however the process ends. It belongs to the open file, not to the process, so it also tells
//! apart two queens of one process. Where the file system knows no locks, the lease alone decides.
//!
//! Files are made, tried and removed only by one who holds the write lock of the database, so nobody can mistake a
//! file that was just made, and not yet locked, for one of the dead.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{
    ends::KeptEnds,
    file::{create_private, lock_path},
};

/// At most so many files of a directory are looked at for what the dead left behind.
const LOOKED_AT: usize = 4_096;

/// A held lock. Dropping it lets go of the lock; the file stays until somebody removes it.
#[derive(Debug)]
pub(super) struct OwnerLock {
    name: String,
    /// Ends of jobs that the database does not have yet.
    pub(super) ends: KeptEnds,
    _file: File,
}

impl OwnerLock {
    /// None where this file system has no locks.
    pub(super) fn take(database: &Path) -> io::Result<Option<Self>> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let path = lock_path(database, &name);
        let file = create_private(&path)?;
        if let Err(error) = file.try_lock() {
            tracing::warn!(path = %path.display(), %error, "no file locks here; leases alone tell who is alive");
            fs::remove_file(&path)?;
            return Ok(None);
        }
        // The lock belongs to the open file: whoever has a handle of it holds the lock.
        let ends = KeptEnds::new(file.try_clone()?);
        Ok(Some(Self { name, ends, _file: file }))
    }

    /// What the database calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Lets go of the lock and removes the file.
    pub(super) fn remove(self, database: &Path) {
        remove(&lock_path(database, &self.name));
    }
}

/// Has the process that held this lock ended? False where that cannot be told.
pub(super) fn has_died(database: &Path, name: &str) -> bool {
    is_free(&lock_path(database, name))
}

/// Does a living process hold one of the locks beside this database? False where that cannot be told.
pub(super) fn is_anyone_alive(database: &Path) -> io::Result<bool> {
    Ok(lock_files(database)?.iter().any(|(path, _)| {
        let is_held = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        File::open(path).is_ok_and(is_held)
    }))
}

/// The lock files beside this database, and the names of their lives.
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

/// Removes the files of lives that `is_known` does not know and nobody holds.
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
        tracing::debug!(path = %path.display(), %error, "a lock file stays behind");
    }
}
