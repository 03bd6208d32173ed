//! What is done to the disk: every step that changes something, so that a test can let any of them be the last.

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

/// Something that the system refused to do to a file.
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

/// For `map_err`: what was to be done, and to which file.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |cause| DiskError { what, path, cause }
}

/// Makes temporary names differ within this process; the process's number makes them differ among processes.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// Makes the changes.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// Steps that may still be done, where a test wants an end to them.
    #[cfg(test)]
    pub(super) left: Option<std::sync::Arc<AtomicU64>>,
}

impl Disk {
    /// Before every change.
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

    /// Replaces the file as a whole: whoever reads it sees what was there before or what is there now.
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

    /// Moves it there, for good: the directory is on the disk when this returns.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step("rename", from)?;
        fs::rename(from, to).map_err(failed("rename", from))?;
        to.parent().map_or(Ok(()), sync_dir)
    }

    /// Removes the file; one that is not there is removed.
    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        self.step("remove", path)?;
        missing_is_fine(fs::remove_file(path)).map_err(failed("remove", path))
    }

    /// Removes the directory and all that is in it; one that is not there is removed.
    pub(super) fn remove_tree(&self, path: &Path) -> Result<()> {
        self.step("remove", path)?;
        missing_is_fine(fs::remove_dir_all(path)).map_err(failed("remove", path))
    }

    /// Opens the file to write at its end.
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

    /// A link at `path` to `target`, which is relative to where the link lies. Replaces what is there.
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

    /// Sets the time of last use that the file stands for to now.
    pub(super) fn touch(&self, path: &Path) -> Result<()> {
        self.step("touch", path)?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        open.and_then(|file| file.set_modified(SystemTime::now())).map_err(failed("touch", path))
    }

    /// A file's directory and all directories above it up to and with `top`, for good.
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

/// Where links take a privilege that most do not have, a second name of the file does as well.
#[cfg(all(not(unix), feature = "hub"))]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    let target = path.parent().unwrap_or(path).join(target);
    fs::hard_link(target, path)
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> Result<()> {
    // An empty path is what a relative name has above it.
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

/// The size of a file behind whatever links lead to it; nothing where there is no file.
pub(super) fn file_size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Reads a file and gives its SHA-256; `tell` learns of every read.
pub(super) fn hash(path: &Path, tell: impl FnMut(u64)) -> Result<Digest> {
    let file = crate::file_roots::open(path).map_err(failed("open", path))?;
    crate::digest::Hasher::default().read(file, tell).map_err(failed("read", path))
}

/// A small file as a whole; nothing where it is not there.
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

/// Bytes that may still be written by this user to the disk of this directory; nothing where that is not known.
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

/// A lock on a file, which the system frees when the process ends, however it ends.
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

    /// The lock for one alone, or nothing where another has it in whatever way.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        let tried = file.try_lock();
        Self::tried(path, file, tried)
    }

    /// The lock for many, or nothing where one has it alone.
    pub(super) fn try_shared(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        let tried = file.try_lock_shared();
        Self::tried(path, file, tried)
    }

    /// The lock for one alone; waits for those who have it, which must be for a few file operations only.
    pub(super) fn exclusive(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        file.lock().map_err(failed("lock", path))?;
        Ok(Self(file))
    }
}
