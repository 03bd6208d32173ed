//! Directories and files that only their owner may access.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

use crate::error::{Error, ErrorKind, Result};

/// The most names that are checked in a directory to find out whether it belongs to this program.
const MOST_NAMES: usize = 10_000;

/// Creates a directory that only its owner can access, or checks that an existing one is private.
///
/// - A missing directory is created, with all its missing parents, for its owner alone (mode 0700).
/// - An existing directory that belongs to the caller and is closed to others is used as it is.
/// - A directory that others can read is closed to them if it belongs to the caller, and is either empty or contains
///   only entries of this program: `is_ours` returns true for their names, all belong to the caller, and none is a
///   symbolic link or a directory that others can write to. Otherwise it is never closed to them: they may need it.
/// - A directory that others can write to is closed to them only if it is empty: they may have put files with such
///   names in it.
///
/// On systems without modes the directory is created if it is missing, and nothing else is done.
///
/// # Errors
/// [`ErrorKind::Config`] that names the directory, the problem and what to do.
pub fn private_directory(path: &Path, is_ours: impl FnOnce(&[String]) -> bool) -> Result<()> {
    let failed = |cause: io::Error| unusable(path, cause);
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    #[cfg(unix)]
    {
        // The checks and the changes use the same handle, which stays with one directory, whatever happens to the path.
        let directory = File::open(path).map_err(failed)?;
        if let Some(open) = must_be_closed(path, &directory, is_ours)? {
            close(path, &directory, &open)?;
        }
    }
    #[cfg(not(unix))]
    let _ = is_ours;
    Ok(())
}

/// Checks that [`private_directory`] could make or use this directory, without creating or changing anything.
///
/// # Errors
/// As [`private_directory`].
pub fn check_private_directory(path: &Path, is_ours: impl FnOnce(&[String]) -> bool) -> Result<()> {
    check_directory(path)?;
    #[cfg(unix)]
    if path.exists() {
        let directory = File::open(path).map_err(|cause| unusable(path, cause))?;
        must_be_closed(path, &directory, is_ours)?;
    }
    #[cfg(not(unix))]
    let _ = is_ours;
    Ok(())
}

/// Checks that a directory can be used: it exists and the caller can write to it, or it can be made in the nearest
/// directory above it that exists. Nothing is created.
///
/// # Errors
/// [`ErrorKind::Config`] that names the directory.
pub fn check_directory(path: &Path) -> Result<()> {
    let absolute = std::path::absolute(path).map_err(|cause| unusable(path, cause))?;
    for directory in absolute.ancestors() {
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {
                #[cfg(unix)]
                rustix::fs::access(
                    directory,
                    rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
                )
                .map_err(|cause| unusable(path, cause.into()))?;
                return Ok(());
            }
            Ok(_) => {
                let why = format!("{} is not a directory", directory.display());
                return Err(unusable(path, io::Error::other(why)));
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {}
            Err(cause) => return Err(unusable(path, cause)),
        }
    }
    Ok(())
}

/// A directory that others can access, and that may be closed to them.
#[cfg(unix)]
struct Open {
    mode: u32,
    /// Others can write to it, and it was empty.
    must_stay_empty: bool,
}

/// Returns `None` if the directory is closed to others already.
#[cfg(unix)]
fn must_be_closed(
    path: &Path,
    directory: &File,
    is_ours: impl FnOnce(&[String]) -> bool,
) -> Result<Option<Open>> {
    use std::os::unix::fs::MetadataExt;

    let metadata = directory.metadata().map_err(|cause| unusable(path, cause))?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let why = format!("belongs to user {owner}, and this program runs as user {user}");
        return Err(refused(path, &why));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let names = names(directory).map_err(|cause| unusable(path, cause))?;
    let must_stay_empty = mode & 0o022 != 0;
    match names {
        Some(names) if names.is_empty() => {}
        Some(names) if !is_ours(&names) => return Err(has_files(path, mode)),
        None => return Err(has_files(path, mode)),
        Some(_) if must_stay_empty => {
            let why = format!(
                "can be written in by other users (mode {mode:04o}), so the files in it may be theirs (look at them, \
                 and if all of them are yours, `chmod 700 {}` and start again)",
                path.display()
            );
            return Err(refused(path, &why));
        }
        Some(names) => {
            for name in names {
                is_own(directory, &name, user).map_err(|why| {
                    let why = format!(
                        "is open to other users (mode {mode:04o}), and {name:?} in it {why}"
                    );
                    refused(path, &why)
                })?;
            }
        }
    }
    Ok(Some(Open { mode, must_stay_empty }))
}

/// Closes the directory to others.
#[cfg(unix)]
fn close(path: &Path, directory: &File, open: &Open) -> Result<()> {
    let set = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        directory.set_permissions(mode).map_err(|cause| unusable(path, cause))
    };
    set(0o700)?;
    // Somebody may have created a file in it after the check; from now on nobody can.
    if open.must_stay_empty {
        let names = names(directory).map_err(|cause| unusable(path, cause))?;
        if names.is_none_or(|names| !names.is_empty()) {
            set(open.mode)?;
            return Err(has_files(path, open.mode));
        }
    }
    tracing::info!(path = %path.display(), mode = %format_args!("{:04o}", open.mode), "closed to other users");
    Ok(())
}

/// Checks that the entry with this name in the directory belongs to the user, and is neither a symbolic link nor a
/// directory that others can write to.
#[cfg(unix)]
fn is_own(directory: &File, name: &str, user: u32) -> Result<(), String> {
    use rustix::fs::{AtFlags, FileType, statat};

    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|cause| format!("cannot be checked: {cause}"))?;
    if found.st_uid != user {
        return Err(format!("belongs to user {}", found.st_uid));
    }
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => Err("is a symbolic link".into()),
        FileType::Directory if found.st_mode & 0o022 != 0 => {
            Err(format!("can be written in by them (mode {:04o})", found.st_mode & 0o7777))
        }
        _ => Ok(()),
    }
}

fn unusable(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{} cannot be used: {cause}", path.display()))
        .with_source(cause)
}

#[cfg(unix)]
fn has_files(path: &Path, mode: u32) -> Error {
    let why = format!(
        "is open to other users (mode {mode:04o}) and has files in it that are not rbee's, so it is not closed to them"
    );
    refused(path, &why)
}

#[cfg(unix)]
fn refused(path: &Path, why: &str) -> Error {
    let below = path.join("rbee");
    let message = format!(
        "the directory {} {why}; name a directory for this alone, such as {}, which is made when it is not there",
        path.display(),
        below.display(),
    );
    Error::new(ErrorKind::Config, message)
}

/// The names in a directory; `None` if there are too many for a directory of this program, or if one is not UTF-8.
#[cfg(unix)]
fn names(directory: &File) -> io::Result<Option<Vec<String>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) if names.len() < MOST_NAMES => names.push(name.to_owned()),
            _ => return Ok(None),
        }
    }
    Ok(Some(names))
}

/// Opens a file of a [private directory](private_directory) with these options. A new file is created for its owner
/// alone (mode 0600). An existing file must be a regular file that belongs to the caller: a symbolic link is not
/// followed, so that nobody can make the caller write to, or read from, another file.
///
/// The options must not ask to truncate, which would happen before the file is checked; system flags that were set in
/// them are replaced. On systems without modes the file is opened, and nothing else is done.
///
/// # Errors
/// The system's error, and [`io::ErrorKind::PermissionDenied`] for a file that does not belong to the caller.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

        let denied = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
        // Opening a pipe must not wait for its other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let opened = options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path);
        let file = opened.map_err(|cause| {
            match fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
                true => {
                    denied("it is a symbolic link, which is not followed here; remove it".into())
                }
                false => cause,
            }
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(denied("it is not a regular file; remove it".into()));
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            let why = format!(
                "it belongs to user {owner}, and this program runs as user {user}; remove it"
            );
            return Err(denied(why));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// A warning about a file with a secret that others can read or change: the mode, and how to deny them access. `None`
/// if they cannot, or if there is no such file. `-` and other things that are not files give `None`.
pub fn exposed(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let mode = metadata.mode() & 0o7777;
        (mode & 0o077 != 0).then(|| {
            let can = match mode & 0o022 {
                0 => "read",
                _ => "change",
            };
            let path = path.display();
            format!("{path} has mode {mode:04o}: other users can {can} it; `chmod 600 {path}` keeps them out")
        })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        path::PathBuf,
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn made(parent: &Path, name: &str, mode: u32) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn ours(names: &[String]) -> bool {
        names.iter().any(|name| name == "ours")
    }

    #[test]
    fn a_directory_that_is_made_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        private_directory(&path, |_| false).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        fs::write(path.join("x"), "").unwrap();
        private_directory(&path, |_| false).unwrap();
    }

    #[test]
    fn an_open_directory_is_closed_if_it_is_empty_or_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, used) = (made(dir.path(), "empty", 0o755), made(dir.path(), "used", 0o750));
        fs::write(used.join("ours"), "").unwrap();
        for path in [&empty, &used] {
            private_directory(path, ours).unwrap();
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
    }

    #[test]
    fn an_open_directory_with_files_of_others_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for (name, is) in [("plain", 0o755), ("group", 0o770), ("like-tmp", 0o1777)] {
            let path = made(dir.path(), name, is);
            fs::write(path.join("theirs"), "").unwrap();
            let link = dir.path().join(format!("{name}-link"));
            symlink(&path, &link).unwrap();
            for given in [&path, &link] {
                let error = private_directory(given, ours).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                for words in [&format!("mode {is:04o}"), &format!("{}/rbee", given.display())] {
                    assert!(error.message().contains(words), "{error}");
                }
                assert_eq!(mode(&path), is, "{name}");
            }
        }
    }

    /// Gives a file to another user, without following links; returns false if the user who runs the tests must not do
    /// that.
    fn given_away(path: &Path) -> bool {
        let given = std::os::unix::fs::lchown(path, Some(65_534), None);
        if let Err(error) = &given {
            eprintln!("NOT TESTED with a file of another user: {error}; run it as root for that");
        }
        given.is_ok()
    }

    #[test]
    fn a_directory_that_others_can_write_in_is_closed_only_if_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        for (name, is) in [("all", 0o777), ("group", 0o770), ("like-tmp", 0o1777)] {
            let path = made(dir.path(), name, is);
            fs::write(path.join("ours"), "").unwrap();
            let error = private_directory(&path, ours).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let chmod = format!("chmod 700 {}", path.display());
            for words in [&format!("mode {is:04o}"), "may be theirs", &chmod] {
                assert!(error.message().contains(words), "{error}");
            }
            assert_eq!(mode(&path), is, "{name}");
            fs::remove_file(path.join("ours")).unwrap();
            private_directory(&path, ours).unwrap();
            assert_eq!(mode(&path), 0o700, "{name}");
        }
    }

    #[test]
    fn a_file_that_comes_while_a_directory_is_closed_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path(), "raced", 0o1777);
        let directory = File::open(&path).unwrap();
        let open = must_be_closed(&path, &directory, ours).unwrap().unwrap();
        fs::write(path.join("ours"), "").unwrap();
        let error = close(&path, &directory, &open).unwrap_err();
        assert!(error.message().contains("not closed"), "{error}");
        assert_eq!(mode(&path), 0o1777);
    }

    #[test]
    fn a_directory_that_others_can_read_is_closed_only_if_all_in_it_belongs_to_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path(), "linked", 0o755);
        fs::write(dir.path().join("elsewhere"), "").unwrap();
        symlink(dir.path().join("elsewhere"), path.join("ours")).unwrap();
        let refused = |why: &str| {
            let error = private_directory(&path, ours).unwrap_err();
            assert!(error.message().contains(why), "{error}");
            assert_eq!(mode(&path), 0o755);
        };
        refused("\"ours\" in it is a symbolic link");
        fs::remove_file(path.join("ours")).unwrap();
        let below = made(&path, "ours", 0o777);
        refused("\"ours\" in it can be written in");
        fs::remove_dir(below).unwrap();
        fs::write(path.join("ours"), "").unwrap();
        fs::write(path.join("more"), "").unwrap();
        if given_away(&path.join("more")) {
            refused("\"more\" in it belongs to user 65534");
            fs::remove_file(path.join("more")).unwrap();
        }
        private_directory(&path, ours).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn only_a_regular_file_of_the_user_is_opened_and_no_other_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let open =
            |path: &Path| open_own(path, OpenOptions::new().read(true).append(true).create(true));
        open(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "it is made for its owner alone");
        open(&path).unwrap();
        let refused = |path: &Path, why: &str| {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains(why), "{error}");
        };
        let (link, dangling) = (dir.path().join("link"), dir.path().join("dangling"));
        symlink(&path, &link).unwrap();
        symlink(dir.path().join("new"), &dangling).unwrap();
        refused(&link, "symbolic link");
        refused(&dangling, "symbolic link");
        assert!(!dir.path().join("new").exists(), "nothing is made through a link");
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        refused(&pipe, "not a regular file");
        if given_away(&path) {
            refused(&path, "belongs to user 65534");
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused_and_left_as_it_is() {
        // For any user who runs the tests: either the root directory belongs to another user, or the file can be given
        // away.
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path(), "given-away", 0o755);
        let given = match std::os::unix::fs::chown(&path, Some(65_534), None) {
            Ok(()) => path,
            Err(_) => PathBuf::from("/"),
        };
        let before = mode(&given);
        let error = private_directory(&given, |_| true).unwrap_err();
        assert!(error.message().contains("belongs to user"), "{error}");
        assert_eq!(mode(&given), before);
    }

    #[test]
    fn a_secret_that_others_can_read_is_told_of_with_its_mode_and_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "x").unwrap();
        for (is, can) in
            [(0o644, Some("read")), (0o620, Some("change")), (0o600, None), (0o400, None)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(is)).unwrap();
            let said = exposed(&path);
            assert_eq!(said.is_some(), can.is_some(), "{said:?}");
            for words in can.iter().flat_map(|can| {
                [
                    format!("can {can} it"),
                    format!("{is:04o}"),
                    format!("`chmod 600 {}`", path.display()),
                ]
            }) {
                assert!(said.as_ref().is_some_and(|said| said.contains(&words)), "{said:?}");
            }
        }
        assert_eq!(exposed(Path::new("-")), None);
        assert_eq!(exposed(dir.path()), None);
    }
}
