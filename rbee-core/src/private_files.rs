//! Directories and files that are for their owner alone.

use std::{
    fs::{self, DirBuilder},
    io,
    path::Path,
};

use crate::{Error, ErrorKind, Result};

/// Names of a directory that are looked at, to tell whose it is.
const MOST_NAMES: usize = 10_000;

/// Makes a directory that only its owner can look into, or checks that this one is.
///
/// - One that is not there is made, with all above it, for its owner alone (mode 0700).
/// - One that is there and is the caller's own, and closed to others, is taken as it is.
/// - One that others can look into is closed to them if it is the caller's own, and either empty or `is_ours` says of
///   the names in it that this program has made them. It is never taken away from others otherwise: they may need it.
///
/// On systems without modes it is made if it is not there, and that is all.
///
/// # Errors
/// [`ErrorKind::Config`] that names the directory, what is wrong with it and what to do.
pub fn private_directory(path: &Path, is_ours: impl FnOnce(&[String]) -> bool) -> Result<()> {
    let failed = |cause: io::Error| {
        Error::new(ErrorKind::Config, format!("{} cannot be used: {cause}", path.display()))
            .with_source(cause)
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    #[cfg(unix)]
    {
        // What is looked at is what is changed: the handle stays with one directory, whatever becomes of the path.
        let directory = fs::File::open(path).map_err(failed)?;
        if must_be_closed(path, &directory, is_ours)? {
            let alone = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            directory.set_permissions(alone).map_err(failed)?;
        }
    }
    #[cfg(not(unix))]
    let _ = is_ours;
    Ok(())
}

/// Returns true if the directory is open to others, and may be closed to them.
#[cfg(unix)]
fn must_be_closed(
    path: &Path,
    directory: &fs::File,
    is_ours: impl FnOnce(&[String]) -> bool,
) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let failed = |cause: io::Error| {
        Error::new(ErrorKind::Config, format!("{} cannot be used: {cause}", path.display()))
            .with_source(cause)
    };
    let refused = |why: String| {
        let below = path.join("rbee");
        let message = format!(
            "the directory {} {why}; name a directory for this alone, such as {}, which is made when it is not there",
            path.display(),
            below.display(),
        );
        Err(Error::new(ErrorKind::Config, message))
    };
    let metadata = directory.metadata().map_err(failed)?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return refused(format!("belongs to user {owner}, and this program runs as user {user}"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    let names = names(directory).map_err(failed)?;
    match names {
        Some(names) if names.is_empty() || is_ours(&names) => {
            tracing::info!(path = %path.display(), mode = %format_args!("{mode:04o}"), "closed to other users");
            Ok(true)
        }
        _ => refused(format!(
            "is open to other users (mode {mode:04o}) and has files in it that are not rbee's, so it is not closed to \
             them"
        )),
    }
}

/// The names in a directory; `None` if there are too many for one of ours, or one that is no text.
#[cfg(unix)]
fn names(directory: &fs::File) -> io::Result<Option<Vec<String>>> {
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

/// What to say of a file with a secret in it that others can read or change: the mode, and how to keep them out.
/// `None` if they cannot, or there is no such file. `-` and other things that are no files are nobody's.
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

    #[test]
    fn a_directory_of_another_user_is_refused_and_left_as_it_is() {
        // Whoever runs the tests: either the root directory is another's, or it can be given away.
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
