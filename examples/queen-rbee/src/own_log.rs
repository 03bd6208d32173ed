//! The log of a queen that `rbee serve --detach` has started: a file in the data directory, which must not grow without
//! bound.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rbee_core::private_files::open_own;

/// The name of the file in the data directory.
const NAME: &str = "queen.log";
/// The size from which it is moved to the file for older lines, in bytes.
const MOST: u64 = 16 << 20;
/// How often the size is checked.
const INTERVAL: Duration = Duration::from_secs(30);

/// The log in this data directory, if the standard error of this process is that file.
#[derive(Debug)]
pub(crate) struct OwnLog {
    path: PathBuf,
    most: u64,
}

impl OwnLog {
    /// `None` if this process logs elsewhere: then somebody else takes care of its log.
    #[cfg(unix)]
    pub(crate) fn of(data_dir: &Path) -> Option<Self> {
        use std::os::{fd::AsFd, unix::fs::MetadataExt};

        let path = data_dir.join(NAME);
        let file = std::fs::symlink_metadata(&path).ok()?;
        let errors = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        let is_it = (file.dev(), file.ino()) == (errors.dev(), errors.ino());
        is_it.then_some(Self { path, most: MOST })
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_: &Path) -> Option<Self> {
        None
    }

    /// Keeps the file small; never returns.
    pub(crate) async fn keep_small(self) {
        let log = Arc::new(self);
        loop {
            tokio::time::sleep(INTERVAL).await;
            log.check().await;
        }
    }

    /// Makes the file smaller if it has grown too large. Many MiB may be copied, which must not delay requests.
    async fn check(self: &Arc<Self>) {
        let log = self.clone();
        // An error of the task means that the runtime is shut down.
        let rotated = tokio::task::spawn_blocking(move || log.rotate()).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(path = %self.path.display(), %error, "the log cannot be made smaller");
        }
    }

    /// Moves the lines to `queen.log.1`, in place of older ones, if the file has grown too large. It is emptied rather
    /// than replaced, because this process keeps it open; it appends, so it continues at the beginning.
    fn rotate(&self) -> io::Result<()> {
        let mut log = open_own(&self.path, OpenOptions::new().read(true).write(true))?;
        if log.metadata()?.len() <= self.most {
            return Ok(());
        }
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        let mut older = open_own(Path::new(&older), OpenOptions::new().write(true).create(true))?;
        older.set_len(0)?;
        // Until the end, so that only lines of the next moment can be lost.
        io::copy(&mut log, &mut older)?;
        log.set_len(0)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[test]
    fn a_log_that_has_grown_is_moved_once_and_its_writer_continues() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(NAME);
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        let log = OwnLog { path: path.clone(), most: 8 };
        writer.write_all(b"12345678").unwrap();
        log.rotate().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345678");
        for lines in [&b"9 and more"[..], b"longer than that"] {
            writer.write_all(lines).unwrap();
            log.rotate().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"");
            assert!(fs::read(data.path().join("queen.log.1")).unwrap().ends_with(lines));
        }
        assert_eq!(fs::read(data.path().join("queen.log.1")).unwrap(), b"longer than that");
        writer.write_all(b"on").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"on");
    }

    #[test]
    fn a_log_is_moved_outside_the_threads_that_serve_requests() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(NAME);
        fs::write(&path, "more than 8 bytes").unwrap();
        let log = Arc::new(OwnLog { path: path.clone(), most: 8 });
        runtime.block_on(async {
            // The only thread for blocking work is in use, so the log stays as it is.
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let checking = tokio::spawn(async move { log.check().await });
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(!checking.is_finished());
            assert_eq!(fs::read(&path).unwrap(), b"more than 8 bytes");
            drop(release);
            busy.await.unwrap().unwrap_err();
            checking.await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"");
        });
    }

    #[test]
    fn a_log_elsewhere_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(NAME), "not this process's").unwrap();
        assert!(OwnLog::of(data.path()).is_none());
    }
}
