//! A client's configuration file: read whole, and replaced at once.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rbee_core::private_files::private_directory;

use crate::failure::{Exit, Failure};

/// The largest configuration file, in bytes.
const MOST_BYTES: u64 = 4 << 20;

/// The mode of a file that only its owner may read.
pub(super) const PRIVATE: u32 = 0o600;

/// A configuration file as it was read.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// The file itself, without symbolic links: those stay, and the file that they name is changed.
    pub(super) path: PathBuf,
    /// `None` if there is no file.
    pub(super) text: Option<String>,
    /// The mode of the file, on systems with modes.
    pub(super) mode: Option<u32>,
}

impl ConfigFile {
    /// Reads the file at this path.
    ///
    /// # Errors
    /// If it is not a regular file with a text of at most 4 MiB, or cannot be read.
    pub(super) fn read(named: &Path) -> Result<Self, Failure> {
        let fail = |why: &dyn std::fmt::Display| {
            failure(format!("{} cannot be read: {why}", named.display()))
        };
        let path = match fs::symlink_metadata(named) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: named.to_owned(), text: None, mode: None });
            }
            Ok(found) if found.is_symlink() => fs::canonicalize(named).map_err(|cause| {
                fail(&format!("the file that the symbolic link names is not there: {cause}"))
            })?,
            _ => named.to_owned(),
        };
        // Opening a pipe would wait for its other end.
        if !fs::metadata(&path).map_err(|cause| fail(&cause))?.is_file() {
            return Err(fail(&"it is not a regular file"));
        }
        let file = fs::File::open(&path).map_err(|cause| fail(&cause))?;
        let metadata = file.metadata().map_err(|cause| fail(&cause))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| fail(&cause))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(fail(&format!("it is larger than {MOST_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| fail(&"it is not UTF-8"))?;
        Ok(Self { path, text: Some(text), mode: mode_of(&metadata) })
    }

    /// Replaces the file by this text with this mode, or removes it if there is no text. Missing directories are made.
    ///
    /// # Errors
    /// If it cannot be written, or if it has changed since it was read. Then it is as it was.
    pub(super) fn replace(&self, text: Option<&str>, mode: u32) -> Result<(), Failure> {
        if Self::read(&self.path)?.text != self.text {
            let message = format!(
                "{} was changed by another program meanwhile; nothing is written",
                self.path.display()
            );
            return Err(Failure::new(Exit::Failed, "CONFLICT", message)
                .with_hint("the same command tries again"));
        }
        let fail = |cause: io::Error| cannot_write(&self.path, &cause);
        match text {
            Some(text) => {
                make_parents(&self.path).map_err(fail)?;
                write(&self.path, text.as_bytes(), mode).map_err(fail)
            }
            None if self.text.is_some() => fs::remove_file(&self.path).map_err(fail),
            None => Ok(()),
        }
    }
}

/// Writes a file of rbee, for its owner alone. The directory is made if it is missing.
///
/// # Errors
/// If the directory is open to others, or the file cannot be written.
pub(super) fn write_own(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(directory) = path.parent() {
        private_directory(directory, |_| false).map_err(|error| failure(error.message().into()))?;
    }
    write(path, bytes, PRIVATE).map_err(|cause| cannot_write(path, &cause))
}

/// Writes a new file beside the old one and renames it, so that the file is complete at every time.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // It is its owner's alone until the mode is set.
    let mut new = tempfile::Builder::new()
        .prefix(".rbee-")
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
    new.write_all(bytes)?;
    #[cfg(unix)]
    new.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    #[cfg(not(unix))]
    let _ = mode;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes the missing directories above a file, for the user alone: clients keep keys in them.
fn make_parents(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no modes")]
fn mode_of(metadata: &fs::Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::mode(metadata) & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> Option<u32> {
    None
}

fn cannot_write(path: &Path, cause: &io::Error) -> Failure {
    failure(format!("{} cannot be written: {cause}", path.display()))
}

fn failure(message: String) -> Failure {
    Failure::new(Exit::Failed, "CONFIG", message)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_file_and_its_directories_are_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.json");
        let file = ConfigFile::read(&path).unwrap();
        assert_eq!((&file.text, file.mode), (&None, None));
        file.replace(Some("x"), PRIVATE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o600, 0o700));
        ConfigFile::read(&path).unwrap().replace(None, PRIVATE).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_symbolic_link_stays_and_its_file_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real/x.toml"), dir.path().join("x.toml"));
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(&real, "old").unwrap();
        symlink("real/x.toml", &link).unwrap();
        ConfigFile::read(&link).unwrap().replace(Some("new"), 0o640).unwrap();
        assert!(link.is_symlink() && !real.is_symlink());
        assert_eq!((fs::read_to_string(&real).unwrap(), mode(&real)), ("new".into(), 0o640));
        fs::remove_file(&real).unwrap();
        let failure = ConfigFile::read(&link).unwrap_err();
        assert!(failure.message().contains("that the symbolic link names"), "{failure}");
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "old").unwrap();
        let file = ConfigFile::read(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        let failure = file.replace(Some("new"), PRIVATE).unwrap_err();
        assert_eq!(failure.code(), "CONFLICT");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn what_is_not_a_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, [0xff]).unwrap();
        for (path, why) in [(path.as_path(), "not UTF-8"), (dir.path(), "not a regular file")] {
            let failure = ConfigFile::read(path).unwrap_err();
            assert!(failure.message().contains(why), "{failure}");
        }
    }
}
