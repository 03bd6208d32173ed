//! The records of models on the disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Shared, StoredModel, StoredState};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::{ModelRef, ModelSource},
    models::{
        Manifest,
        disk::{self, Disk},
    },
    time::WallTime,
};

/// The version of the records; records of another version are ignored.
const VERSION: u32 = 1;
/// The size of a record with the most files that a model may have, and the longest paths.
pub(super) const MAX_RECORD: u64 = 16 << 20;

/// One record: its model references and their files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// A copy may have several references; a model in the hub's cache has one.
    pub(super) models: Vec<ModelRef>,
    pub(super) manifest: Manifest,
    /// True if this store downloaded it, and not another tool.
    pub(super) fetched: bool,
    /// True if it was fetched within the limit on models of tenants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) for_tenants: bool,
}

impl Record {
    pub(super) fn new(model: ModelRef, manifest: Manifest, fetched: bool) -> Self {
        Self { version: VERSION, models: vec![model], manifest, fetched, for_tenants: false }
    }

    /// The record in this file; `None` if there is no readable one.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let read = match disk::read_small(path, MAX_RECORD) {
            Ok(content) => content?,
            Err(error) => {
                tracing::warn!(%error, "a record of the model store cannot be read");
                return None;
            }
        };
        match serde_json::from_slice::<Self>(&read) {
            Ok(record) if record.version == VERSION => Some(record),
            Ok(record) => {
                let (path, version) = (path.display(), record.version);
                tracing::warn!(%path, version, "a record of the model store is of another version");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a record of the model store is malformed");
                None
            }
        }
    }

    pub(super) fn write(&self, disk: &Disk, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| {
            let message = "a record of the model store cannot be written as JSON";
            crate::error::Error::new(crate::error::ErrorKind::Internal, message).with_source(error)
        })?;
        Ok(disk.replace(path, &text)?)
    }
}

/// A model with its record and its location.
#[derive(Clone, Debug)]
pub(super) struct StoreEntry {
    pub(super) model: ModelRef,
    pub(super) record: Record,
    /// The path of the record.
    pub(super) at: PathBuf,
    /// The base directory of the paths in the manifest.
    pub(super) root: PathBuf,
    /// True for a copy in the store itself, false for a model in the hub's cache.
    pub(super) copied: bool,
}

impl StoreEntry {
    /// True if every file exists in its full size.
    pub(super) fn is_complete(&self) -> bool {
        let mut files = self.record.manifest.files().iter();
        files.all(|file| disk::file_size(&self.root.join(&file.path)) == Some(file.bytes))
    }

    /// The path for a worker: the directory, or the one requested file.
    pub(super) fn path(&self) -> PathBuf {
        let files = self.record.manifest.files();
        let one = match self.model.source() {
            ModelSource::Hub { file: Some(file), .. } => {
                files.iter().map(|is| is.path.as_str()).find(|is| *is == file)
            }
            ModelSource::File(path) => match files {
                [only] if path.file_name().is_some_and(|name| name == only.path.as_str()) => {
                    Some(only.path.as_str())
                }
                _ => None,
            },
            _ => None,
        };
        one.map_or_else(|| self.root.clone(), |one| self.root.join(one))
    }
}

impl Shared {
    pub(super) fn stored(&self, entry: &StoreEntry) -> StoredModel {
        let complete = entry.is_complete();
        StoredModel {
            model: entry.model.clone(),
            digest: Some(entry.record.manifest.digest()),
            bytes: entry.record.manifest.bytes(),
            last_used: self.last_used(entry),
            state: if complete { StoredState::Ready } else { StoredState::Incomplete },
        }
    }

    fn used(&self, model: &ModelRef) -> PathBuf {
        self.dir.join("used").join(key(model))
    }

    /// Marks the model as used now. A failure is only logged.
    pub(super) fn touch(&self, model: &ModelRef) {
        if let Err(error) = self.disk.touch(&self.used(model)) {
            tracing::warn!(%model, %error, "the use of a model cannot be noted");
        }
    }

    pub(super) fn forget_use(&self, model: &ModelRef) -> Result<()> {
        Ok(self.disk.remove_file(&self.used(model))?)
    }

    pub(super) fn last_used(&self, entry: &StoreEntry) -> WallTime {
        let time = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let used = time(&self.used(&entry.model)).or_else(|| time(&entry.at));
        let since = used.and_then(|used| used.duration_since(std::time::UNIX_EPOCH).ok());
        let millis = since.map_or(0, |since| since.as_millis());
        WallTime::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// A name for files about this model: short, and the same in every process.
pub(super) fn key(model: &ModelRef) -> String {
    let mut hex = Digest::of(model.as_str()).hex();
    hex.truncate(32);
    hex
}
