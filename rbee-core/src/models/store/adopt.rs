//! Models that another tool put in the hub's cache.

use std::{fs, path::Path};

use super::{
    Shared,
    record::{Entry, Record},
};
use crate::{
    Digest, ModelRef, ModelSource, Result,
    models::{
        files,
        select::{self, Listed},
    },
};

/// Directories inside each other that are looked into.
const MAX_DEPTH: usize = 8;

impl Shared {
    /// Registers a model that lies whole in the hub's cache. Which files belong to it is told by their names, and by
    /// those that an index of shards names.
    pub(super) fn adopt(&self, model: &ModelRef) -> Result<Option<Entry>> {
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

    /// Writes the record of a model of the hub's cache.
    pub(super) fn register_hub(&self, model: &ModelRef, record: Record) -> Result<()> {
        let at = self.dir.join("hub").join(format!("{}.json", super::record::key(model)));
        record.write(&self.disk, &at)
    }
}

/// The files of a snapshot, those that can be opened.
pub(in crate::models) fn snapshot_files(root: &Path) -> Vec<Listed> {
    let mut files = Vec::new();
    let mut directories = vec![(root.to_owned(), String::new(), 0)];
    while let Some((directory, prefix, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}"))
            else {
                continue;
            };
            // Through the links to the blobs; nothing where one leads nowhere.
            let Ok(is) = fs::metadata(entry.path()) else { continue };
            if is.is_file() {
                files.push(Listed { path: name, bytes: is.len() });
            } else if is.is_dir() && depth < MAX_DEPTH && files.len() < crate::MAX_MODEL_FILES {
                directories.push((entry.path(), format!("{name}/"), depth + 1));
            }
        }
    }
    files
}

/// The hub names the blob of a large file by its SHA-256.
fn blob_digest(link: &Path) -> Option<Digest> {
    let blob = fs::read_link(link).ok()?;
    Digest::from_hex(blob.file_name()?.to_str()?)
}
