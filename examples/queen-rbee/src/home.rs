//! The directory of all persistent data, and its exclusive use.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use rbee_core::{
    Error, ErrorKind, Result,
    id::QueenId,
    private_files::{check_private_directory, open_own, private_directory},
};

/// The lock file of the queen of a directory.
const LOCK: &str = "queen.lock";
/// The file with the permanent name of the queen of a directory.
const ID: &str = "queen.id";

/// The data directory of a queen. Its lock is released when this is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    lock: File,
}

impl Home {
    /// Locks this directory, and makes it if it is missing. Only its user can read it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another queen uses it, [`ErrorKind::Config`] if it cannot be used or belongs to
    /// another user.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        private_directory(path, is_ours).map_err(|error| error.context("data_dir"))?;
        let lock_path = path.join(LOCK);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let lock =
            open_own(&lock_path, &mut options).map_err(|cause| unusable(&lock_path, cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path, lock)),
            Err(TryLockError::Error(cause)) => return Err(unusable(&lock_path, cause)),
        }
        let mut home = Self { path: path.to_owned(), lock };
        home.announce("starting")?;
        Ok(home)
    }

    /// Checks that the directory can be taken, unless another queen has it. Nothing is created, changed or locked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be used or belongs to another user.
    pub(crate) fn check(path: &Path) -> Result<()> {
        check_private_directory(path, is_ours).map_err(|error| error.context("data_dir"))?;
        match fs::symlink_metadata(path.join(LOCK)) {
            Ok(found) if !found.is_file() => {
                let cause = io::Error::other("it is not a regular file");
                return Err(unusable(&path.join(LOCK), cause));
            }
            _ => {}
        }
        read_queen_id(&path.join(ID)).map(drop)
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the PID and the URL of the queen, for another queen that wants the directory.
    pub(crate) fn announce(&mut self, url: &str) -> Result<()> {
        let text = format!("{} {url}\n", std::process::id());
        let written = (|| {
            self.lock.rewind()?;
            self.lock.set_len(0)?;
            self.lock.write_all(text.as_bytes())
        })();
        written.map_err(|cause| unusable(&self.path.join(LOCK), cause))
    }

    /// A path below it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The permanent name of the queen of this directory, made at its first start.
    pub(crate) fn queen_id(&self) -> Result<QueenId> {
        let path = self.join(ID);
        if let Some(id) = read_queen_id(&path)? {
            return Ok(id);
        }
        let id = QueenId::random();
        write_private(&path, format!("{id}\n").as_bytes())
            .map_err(|cause| unusable(&path, cause))?;
        Ok(id)
    }
}

/// True for names of entries that make a directory one of a queen. A supervisor may have made it, for the queen's log.
fn is_ours(names: &[String]) -> bool {
    names.iter().any(|name| name == LOCK) || names == ["queen.log"]
}

/// The name in this file; `None` if there is no such file.
fn read_queen_id(path: &Path) -> Result<Option<QueenId>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            QueenId::new(text.trim()).map(Some).map_err(|error| error.context(path.display()))
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        // The directory does not exist; what is there instead was refused before.
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(cause) => Err(unusable(path, cause)),
    }
}

fn taken(path: &Path, lock: File) -> Error {
    let mut said = String::new();
    // What the other queen wrote is only additional information.
    let _ = lock.take(1_024).read_to_string(&mut said);
    let who = match said.trim().split_once(' ') {
        Some((pid, "starting")) => format!("another queen, PID {pid}, that is starting"),
        Some((pid, url)) => format!("another queen, PID {pid}, at {url}"),
        None => "another queen".into(),
    };
    let message = format!(
        "the data directory {} is in use by {who}; stop it, or choose another one with --data-dir",
        path.display()
    );
    Error::new(ErrorKind::Conflict, message)
}

pub(crate) fn unusable(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{} cannot be used: {cause}", path.display()))
        .with_source(cause)
}

/// Makes a directory below the data directory, if it is not there.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file that only its user can read, atomically: a reader sees the old or the new content.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = (|| {
        // An existing file, for example left by a killed process, is not written to.
        match fs::remove_file(&new) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = open_own(&new, File::options().write(true).create_new(true))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // It may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_queen_at_a_time_has_the_directory_and_the_next_is_told_who() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/data");
        let mut home = Home::take(&path).unwrap();
        home.announce("http://127.0.0.1:1").unwrap();
        let id = home.queen_id().unwrap();
        let error = Home::take(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let who = format!("PID {}, at http://127.0.0.1:1;", std::process::id());
        assert!(error.message().contains(&who), "{error}");
        drop(home);
        let home = Home::take(&path).unwrap();
        assert_eq!(home.queen_id().unwrap(), id, "the name is kept");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look_into_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::take(&path).unwrap();
        write_private(&home.join("secret"), b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&home.join("secret"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no other file is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_use_is_refused_and_left_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shared");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("letter.txt"), "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = Home::take(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for words in ["data_dir", "mode 1777", "shared/rbee"] {
            assert!(error.message().contains(words), "{error}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "nothing is made in it");
        Home::take(&path.join("rbee")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_others_have_put_there_makes_no_directory_ours() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shared");
        fs::create_dir_all(path.join("hives")).unwrap();
        fs::write(path.join("hives/evil.json"), "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).unwrap();
        for planted in [LOCK, "queen.log"] {
            fs::write(path.join(planted), "").unwrap();
            let error = Home::take(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            for words in ["data_dir", "mode 1777"] {
                assert!(error.message().contains(words), "{error}");
            }
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o1777);
            fs::remove_file(path.join(planted)).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_links() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = directory.path().join("data");
        create_private(&path).unwrap();
        symlink(&victim, path.join(LOCK)).unwrap();
        let error = Home::take(&path).unwrap_err();
        for words in ["data/queen.lock", "symbolic link"] {
            assert!(error.message().contains(words), "{error}");
        }
        let new = format!("secret.{}.new", std::process::id());
        symlink(&victim, path.join(new)).unwrap();
        write_private(&path.join("secret"), b"x").unwrap();
        assert_eq!(fs::read(path.join("secret")).unwrap(), b"x");
        assert!(!fs::symlink_metadata(path.join("secret")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join(LOCK);
        fs::write(&lock, "").unwrap();
        if let Err(error) = std::os::unix::fs::chown(&lock, Some(65_534), None) {
            eprintln!("NOT TESTED with a file of another user: {error}; run it as root for that");
            return;
        }
        let error = Home::take(directory.path()).unwrap_err();
        assert!(error.message().contains("belongs to user 65534"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Home::take(&file.join("data")).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.message().contains("file/data"));
    }
}
