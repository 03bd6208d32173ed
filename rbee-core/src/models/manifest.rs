//! The list of the files of a model.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    digest::Digest,
    error::{Error, ErrorKind, Result},
};

/// The most files of one model.
pub const MAX_MODEL_FILES: usize = 10_000;
/// The longest path in a model, in bytes.
const MAX_PATH: usize = 512;
/// The greatest depth of directories.
const MAX_DEPTH: usize = 16;

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its path in the model's directory; parts are separated by `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its content.
    pub sha256: Digest,
}

/// All files of a model, sorted by path: at least one and at most [`MAX_MODEL_FILES`], none twice, none outside the
/// model's directory. Every value of this type has been checked, also after deserialization.
///
/// ```
/// use rbee_core::models::{Digest, Manifest, ModelFile};
///
/// let file = |path: &str| ModelFile { path: path.into(), bytes: 3, sha256: Digest::of("bee") };
/// let manifest = Manifest::new([file("model.safetensors"), file("config.json")])?;
/// assert_eq!(manifest.files()[0].path, "config.json");
/// assert_eq!(manifest.bytes(), 6);
/// assert!(Manifest::new([file("../escape")]).is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    files: Vec<ModelFile>,
}

/// The reason why files do not form a manifest.
#[derive(Debug)]
enum ManifestError {
    Empty,
    TooMany(usize),
    Twice(String),
    FileAndDirectory(String),
    Path(String, &'static str),
    TooLarge,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the model has no files"),
            Self::TooMany(it) => {
                write!(f, "the model has {it} files; allowed are {MAX_MODEL_FILES}")
            }
            Self::Twice(it) => write!(f, "the model's file {it:?} is listed twice"),
            Self::FileAndDirectory(it) => {
                write!(f, "the model's path {it:?} is a file and a directory at once")
            }
            Self::Path(first, second) => write!(
                f,
                "{first:?} is not a path of a model's file: {second}; allowed are at most {MAX_PATH} bytes in at most {MAX_DEPTH} parts \
         separated by \"/\", none of them empty, \".\" or \"..\", without control characters, \"\\\" and \":\""
            ),
            Self::TooLarge => f.write_str("the model's files are larger together than any disk"),
        }
    }
}

impl std::error::Error for ManifestError {}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        Error::new(ErrorKind::InvalidRequest, error.to_string()).with_source(error)
    }
}

impl Manifest {
    /// The manifest of these files, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if there are no files or more than [`MAX_MODEL_FILES`], if a file is listed twice,
    /// or if a path could leave the model's directory.
    pub fn new(files: impl IntoIterator<Item = ModelFile>) -> Result<Self> {
        // One file more than allowed shows that there are too many.
        let mut files: Vec<_> = files.into_iter().take(MAX_MODEL_FILES + 1).collect();
        if files.is_empty() {
            return Err(ManifestError::Empty.into());
        }
        if files.len() > MAX_MODEL_FILES {
            return Err(ManifestError::TooMany(files.len()).into());
        }
        files.sort();
        let mut paths = BTreeSet::new();
        let mut total = 0_u64;
        for file in &files {
            check_path(&file.path)?;
            if !paths.insert(file.path.as_str()) {
                return Err(ManifestError::Twice(file.path.clone()).into());
            }
            total = total.checked_add(file.bytes).ok_or(ManifestError::TooLarge)?;
        }
        for path in &paths {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(both) = above.into_iter().find(|above| paths.contains(above)) {
                return Err(ManifestError::FileAndDirectory(both.to_owned()).into());
            }
        }
        Ok(Self { files })
    }

    /// The files, sorted by path.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// The file with this path.
    pub fn file(&self, path: &str) -> Option<&ModelFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path));
        at.ok().and_then(|at| self.files.get(at))
    }

    /// The total size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The digest of this content, independent of its location: the SHA-256 over one line per file, sorted by path. A
    /// line consists of the file's SHA-256 as 64 hexadecimal digits, a space, its size in bytes, a space, its path, and
    /// a line feed.
    pub fn digest(&self) -> Digest {
        let lines = self.files.iter().map(|file| {
            let ModelFile { path, bytes, sha256 } = file;
            format!("{} {bytes} {path}\n", sha256.hex())
        });
        Digest::of(lines.collect::<String>())
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({} files, {} bytes)", self.files.len(), self.bytes())
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            files: Vec<ModelFile>,
        }
        let Plain { files } = Plain::deserialize(deserializer)?;
        Self::new(files).map_err(serde::de::Error::custom)
    }
}

/// Checks that the path stays below its directory, on every system.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let bad = |why| Err(ManifestError::Path(path.chars().take(120).collect(), why).into());
    if path.len() > MAX_PATH {
        return bad("it is too long");
    }
    if path.split('/').count() > MAX_DEPTH {
        return bad("it is too deep");
    }
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | ':')) {
        return bad("it has a character in it that is not allowed");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return bad("it has a part that is not allowed");
    }
    if path.split('/').any(|part| part.len() > 255) {
        return bad("a part of it is too long");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str) -> ModelFile {
        ModelFile { path: path.into(), bytes: 1, sha256: Digest::of(path) }
    }

    #[test]
    fn the_digest_is_that_of_the_documented_text() {
        let manifest = Manifest::new([file("b"), file("a/c")]).unwrap();
        let text = format!("{} 1 a/c\n{} 1 b\n", Digest::of("a/c").hex(), Digest::of("b").hex());
        assert_eq!(manifest.digest(), Digest::of(text));
        assert_eq!(manifest, Manifest::new([file("a/c"), file("b")]).unwrap());
        assert_eq!(manifest.file("b").unwrap(), &file("b"));
    }

    #[test]
    fn what_is_no_manifest_is_refused_also_when_it_is_read() {
        let many = (0..=MAX_MODEL_FILES).map(|n| file(&n.to_string())).collect();
        let huge = ModelFile { bytes: u64::MAX, ..file("x") };
        let other = ModelFile { bytes: 2, ..file("a") };
        for files in [
            vec![],
            many,
            vec![file("a"), file("a")],
            vec![file("a"), other],
            vec![file("a"), file("a!"), file("a/b")],
            vec![huge, file("a")],
            vec![file("/etc/passwd")],
            vec![file("a//b")],
            vec![file("C:x")],
            vec![file("a\\b")],
            vec![file("a\nb")],
            vec![file("")],
            vec![file(&"d/".repeat(20))],
        ] {
            let json = serde_json::json!({ "files": files }).to_string();
            assert!(serde_json::from_str::<Manifest>(&json).is_err());
            assert_eq!(Manifest::new(files).unwrap_err().kind(), ErrorKind::InvalidRequest);
        }
    }

    proptest! {
        #[test]
        fn what_is_allowed_stays_below_its_directory(path in "[a./\\\\:]{0,12}|.{0,20}") {
            if check_path(&path).is_ok() {
                let joined = std::path::Path::new("/model").join(&path);
                let normal = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(joined.components().skip(1).all(normal));
                prop_assert!(joined.starts_with("/model") && joined != std::path::Path::new("/model"));
            }
        }

        #[test]
        fn a_manifest_reads_back_as_it_was_written(names in proptest::collection::btree_set("[a-z]{1,6}", 1..9)) {
            let manifest = Manifest::new(names.iter().map(|name| file(name))).unwrap();
            let json = serde_json::to_string(&manifest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        }
    }
}
