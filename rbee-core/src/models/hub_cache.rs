//! The layout of the hub's cache, which other tools share.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{manifest::MAX_MODEL_FILES, select::Listed};

/// The greatest depth of directories that is read.
const MAX_DEPTH: usize = 8;

/// The files of a snapshot that can be opened.
pub(super) fn snapshot_files(root: &Path) -> Vec<Listed> {
    let mut files = Vec::new();
    let mut directories = vec![(root.to_owned(), String::new(), 0)];
    while let Some((directory, prefix, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}"))
            else {
                continue;
            };
            // Follows the links to the blobs; a broken link is skipped.
            let Ok(is) = fs::metadata(entry.path()) else { continue };
            if is.is_file() {
                files.push(Listed { path: name, bytes: is.len() });
            } else if is.is_dir() && depth < MAX_DEPTH && files.len() < MAX_MODEL_FILES {
                directories.push((entry.path(), format!("{name}/"), depth + 1));
            }
        }
    }
    files
}

/// The standard directory of the hub's cache, which other tools use too.
pub(super) fn standard_hub_cache() -> Option<PathBuf> {
    standard(|name| env::var_os(name).filter(|value| !value.is_empty()), env::home_dir)
}

fn standard(
    var: impl Fn(&str) -> Option<std::ffi::OsString>,
    home: impl Fn() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let path = |name| {
        let value = PathBuf::from(var(name)?);
        // A tilde that no shell has expanded.
        match value.strip_prefix("~") {
            Ok(rest) => Some(home()?.join(rest)),
            Err(_) => Some(value),
        }
    };
    path("HF_HUB_CACHE")
        .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(path("HF_HOME")?.join("hub")))
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(home()?.join(".cache/huggingface/hub")))
}

/// True if this revision is a commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_other_tools_look_for_it() {
        let at = |set: &[(&str, &str)]| {
            let var = |name: &str| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
            };
            standard(var, || Some("/home/bee".into())).unwrap()
        };
        assert_eq!(at(&[]), PathBuf::from("/home/bee/.cache/huggingface/hub"));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(at(&[("HF_HOME", "~/hf")]), PathBuf::from("/home/bee/hf/hub"));
        assert_eq!(at(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), PathBuf::from("/c"));
    }
}
