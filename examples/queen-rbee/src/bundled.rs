//! The small model that comes with this program: inside it, or in a directory that the caller names.

#[cfg(feature = "inside")]
use std::{fs, io};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rbee_core::{ModelRef, Result};

#[cfg(feature = "inside")]
use crate::home::{create_private, unusable, write_private};

/// Its alias.
pub const NAME: &str = "bee-tiny";

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

#[cfg(feature = "inside")]
macro_rules! files {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../models/bee-tiny/", $name)).as_slice())),*]
    };
}

#[cfg(feature = "inside")]
static FILES: [(&str, &[u8]); 6] = files![
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors"
];

/// Says where the files of the bundled model are, for a program without the feature `inside`. Without either there is
/// no bundled model. Call it before the daemon is started; the first call counts.
pub fn set_directory(directory: PathBuf) {
    // A later call has no effect, as documented.
    let _ = DIRECTORY.set(directory);
}

/// True if there is one.
pub(crate) fn is_there() -> bool {
    cfg!(feature = "inside") || DIRECTORY.get().is_some()
}

/// Its directory.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    DIRECTORY.get().cloned().unwrap_or_else(|| data_dir.join("models").join(NAME))
}

/// Writes the model into this directory, unless it is already there unchanged, and returns its reference.
///
/// # Errors
/// [`ErrorKind::Config`](rbee_core::ErrorKind::Config) if the directory cannot be used.
pub(crate) fn unpack(directory: &Path) -> Result<ModelRef> {
    #[cfg(feature = "inside")]
    if DIRECTORY.get().is_none() {
        return unpack_own(directory);
    }
    ModelRef::file(directory)
}

#[cfg(feature = "inside")]
fn unpack_own(directory: &Path) -> Result<ModelRef> {
    create_private(directory).map_err(|cause| unusable(directory, cause))?;
    for (name, bytes) in FILES {
        let path = directory.join(name);
        put(&path, bytes).map_err(|cause| unusable(&path, cause))?;
    }
    let directory = directory.canonicalize().map_err(|cause| unusable(directory, cause))?;
    ModelRef::file(directory)
}

/// A worker of a previous run may have the file open: a correct file is not touched.
#[cfg(feature = "inside")]
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_there = fs::metadata(path).is_ok_and(|found| found.len() == bytes.len() as u64)
        && fs::read(path)? == bytes;
    if is_there { Ok(()) } else { write_private(path, bytes) }
}

#[cfg(test)]
#[cfg(feature = "inside")]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_or_missing_is_put_right_and_the_rest_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("models/bee-tiny");
        let model = unpack(&path).unwrap();
        assert!(model.as_str().starts_with("file:/") && model.as_str().ends_with("bee-tiny"));
        let modified = |name: &str| fs::metadata(path.join(name)).unwrap().modified().unwrap();
        let before = modified("tokenizer.json");
        let weights = path.join("model.safetensors");
        let mut damaged = fs::read(&weights).unwrap();
        damaged[1_000_000] ^= 1;
        fs::write(&weights, &damaged).unwrap();
        fs::remove_file(path.join("config.json")).unwrap();
        assert_eq!(unpack(&path).unwrap(), model);
        assert_eq!(modified("tokenizer.json"), before);
        for (name, bytes) in FILES {
            assert_eq!(fs::read(path.join(name)).unwrap(), bytes, "{name}");
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), FILES.len());
    }
}
