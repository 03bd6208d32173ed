//! Models that another tool put in the hub's cache.

use std::{fs, path::Path};

use super::{
    Shared,
    record::{Record, StoreEntry},
};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::{ModelRef, ModelSource},
    models::{files, hub_cache::snapshot_files, select},
};

impl Shared {
    /// Registers a complete model in the hub's cache. Its files are found by their names, and by those that an index of
    /// shards names.
    pub(super) fn adopt(&self, model: &ModelRef) -> Result<Option<StoreEntry>> {
        let Some(root) = self.snapshot(model) else { return Ok(None) };
        let ModelSource::Hub { file, .. } = model.source() else { return Ok(None) };
        let Ok(picked) = select::pick(&snapshot_files(&root), file, model) else {
            return Ok(None);
        };
        if !select::is_whole(&root, &picked.files) {
            return Ok(None);
        }
        let manifest = files::hashed(&root, picked.files, |_, at| blob_digest(at))?;
        let _lock = self.lock()?;
        self.register_hub(model, Record::new(model.clone(), manifest, false))?;
        self.tell();
        Ok(self.entry(model))
    }

    /// Writes the record of a model in the hub's cache.
    pub(super) fn register_hub(&self, model: &ModelRef, record: Record) -> Result<()> {
        let at = self.dir.join("hub").join(format!("{}.json", super::record::key(model)));
        record.write(&self.disk, &at)
    }
}

/// The name of a large file's blob in the hub's cache is its SHA-256.
fn blob_digest(link: &Path) -> Option<Digest> {
    let blob = fs::read_link(link).ok()?;
    Digest::from_hex(blob.file_name()?.to_str()?)
}
