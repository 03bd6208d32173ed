//! Finding out what is damaged.

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

/// A file of a model that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Its path in the model.
    pub file: String,
    /// What its content should be.
    pub expected: Digest,
    /// What it is; nothing where it is not there.
    pub found: Option<Digest>,
    /// Where it is kept now, so that it is never served.
    pub kept: Option<PathBuf>,
}

impl ModelStore {
    /// Reads every file of the model and compares its checksum. Damaged files are moved to
    /// [`damaged`](Self::damaged), never to be served; the model is then incomplete, and the next download or import
    /// fetches those files alone. Finds nothing: an empty list.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) where the store has it not,
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) where the disk fails.
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

    /// The file itself, not a link to it: other snapshots must not be served the blob either.
    fn keep_damaged(&self, at: &std::path::Path, file: &str) -> Result<PathBuf> {
        let blob = std::fs::canonicalize(at).map_err(disk::failed("find", at))?;
        let kept = self.keep_apart(&blob, file)?;
        if file_size(at).is_none() {
            self.disk.remove_file(at)?;
        }
        Ok(kept)
    }
}
