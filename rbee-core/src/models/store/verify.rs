//! Detection of damage.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ModelStore, Shared, StoreError};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::ModelRef,
    models::{
        disk::{self, file_size},
        files::blocking,
    },
    progress::Progress,
};

/// A damaged file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Its path in the model.
    pub file: String,
    /// The digest that its content should have.
    pub expected: Digest,
    /// The digest that its content has; `None` if the file is missing.
    pub found: Option<Digest>,
    /// The path at which it is kept now, so that it is never served.
    pub kept: Option<PathBuf>,
}

impl ModelStore {
    /// Reads every file of the model and compares its checksum. Damaged files are moved to [`damaged`](Self::damaged)
    /// and never served; the model is then incomplete, and the next download or import fetches only those files.
    /// Returns an empty list if nothing is damaged.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) if the store does not have it,
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the disk fails.
    pub async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        let (shared, model) = (self.shared.clone(), model.clone());
        blocking(move || shared.verify(&model, &progress)).await
    }
}

impl Shared {
    fn verify(&self, model: &ModelRef, progress: &Progress) -> Result<Vec<Damage>> {
        let entry = match self.entry(model) {
            Some(entry) => entry,
            None => self.adopt(model)?.ok_or_else(|| StoreError::Unknown(model.clone()))?,
        };
        let total = Some(entry.record.manifest.bytes());
        let (mut done, mut damaged) = (0, Vec::new());
        for file in entry.record.manifest.files() {
            let at = entry.root.join(&file.path);
            let found = match disk::hash(&at, |read| {
                done += read;
                progress.update(done, total);
            }) {
                Ok(found) => Some(found),
                Err(error) if error.is_missing() => None,
                Err(error) => return Err(error.into()),
            };
            if found == Some(file.sha256) {
                continue;
            }
            let kept = match found {
                Some(_) => Some(self.keep_damaged(&at, &file.path)?),
                None => None,
            };
            let (file, expected) = (file.path.clone(), file.sha256);
            tracing::warn!(%model, file, %expected, ?found, "a model's file is damaged");
            damaged.push(Damage { file, expected, found, kept });
        }
        if !damaged.is_empty() {
            self.tell();
        }
        Ok(damaged)
    }

    /// The file itself, not a link to it: the blob must not be served to other snapshots either.
    fn keep_damaged(&self, at: &std::path::Path, file: &str) -> Result<PathBuf> {
        let blob = std::fs::canonicalize(at).map_err(disk::failed("find", at))?;
        let kept = self.keep_apart(&blob, file)?;
        if file_size(at).is_none() {
            self.disk.remove_file(at)?;
        }
        Ok(kept)
    }
}
