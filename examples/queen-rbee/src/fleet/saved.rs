//! Hives that were added over the API, as files: [`SavedHive`].

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rbee_core::{Error, ErrorKind, HiveId, Result};
use rbee_transport_http::Token;
use serde::{Deserialize, Serialize};

use crate::home::{unusable, write_private};

/// The largest file of a saved hive, in bytes.
const MOST_BYTES: u64 = 128 << 10;

/// A hive that was added over the API, as saved with its token in a file that only its user can read. It has exactly
/// one of `url` and `ssh`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedHive {
    pub(super) id: HiveId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Token>,
    /// The trusted certificates in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_cert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ssh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) directory: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) arguments: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
}

impl SavedHive {
    /// Writes it to a file.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] with the file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::other)
            .and_then(|bytes| write_private(path, &bytes));
        written.map_err(|cause| {
            let message = format!("the hive cannot be saved in {}: {cause}", path.display());
            Error::new(ErrorKind::Storage, message).with_source(cause)
        })
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the file, and without what is in it.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if fs::metadata(path).map_err(|cause| unusable(path, cause))?.len() > MOST_BYTES {
            return Err(unusable(
                path,
                io::Error::other(format!("larger than {MOST_BYTES} bytes")),
            ));
        }
        let bytes = fs::read(path).map_err(|cause| unusable(path, cause))?;
        // The cause may repeat what it read, including a token: only its position is shown.
        serde_json::from_slice(&bytes).map_err(|cause| {
            let (line, column) = (cause.line(), cause.column());
            let why = format!("line {line}, column {column}, is not understood");
            unusable(path, io::Error::other(why))
        })
    }
}

/// The files of a directory with saved hives, each with what was read.
///
/// # Errors
/// [`ErrorKind::Config`] if the directory cannot be listed.
pub(super) fn read_all(directory: &Path) -> Result<Vec<(PathBuf, Result<SavedHive>)>> {
    let entries = || -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory)?;
        entries.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut paths = entries().map_err(|cause| unusable(directory, cause))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths.into_iter().map(|path| (path.clone(), SavedHive::read(&path))).collect())
}
