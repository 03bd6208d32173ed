//! Models of `file:` references, at their paths on this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use super::{ModelStore, Shared, StoreError};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::{ModelRef, ModelSource},
    models::{
        Manifest, ModelFile, ModelFiles,
        disk::{self, failed},
        files::{DirectoryFiles, blocking},
        hub_cache::snapshot_files,
    },
    progress::Progress,
};

/// The most remembered checksums; others are computed again.
const MAX_HASHES: usize = 20_000;
/// The largest size of the file that stores them, in bytes.
const MAX_BYTES: u64 = 32 << 20;

/// The state of a file when its checksum was computed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    /// The time of its last change, in nanoseconds.
    modified: u64,
    inode: u64,
    sha256: Digest,
}

impl ModelStore {
    /// The files of a `file:` reference at their paths on this machine, to be copied to a store. Their checksums are
    /// remembered by path, size, time and inode, so that only changed files are read again; the progress is that of the
    /// reading.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) if the path does not exist or is not a model,
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) for another kind of reference.
    pub async fn local(&self, model: &ModelRef, progress: Progress) -> Result<Arc<dyn ModelFiles>> {
        let ModelSource::File(path) = model.source() else {
            return Err(StoreError::Alias(model.clone()).into());
        };
        let (shared, path) = (self.shared.clone(), path.to_owned());
        blocking(move || {
            let (root, paths) = listed(&path)?;
            let manifest = shared.hash_files(&root, &paths, &progress)?;
            let keep = Arc::new(());
            Ok(Arc::new(DirectoryFiles { root, manifest, keep }) as Arc<dyn ModelFiles>)
        })
        .await
    }
}

/// The files of a `file:` reference, for callers without a store that remembers checksums: every file is read.
pub(crate) async fn files_at(model: &ModelRef, progress: Progress) -> Result<Arc<dyn ModelFiles>> {
    let ModelSource::File(path) = model.source() else {
        return Err(StoreError::Alias(model.clone()).into());
    };
    let path = path.to_owned();
    blocking(move || {
        let (root, paths) = listed(&path)?;
        let mut done = 0;
        let mut files = Vec::new();
        for path in paths {
            let (is, at) = (seen(&root.join(&path))?, root.join(&path));
            let sha256 = disk::hash(&at, |read| {
                done += read;
                progress.update(done, None);
            })?;
            files.push(ModelFile { path, bytes: is.bytes, sha256 });
        }
        let manifest = Manifest::new(files)?;
        Ok(Arc::new(DirectoryFiles { root, manifest, keep: Arc::new(()) }) as Arc<dyn ModelFiles>)
    })
    .await
}

/// The base directory of the paths, and the paths.
fn listed(path: &Path) -> Result<(PathBuf, Vec<String>)> {
    let no = |why| StoreError::NoModel { path: path.to_owned(), why };
    let Ok(metadata) = fs::metadata(path) else {
        return Err(no("it does not exist, or cannot be read").into());
    };
    if metadata.is_dir() {
        let paths: Vec<_> = snapshot_files(path).into_iter().map(|file| file.path).collect();
        return match paths.is_empty() {
            true => Err(no("the directory has no files in it").into()),
            false => Ok((path.to_owned(), paths)),
        };
    }
    let (Some(parent), Some(name)) =
        (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(no("it has no name").into());
    };
    match metadata.is_file() {
        true => Ok((parent.to_owned(), vec![name.to_owned()])),
        false => Err(no("it is neither a file nor a directory").into()),
    }
}

impl Shared {
    fn hash_files(&self, root: &Path, paths: &[String], progress: &Progress) -> Result<Manifest> {
        let remembered = self.dir.join("hashes.json");
        let mut hashes: BTreeMap<String, Seen> = disk::read_small(&remembered, MAX_BYTES)?
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut now = Vec::new();
        for path in paths {
            let at = root.join(path);
            now.push((path, seen(&at)?, at));
        }
        let total = Some(now.iter().map(|(_, seen, _)| seen.bytes).sum());
        let (mut done, mut changed, mut files) = (0, false, Vec::new());
        for (path, is, at) in now {
            let name = at.to_string_lossy().into_owned();
            let known =
                hashes.get(&name).filter(|known| Seen { sha256: is.sha256, ..**known } == is);
            let sha256 = match known {
                Some(known) => {
                    done += is.bytes;
                    progress.update(done, total);
                    known.sha256
                }
                None => {
                    let sha256 = disk::hash(&at, |read| {
                        done += read;
                        progress.update(done, total);
                    })?;
                    changed = true;
                    hashes.insert(name, Seen { sha256, ..is });
                    sha256
                }
            };
            files.push(ModelFile { path: path.clone(), bytes: is.bytes, sha256 });
        }
        if changed {
            while hashes.len() > MAX_HASHES {
                hashes.pop_first();
            }
            if let Ok(text) = serde_json::to_vec(&hashes) {
                self.disk.replace(&remembered, &text)?;
            }
        }
        Manifest::new(files)
    }
}

/// The current state of the file; its checksum is not computed yet.
fn seen(at: &Path) -> Result<Seen> {
    let file = fs::metadata(at).map_err(failed("read", at))?;
    let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&file);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Seen { bytes: file.len(), modified, inode, sha256: Digest::from_bytes([0; 32]) })
}
