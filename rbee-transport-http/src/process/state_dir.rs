//! The records of processes on disk, by which they are found again.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rbee_core::{Error, ErrorKind, Result, private_files::open_own};
use serde::{Serialize, de::DeserializeOwned};

/// The largest record that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// A directory that only its user can read, with a JSON file and a log for each process.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

/// The exclusive use of a directory; it ends when this is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl StateDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the directory if it is missing, and denies access to others.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it belongs to another user, or if others can read it and it has files that no hive
    /// has made.
    pub(crate) fn create(&self) -> Result<()> {
        rbee_core::private_files::private_directory(&self.0, |names| {
            // A model store in it may have been made first.
            let is_used = names.iter().any(|name| name == "lock") || names == ["models"];
            is_used && names.iter().all(|name| is_ours(name))
        })
    }

    /// Locks the directory.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another process has locked it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.0.join("lock");
        let file = open_own(&path, File::options().create(true).truncate(false).write(true));
        let file = file.map_err(|cause| self.wrong(&path, cause))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "the state directory {} is in use by another hive; allowed is one at a time",
                    self.0.display()
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
            Err(TryLockError::Error(cause)) => Err(self.wrong(&path, cause)),
        }
    }

    /// The log of the process of this name.
    pub(crate) fn log(&self, name: &str) -> super::LogFile {
        super::LogFile::new(self.0.join(format!("{name}.log")))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// The path of a file of this name in it that is not a process record.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the file of this name, readable by its user alone from the start, and atomically.
    pub(crate) fn write_private(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        let write = || {
            let mut file = create_anew(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|cause: io::Error| self.wrong(&path, cause))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Records a process, atomically.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let (path, new) = (self.file(name), self.0.join(format!("{name}.new")));
        let write = || {
            let bytes = serde_json::to_vec(value)?;
            let mut file = create_anew(&new)?;
            file.write_all(&bytes)?;
            fs::rename(&new, &path)
        };
        write().map_err(|cause: io::Error| self.wrong(&path, cause))
    }

    /// The record of this name; `None` if there is none or it cannot be read.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.file(name);
        let mut text = Vec::new();
        let read = open_own(&path, File::options().read(true))
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(serde_json::Error::io(error)),
            Ok(_) => serde_json::from_slice(&text),
        };
        read.inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "not understood; ignored"),
        )
        .ok()
    }

    /// Removes the record of a process.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.file(name);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot be removed");
        }
    }

    /// The names of the files with this extension.
    pub(crate) fn names(&self, extension: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let name = |path: PathBuf| {
            let is = path.extension().is_some_and(|found| found == extension);
            is.then(|| path.file_stem()?.to_str().map(ToOwned::to_owned)).flatten()
        };
        entries.flatten().filter_map(|entry| name(entry.path())).collect()
    }

    fn wrong(&self, path: &Path, cause: io::Error) -> Error {
        Error::new(ErrorKind::Storage, format!("{}: {cause}", path.display())).with_source(cause)
    }
}

/// Makes a file for its owner alone. An existing file of this name, for example left by a killed run, is not written
/// to.
fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    open_own(path, File::options().create_new(true).write(true))
}

/// Returns true for the names of files that hives keep in their state directories.
fn is_ours(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(name, "lock" | "models" | "workers" | "token" | "address")
        || matches!(extension, Some("json" | "log" | "new" | "sock" | "token"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_remembered_is_for_its_user_alone_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("a/b"));
        state.create().unwrap();
        state.write("x", &7).unwrap();
        assert_eq!(mode(&state.0), 0o700);
        assert_eq!(mode(&state.file("x")), 0o600);
        assert_eq!(state.read::<u32>("x"), Some(7));
        assert_eq!(state.names("json"), ["x"]);
        fs::write(state.file("x"), "nonsense").unwrap();
        assert_eq!(state.read::<u32>("x"), None);
        state.remove("x");
        state.remove("x");
        assert!(state.names("json").is_empty());
    }

    #[test]
    fn a_directory_that_others_use_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (theirs, ours) = (open("theirs"), open("ours"));
        fs::write(theirs.join("lock"), "").unwrap();
        fs::write(theirs.join("letter.txt"), "").unwrap();
        let error = StateDir::new(theirs.clone()).create().unwrap_err();
        assert_eq!((error.kind(), mode(&theirs)), (ErrorKind::Config, 0o755));
        assert!(error.message().contains("mode 0755"), "{error}");

        let state = StateDir::new(ours.clone());
        drop(state.lock().unwrap());
        state.write("x", &7).unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
        state.create().unwrap();
        assert_eq!(mode(&ours), 0o700);
    }

    #[test]
    fn files_that_others_have_put_there_make_no_directory_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared");
        fs::create_dir(&path).unwrap();
        for name in ["lock", "token", "01234567-89ab-cdef-0123-456789abcdef.json"] {
            fs::write(path.join(name), "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateDir::new(path.clone()).create().unwrap_err();
        assert_eq!((error.kind(), mode(&path)), (ErrorKind::Config, 0o777));
        for words in ["mode 0777", "may be theirs", "chmod 700"] {
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.create().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "7").unwrap();
        for name in ["lock", "x.new", "x.json", "token.new", "x.log"] {
            symlink(&victim, state.path(name)).unwrap();
        }
        let error = state.lock().unwrap_err();
        assert!(error.message().contains("state/lock: it is a symbolic link"), "{error}");
        assert_eq!(state.read::<u32>("x"), None);
        let log = state.log("x");
        assert_eq!(log.last_words(), "");
        log.create().unwrap().write_all(b"said").unwrap();
        assert_eq!(log.last_words(), "said");
        state.write("x", &8).unwrap();
        state.write_private("token", b"secret").unwrap();
        assert_eq!(state.read::<u32>("x"), Some(8));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "7");
    }

    #[test]
    fn files_of_another_user_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.create().unwrap();
        state.write("x", &7).unwrap();
        drop(state.lock().unwrap());
        for name in ["lock", "x.json"] {
            if let Err(error) = std::os::unix::fs::chown(state.path(name), Some(65_534), None) {
                eprintln!(
                    "NOT TESTED with files of another user: {error}; run it as root for that"
                );
                return;
            }
        }
        let error = state.lock().unwrap_err();
        assert!(error.message().contains("belongs to user 65534"), "{error}");
        assert_eq!(state.read::<u32>("x"), None);
    }

    #[test]
    fn one_hive_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().to_owned());
        let held = state.lock().unwrap();
        assert_eq!(state.lock().unwrap_err().kind(), ErrorKind::Conflict);
        drop(held);
        state.lock().unwrap();
    }
}
