//! The database file: it is created for its owner alone, and checked before SQLite opens it.
//!
//! An existing database is never opened here, only by SQLite: closing any other handle of it would drop the locks
//! that SQLite holds on it elsewhere in this process (POSIX locks belong to the process, not to the handle).

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::fault::Fault;

/// Creates the file, readable and writable only by its owner, if it is missing; refuses a file that cannot be a
/// database. SQLite gives the files next to it (`-wal`, `-shm`) the same mode.
///
/// One call at a time in this process: see the module.
pub(super) fn prepare(path: &Path) -> Result<(), Fault> {
    if let Some(parent) = path.parent() {
        create_directory(parent)?;
    }
    match create_private(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(Fault::NotAFile("a directory"));
    }
    if !kind.is_file() {
        return Err(Fault::NotAFile("a pipe, socket or device"));
    }
    Ok(())
}

/// Creates a new file that only its owner may read and write.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a directory for its owner alone, together with its missing parents.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Removes the access of other users from a database that was created with more, and from the files next to it.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    for suffix in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt;
        let file = beside(path, suffix);
        let mode = match fs::metadata(&file) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if mode & 0o077 != 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The path with a suffix added to its last part.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The lock file of the run with this name.
pub(super) fn lock_path(database: &Path, name: &str) -> PathBuf {
    beside(database, &format!("-life-{name}"))
}
