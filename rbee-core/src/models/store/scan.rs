//! The list of models: the records on the disk, read again if they have changed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Shared, lock,
    record::{Record, StoreEntry},
};
use crate::{
    digest::Digest,
    model_ref::{ModelRef, ModelSource},
    models::hub_cache::is_commit,
};

/// Records in the state in which they were read.
#[derive(Default)]
pub(super) struct Known(BTreeMap<PathBuf, (Stamp, Option<Record>)>);

/// Values that change whenever a record is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&file);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { bytes: file.len(), modified: file.modified().ok(), inode })
    }
}

impl Shared {
    /// All registered models, complete or not.
    pub(super) fn entries(&self) -> Vec<StoreEntry> {
        let copies = names(&self.dir.join("models")).map(|path| path.join("record.json"));
        let hub = names(&self.dir.join("hub"))
            .filter(|path| path.extension().is_some_and(|end| end == "json"));
        let mut known = lock(&self.known);
        let mut now = BTreeMap::new();
        for path in copies.chain(hub) {
            let Some(stamp) = Stamp::of(&path) else { continue };
            let record = match known.0.remove(&path) {
                Some((before, record)) if before == stamp => record,
                _ => Record::read(&path),
            };
            now.insert(path, (stamp, record));
        }
        known.0 = now;
        let records = known.0.iter().filter_map(|(at, (_, record))| Some((at, record.as_ref()?)));
        records.flat_map(|(at, record)| self.entries_of(at, record)).collect()
    }

    pub(super) fn entry(&self, model: &ModelRef) -> Option<StoreEntry> {
        let mut all = self.entries().into_iter().filter(|entry| entry.model == *model);
        // There are several only if a process was killed between two steps.
        let first = all.next()?;
        if first.is_complete() {
            return Some(first);
        }
        Some(all.find(StoreEntry::is_complete).unwrap_or(first))
    }

    fn entries_of(&self, at: &Path, record: &Record) -> Vec<StoreEntry> {
        let copied = at.file_name().is_some_and(|name| name == "record.json");
        let entry = |model: &ModelRef| {
            let root = match copied {
                true => at.with_file_name("files"),
                false => self.snapshot(model)?,
            };
            let (model, record, at) = (model.clone(), record.clone(), at.to_owned());
            Some(StoreEntry { model, record, at, root, copied })
        };
        record.models.iter().filter_map(entry).collect()
    }

    /// The directory of a copy in the store, by the digest of the model.
    pub(super) fn copy_dir(&self, digest: &Digest) -> PathBuf {
        self.dir.join("models").join(digest.hex())
    }

    /// The directory of a repository in the hub's cache.
    pub(super) fn repository(&self, org: &str, repo: &str) -> PathBuf {
        self.hub_cache.join(format!("models--{org}--{repo}"))
    }

    /// The directory of a resolved hub reference; `None` for another reference.
    pub(super) fn snapshot(&self, model: &ModelRef) -> Option<PathBuf> {
        match model.source() {
            ModelSource::Hub { org, repo, revision: Some(commit), .. } if is_commit(commit) => {
                Some(self.repository(org, repo).join("snapshots").join(commit))
            }
            _ => None,
        }
    }
}

/// The entries of a directory; empty if it cannot be read.
pub(super) fn names(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}
