//! All changes to the disk as single steps, so that a test can stop the process after any of them.

use std::{
    fmt, fs,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use crate::{
    digest::Digest,
    error::{Error, ErrorKind},
};

/// A failed file operation.
#[derive(Debug)]
pub(super) struct DiskError {
    what: &'static str,
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.what, self.path.display(), self.cause)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl DiskError {
    pub(super) fn is_missing(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Self {
        let kind = match crate::file_roots::leads_out(&error.cause) {
            true => ErrorKind::PermissionDenied,
            false => ErrorKind::Storage,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

pub(super) type Result<T, E = DiskError> = std::result::Result<T, E>;

/// For `map_err`: the operation and its file.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |cause| DiskError { what, path, cause }
}

/// Makes temporary names unique within this process; the process id makes them unique among processes.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// Makes the changes.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// The number of steps until a simulated kill, if a test sets it.
    #[cfg(test)]
    pub(super) left: Option<std::sync::Arc<AtomicU64>>,
}

impl Disk {
    /// Called before every change.
    fn step(&self, what: &'static str, path: &Path) -> Result<()> {
        #[cfg(test)]
        if let Some(left) = &self.left {
            let took = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            took.map_err(|_| io::Error::other("the process was killed"))
                .map_err(failed(what, path))?;
        }
        let _ = (what, path);
        Ok(())
    }

    pub(super) fn create_dir(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.step("create the directory", path)?;
        fs::create_dir_all(path).map_err(failed("create the directory", path))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Replaces the file as a whole: a reader sees either the previous or the new content.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let n = NAMES.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{n}.tmp", std::process::id()));
        self.step("create", &temporary)?;
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(failed("write", &temporary))?;
        self.rename(&temporary, path)
    }

    /// Moves a file or directory durably: the directory is on the disk when this returns.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step("rename", from)?;
        fs::rename(from, to).map_err(failed("rename", from))?;
        to.parent().map_or(Ok(()), sync_dir)
    }

    /// Removes the file; no error if it does not exist.
    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        self.step("remove", path)?;
        missing_is_fine(fs::remove_file(path)).map_err(failed("remove", path))
    }

    /// Removes the directory and its contents; no error if it does not exist.
    pub(super) fn remove_tree(&self, path: &Path) -> Result<()> {
        self.step("remove", path)?;
        missing_is_fine(fs::remove_dir_all(path)).map_err(failed("remove", path))
    }

    /// Opens the file for appending.
    pub(super) fn append(&self, path: &Path) -> Result<File> {
        self.step("open", path)?;
        let open = OpenOptions::new().create(true).append(true).read(true).open(path);
        open.map_err(failed("open", path))
    }

    pub(super) fn write(&self, file: &mut File, path: &Path, bytes: &[u8]) -> Result<()> {
        self.step("write", path)?;
        file.write_all(bytes).map_err(failed("write", path))
    }

    pub(super) fn truncate(&self, file: &File, path: &Path, bytes: u64) -> Result<()> {
        self.step("shorten", path)?;
        file.set_len(bytes).map_err(failed("shorten", path))
    }

    /// Creates a link at `path` to `target`, which is relative to the directory of the link. Replaces an existing one.
    #[cfg(feature = "hub")]
    pub(super) fn link(&self, target: &Path, path: &Path) -> Result<()> {
        if fs::read_link(path).is_ok_and(|is| is == target) {
            return Ok(());
        }
        self.remove_file(path)?;
        self.step("link", path)?;
        symlink(target, path).map_err(failed("link", path))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Sets the time of last use, which is the modification time of the file, to now.
    pub(super) fn touch(&self, path: &Path) -> Result<()> {
        self.step("touch", path)?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        open.and_then(|file| file.set_modified(SystemTime::now())).map_err(failed("touch", path))
    }

    /// Syncs the directory of a file and all its parents up to and including `top` to the disk.
    pub(super) fn sync_up(&self, file: &Path, top: &Path) -> Result<()> {
        let above = file.ancestors().skip(1);
        above.take_while(|directory| directory.starts_with(top)).try_for_each(sync_dir)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

#[cfg(all(unix, feature = "hub"))]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// If links need a privilege that most users do not have, a hard link is created instead.
#[cfg(all(not(unix), feature = "hub"))]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    let target = path.parent().unwrap_or(path).join(target);
    fs::hard_link(target, path)
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> Result<()> {
    // The parent of a relative name is an empty path.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed("sync", path))
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> Result<()> {
    Ok(())
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The size of a file, through links; `None` if there is no file.
pub(super) fn file_size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Reads a file and returns its SHA-256; `tell` gets the number of bytes of every read.
pub(super) fn hash(path: &Path, tell: impl FnMut(u64)) -> Result<Digest> {
    let file = crate::file_roots::open(path).map_err(failed("open", path))?;
    crate::digest::Hasher::default().read(file, tell).map_err(failed("read", path))
}

/// The content of a small file; `None` if it does not exist.
pub(super) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    use io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed("open", path)(cause)),
    };
    let mut content = Vec::new();
    let read = file.take(most.saturating_add(1)).read_to_end(&mut content);
    read.map_err(failed("read", path))?;
    if content.len() as u64 > most {
        return Err(failed("read", path)(io::Error::other(format!(
            "it is larger than {most} bytes"
        ))));
    }
    Ok(Some(content))
}

/// Bytes that this user may still write to the disk of this directory; `None` if unknown.
pub(super) fn free(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A lock on a file. The system frees it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held, not used")] File);

impl Lock {
    fn open(path: &Path) -> Result<File> {
        let open =
            OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path);
        open.map_err(failed("open", path))
    }

    fn tried(path: &Path, file: File, tried: Result<(), TryLockError>) -> Result<Option<Self>> {
        match tried {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(failed("lock", path)(cause)),
        }
    }

    /// An exclusive lock; `None` if another process holds any lock.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        let tried = file.try_lock();
        Self::tried(path, file, tried)
    }

    /// A shared lock; `None` if another process holds an exclusive one.
    pub(super) fn try_shared(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        let tried = file.try_lock_shared();
        Self::tried(path, file, tried)
    }

    /// An exclusive lock. Waits for the holders, which must hold it for only a few file operations.
    pub(super) fn exclusive(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        file.lock().map_err(failed("lock", path))?;
        Ok(Self(file))
    }
}
