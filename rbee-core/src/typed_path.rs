//! Paths as people type them, made absolute.

use std::{
    env, io,
    path::{Component, Path, PathBuf},
};

/// The absolute path without `..` that is meant by a path as a user types it. `~` at its beginning is the user's home
/// directory. A relative path starts at `base`, or at the current directory if that is `None` or empty: the parent of a
/// bare file name is the empty path. The result can be named by a `file:` reference.
///
/// ```
/// use std::path::Path;
/// use rbee_core::models::absolute_path;
///
/// let path = absolute_path("./bee//tiny.gguf", Some(Path::new("/models")))?;
/// assert_eq!(path, Path::new("/models/bee/tiny.gguf"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If the home directory or the current directory is needed and not known.
pub fn absolute_path(typed: impl AsRef<Path>, base: Option<&Path>) -> io::Result<PathBuf> {
    absolute(typed.as_ref(), base, env::home_dir)
}

fn absolute(
    typed: &Path,
    base: Option<&Path>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> io::Result<PathBuf> {
    let path = match typed.strip_prefix("~") {
        Ok(below) => {
            let none = || io::Error::new(io::ErrorKind::NotFound, "there is no home directory");
            home().ok_or_else(none)?.join(below)
        }
        Err(_) => typed.to_owned(),
    };
    let path = match base {
        _ if path.is_absolute() => path,
        Some(base) if !base.as_os_str().is_empty() => std::path::absolute(base)?.join(path),
        _ => env::current_dir()?.join(path),
    };
    Ok(without_parents(&path))
}

/// The path without `..`. The directory above a link is that above its target, as for every program that opens the
/// path. Other links keep their names.
fn without_parents(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                whole = whole.canonicalize().unwrap_or(whole);
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_starts_at_the_base_the_home_directory_or_the_root() {
        let of = |typed: &str| {
            absolute(Path::new(typed), Some(Path::new("/base/dir")), || Some("/home/lily".into()))
                .unwrap()
        };
        for (typed, meant) in [
            ("bee", "/base/dir/bee"),
            ("./bee", "/base/dir/bee"),
            (".", "/base/dir"),
            ("", "/base/dir"),
            ("..", "/base"),
            ("../bee", "/base/bee"),
            ("../../../../bee", "/bee"),
            ("a/./b//c/", "/base/dir/a/b/c"),
            ("a/../b", "/base/dir/b"),
            ("/models/../bee", "/bee"),
            ("~", "/home/lily"),
            ("~/bee", "/home/lily/bee"),
            ("~/../bee", "/home/bee"),
            ("~other/bee", "/base/dir/~other/bee"),
            ("./~/bee", "/base/dir/~/bee"),
        ] {
            assert_eq!(of(typed), Path::new(meant), "{typed}");
        }
        let here = env::current_dir().unwrap();
        assert_eq!(absolute_path("bee", None).unwrap(), here.join("bee"));
        let of_a_bare_name = Path::new("queen.yaml").parent().unwrap();
        for (base, meant) in [(Path::new("base"), "base/bee"), (of_a_bare_name, "bee")] {
            assert_eq!(absolute_path("bee", Some(base)).unwrap(), here.join(meant));
        }
        let error = absolute(Path::new("~/bee"), None, || None).unwrap_err();
        assert!(error.to_string().contains("home directory"));
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_above_a_link_is_that_above_its_target_and_other_links_keep_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("target/deep")).unwrap();
        std::os::unix::fs::symlink(root.join("target/deep"), root.join("link")).unwrap();
        for (typed, meant) in [("link/../bee", "target/bee"), ("link/bee", "link/bee")] {
            assert_eq!(absolute_path(typed, Some(&root)).unwrap(), root.join(meant));
        }
    }
}
