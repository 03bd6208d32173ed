//! Files on the disk: written atomically, private, with errors that clients can act on.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use rbee_core::{Error, ErrorKind, Result, private_files::open_own};

/// When to try again to write to a disk that was full or failed.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Runs work that can block on the disk.
///
/// # Errors
/// The error of the work; [`ErrorKind::Internal`] if it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(Error::new(ErrorKind::Internal, format!("work on the disk broke off: {cause}")))
    })
}

/// Runs work to its end, also if whoever waits for it is gone: a client that disconnects, for example.
///
/// # Errors
/// The error of the work; [`ErrorKind::Internal`] if it panicked.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|cause| {
        Err(Error::new(ErrorKind::Internal, format!("work on files broke off: {cause}")))
    })
}

/// Creates a directory that only its owner can access, if it is missing.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Locks a file until it is closed.
///
/// # Errors
/// [`ErrorKind::Conflict`] if another process has locked it.
pub(super) fn lock(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = open_own(path, &mut options).map_err(|cause| unusable(path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "another server uses the directory of files and batches: {} is locked; give each server a directory of \
                 its own",
                path.display()
            );
            Err(Error::new(ErrorKind::Conflict, message))
        }
        Err(TryLockError::Error(cause)) => Err(unusable(path, cause)),
    }
}

/// The error for a path that cannot be used at all.
pub(super) fn unusable(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{} cannot be used: {cause}", path.display()))
        .with_source(cause)
}

/// The error for a file that cannot be written or read now. A client learns whether the disk is full, and no path.
pub(super) fn failed(path: &Path, cause: io::Error) -> Error {
    let told = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk of the server is full; delete files that are no longer needed, or try again later"
        }
        _ => "the server cannot store or read its files at the moment; try again later",
    };
    Error::new(ErrorKind::Storage, format!("{}: {cause}", path.display()))
        .with_client_message(told)
        .with_retry_after(RETRY_AFTER)
        .with_source(cause)
}

/// Writes a file atomically: a reader, also after a crash, sees the old or the new content.
///
/// # Errors
/// [`ErrorKind::Storage`]; then the file is unchanged and no other file is left.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let written = (|| {
        // It may have been left by a process that was killed.
        remove(&new)?;
        let mut file = open_own(&new, File::options().write(true).create_new(true))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_parent(path)
    })();
    written.map_err(|cause| {
        let _ = remove(&new);
        failed(path, cause)
    })
}

/// Makes renamed files of the directory of this path survive a power failure.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(parent) => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Checks that the disk of this path has this much free space.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if it has less.
pub(super) fn check_free(path: &Path, least: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(path)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < least {
            let why = format!("fewer than {least} bytes are free");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, least);
    Ok(())
}

/// The records in a directory, and whether all could be read. One that cannot be read is left where it is.
///
/// # Errors
/// [`ErrorKind::Config`] if the directory cannot be read.
pub(super) fn read_records<T: serde::de::DeserializeOwned>(
    directory: &Path,
) -> Result<(Vec<T>, bool)> {
    let (mut records, mut is_whole) = (Vec::new(), true);
    let entries = fs::read_dir(directory).map_err(|cause| unusable(directory, cause))?;
    for entry in entries {
        let path = entry.map_err(|cause| unusable(directory, cause))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = open_own(&path, File::options().read(true)).and_then(|file| {
            serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::from)
        });
        match read {
            Ok(record) => records.push(record),
            Err(cause) => {
                tracing::error!(path = %path.display(), %cause, "a record cannot be read; it is ignored");
                is_whole = false;
            }
        }
    }
    Ok((records, is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::write(directory.path().join("a.new"), "left by a killed process").unwrap();
        for content in ["1", "2"] {
            write_atomically(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write_atomically(&directory.path().join("missing/a.json"), b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(!error.redacted().message().contains("missing"), "{error}");
    }

    #[test]
    fn a_client_learns_that_the_disk_is_full_and_no_path() {
        let error = check_free(Path::new("/"), u64::MAX).unwrap_err();
        let error = failed(Path::new("/secret"), error);
        assert!(error.redacted().message().contains("is full"), "{}", error.redacted());
        assert!(!error.redacted().message().contains("secret"));
        assert!(check_free(Path::new("/"), 0).is_ok());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_reported_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("good.json"), "7").unwrap();
        fs::write(directory.path().join("bad.json"), "{").unwrap();
        fs::write(directory.path().join("content.jsonl"), "{").unwrap();
        assert_eq!(read_records::<u32>(directory.path()).unwrap(), (vec![7], false));
        assert!(directory.path().join("bad.json").exists());
        let first = lock(&directory.path().join("lock")).unwrap();
        let second = lock(&directory.path().join("lock")).unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Conflict);
        drop(first);
        lock(&directory.path().join("lock")).unwrap();
    }
}
