//! The size of a model at its path on this machine.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, ErrorKind},
    file_roots,
};

/// The most files and directories of one model; a directory with more is not a model.
const MAX_ENTRIES: usize = 10_000;
/// The greatest depth of directories.
const MAX_DEPTH: usize = 16;

/// The reason why a path is not a model.
#[derive(Debug)]
pub(super) enum FilesError {
    Missing(PathBuf, io::Error),
    Unreadable(PathBuf, io::Error),
    Neither(PathBuf),
    Empty(PathBuf),
    TooMany(PathBuf),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(first, _) => {
                write!(f, "the model file {} does not exist", first.display())
            }
            Self::Unreadable(first, second) => {
                write!(f, "the model file {} cannot be read: {}", first.display(), second)
            }
            Self::Neither(it) => write!(f, "{} is neither a file nor a directory", it.display()),
            Self::Empty(it) => write!(f, "the directory {} has no files in it", it.display()),
            Self::TooMany(it) => write!(
                f,
                "{} is too large a tree for one model; allowed are {MAX_ENTRIES} files and directories, {MAX_DEPTH} deep",
                it.display()
            ),
        }
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(_, source) => Some(source),
            Self::Unreadable(_, source) => Some(source),
            _ => None,
        }
    }
}

impl From<FilesError> for Error {
    fn from(error: FilesError) -> Self {
        let kind = match &error {
            FilesError::Unreadable(_, cause) if file_roots::leads_out(cause) => {
                ErrorKind::PermissionDenied
            }
            FilesError::Missing(..) | FilesError::Unreadable(..) => ErrorKind::ModelNotFound,
            FilesError::Neither(_) | FilesError::Empty(_) | FilesError::TooMany(_) => {
                ErrorKind::ModelIncompatible
            }
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

fn failed(path: &Path, cause: io::Error) -> FilesError {
    if cause.kind() == io::ErrorKind::NotFound {
        FilesError::Missing(path.to_owned(), cause)
    } else {
        FilesError::Unreadable(path.to_owned(), cause)
    }
}

/// A directory that must still be read.
struct Directory {
    path: PathBuf,
    depth: usize,
    /// True if its files belong to the model, and are not only reached through a link.
    counts: bool,
}

/// The size in bytes of a file, or of all files in a directory. Blocks.
pub(super) fn size(path: &Path) -> Result<u64, FilesError> {
    let metadata = fs::metadata(path).map_err(|cause| failed(path, cause))?;
    if metadata.is_file() {
        return readable(path).map(|()| metadata.len());
    }
    if !metadata.is_dir() {
        return Err(FilesError::Neither(path.to_owned()));
    }
    // True if others may have created links in it. Then all links must stay inside, also those in linked directories:
    // third-party engines may read those too.
    let is_confined = file_roots::is_confined(path);
    if is_confined {
        readable(path)?;
    }
    let (mut files, mut bytes, mut seen) = (0_u64, 0_u64, 0);
    let mut entered = BTreeSet::new();
    let mut directories = vec![Directory { path: path.to_owned(), depth: 1, counts: true }];
    while let Some(Directory { path: directory, depth, counts }) = directories.pop() {
        if is_confined {
            let real = directory.canonicalize().map_err(|cause| failed(&directory, cause))?;
            if !entered.insert(real) && !counts {
                continue;
            }
        }
        let entries = fs::read_dir(&directory).map_err(|cause| failed(&directory, cause))?;
        for entry in entries {
            let entry = entry.map_err(|cause| failed(&directory, cause))?;
            seen += 1;
            if seen > MAX_ENTRIES || depth > MAX_DEPTH {
                return Err(FilesError::TooMany(path.to_owned()));
            }
            let file = entry.path();
            let kind = entry.file_type().map_err(|cause| failed(&file, cause))?;
            if kind.is_dir() {
                directories.push(Directory { path: file, depth: depth + 1, counts });
                continue;
            }
            // Through a link to its target file.
            let metadata = fs::metadata(&file).map_err(|cause| failed(&file, cause))?;
            if metadata.is_file() {
                readable(&file)?;
                if counts {
                    files += 1;
                    bytes = bytes.saturating_add(metadata.len());
                }
            } else if metadata.is_dir() && is_confined {
                // Its files do not count: they may be counted already, because the link may lead around in a circle.
                readable(&file)?;
                directories.push(Directory { path: file, depth: depth + 1, counts: false });
            }
        }
    }
    if files == 0 {
        return Err(FilesError::Empty(path.to_owned()));
    }
    Ok(bytes)
}

/// True if these are a model's files in a format with readable headers. Other formats are left to the engine. Blocks.
pub(crate) fn is_in_known_form(path: &Path) -> bool {
    let by_name = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "gguf" || extension == "safetensors")
    };
    if path.is_file() {
        return by_name(path);
    }
    let names = |entries: fs::ReadDir| entries.flatten().any(|entry| by_name(&entry.path()));
    path.join("config.json").is_file() || fs::read_dir(path).is_ok_and(names)
}

fn readable(path: &Path) -> Result<(), FilesError> {
    file_roots::open(path).map(drop).map_err(|cause| failed(path, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &Path) -> ErrorKind {
        let error = Error::from(size(path).unwrap_err());
        assert!(error.message().contains(&path.display().to_string()), "{error}");
        error.kind()
    }

    #[test]
    fn the_size_is_that_of_the_file_or_of_all_files_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [0; 5]).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/b"), [0; 7]).unwrap();
        assert_eq!(size(&dir.path().join("a")).unwrap(), 5);
        assert_eq!(size(dir.path()).unwrap(), 12);
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_file_counts_and_a_linked_directory_is_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        let (snapshot, blobs) = (dir.path().join("snapshot"), dir.path().join("blobs"));
        fs::create_dir(&snapshot).unwrap();
        fs::create_dir(&blobs).unwrap();
        fs::write(blobs.join("x"), [0; 9]).unwrap();
        std::os::unix::fs::symlink(blobs.join("x"), snapshot.join("model")).unwrap();
        std::os::unix::fs::symlink(&snapshot, snapshot.join("circle")).unwrap();
        std::os::unix::fs::symlink(&blobs, snapshot.join("out")).unwrap();
        assert_eq!(size(&snapshot).unwrap(), 9);
    }

    #[cfg(unix)]
    #[test]
    fn where_links_are_confined_those_to_directories_and_those_in_them_are_checked() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for path in ["root/model", "root/other/deep"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), [0; 100]).unwrap();
        fs::write(root.join("model/weights"), [0; 9]).unwrap();
        fs::write(root.join("other/deep/more"), [0; 20]).unwrap();
        file_roots::confine_model_files(&root);
        let model = root.join("model");
        symlink("../other", model.join("other")).unwrap();
        symlink(".", model.join("circle")).unwrap();
        symlink("../model", root.join("other/back")).unwrap();
        assert_eq!(size(&model).unwrap(), 9, "links stay below the root");

        let refused = |link: &Path, to: &Path| {
            symlink(to, link).unwrap();
            let error = Error::from(size(&model).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}: {error}", link.display());
            fs::remove_file(link).unwrap();
        };
        refused(&model.join("out"), &outside);
        refused(&root.join("other/deep/out"), &outside);
        refused(&root.join("other/deep/out"), &outside.join("secret"));
        assert_eq!(size(&model).unwrap(), 9);
        symlink(&outside, root.join("whole")).unwrap();
        let error = Error::from(size(&root.join("whole")).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }

    #[test]
    fn what_is_not_there_or_no_model_is_refused_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kind(&dir.path().join("none")), ErrorKind::ModelNotFound);
        assert_eq!(kind(dir.path()), ErrorKind::ModelIncompatible);
        #[cfg(unix)]
        assert_eq!(kind(Path::new("/dev/null")), ErrorKind::ModelIncompatible);
        let mut deep = dir.path().to_owned();
        (0..=MAX_DEPTH).for_each(|_| deep.push("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        let error = size(dir.path()).unwrap_err();
        assert!(matches!(error, FilesError::TooMany(_)), "{error}");
    }
}
