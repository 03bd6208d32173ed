//! The program of a client on the `PATH`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::clients::ClientKind;
use crate::failure::{Exit, Failure};

/// What the names of programs end with. On Windows npm installs scripts.
#[cfg(windows)]
const ENDINGS: &[&str] = &[".exe", ".cmd"];
#[cfg(not(windows))]
const ENDINGS: &[&str] = &[""];

/// The program of this client.
pub(super) fn find(client: ClientKind) -> Result<PathBuf, Failure> {
    let path = super::variable("PATH").unwrap_or_default();
    find_in(&path, client.program()).ok_or_else(|| {
        let message = format!("{client} is not installed: no {} is on the PATH", client.program());
        Failure::new(Exit::Failed, "NOT_INSTALLED", message)
            .with_hint(format!("`{}` installs it", client.install()))
    })
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    let in_folder = |folder: PathBuf| {
        let named = |ending: &&str| folder.join(format!("{name}{ending}"));
        ENDINGS.iter().map(named).find(|file| can_be_started(file))
    };
    std::env::split_paths(path).find_map(in_folder)
}

fn can_be_started(file: &Path) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    #[cfg(unix)]
    let is_executable = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o111 != 0;
    #[cfg(not(unix))]
    let is_executable = true;
    metadata.is_file() && is_executable
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_first_file_on_the_path_that_can_be_started_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, mode| {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        made("a/bee", 0o644);
        fs::create_dir_all(dir.path().join("b/bee")).unwrap();
        let right = made("c/bee", 0o755);
        made("d/bee", 0o755);
        let folders = ["a", "b", "c", "d"].map(|name| dir.path().join(name));
        let path = std::env::join_paths(folders).unwrap();
        assert_eq!(find_in(&path, "bee"), Some(right));
        assert_eq!(find_in(&path, "wasp"), None);
    }
}
