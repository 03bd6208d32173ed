//! Models in use.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ModelStore, StoreError, record::StoreEntry};
use crate::{
    digest::Digest,
    error::Result,
    model_ref::ModelRef,
    models::{
        Manifest, ModelFiles,
        disk::Lock,
        files::{DirectoryFiles, blocking},
    },
};

/// A model in use: as long as this exists, no process removes the model. Cheap to clone.
#[derive(Clone)]
pub struct InUse {
    entry: Arc<StoreEntry>,
    path: PathBuf,
    _lock: Arc<Lock>,
}

impl InUse {
    /// The model's directory, or the file if the reference names one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The requested reference.
    pub fn model(&self) -> &ModelRef {
        &self.entry.model
    }

    /// Its files.
    pub fn manifest(&self) -> &Manifest {
        &self.entry.record.manifest
    }

    /// The digest of its content.
    pub fn digest(&self) -> Digest {
        self.manifest().digest()
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("model", self.model()).field("path", &self.path).finish()
    }
}

impl ModelStore {
    /// The model, for use; `None` if it is missing or not complete. A model that another tool put in the hub's cache is
    /// found too, by its resolved reference. Marks it as used now. May block for a moment, and for longer when a model
    /// of the hub's cache is seen for the first time.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the disk fails.
    pub fn open_model(&self, model: &ModelRef) -> Result<Option<InUse>> {
        // The lock comes before the check: the state that is seen under the lock does not change.
        let Some(lock) = Lock::try_shared(&self.shared.use_lock(model))? else {
            return Ok(None);
        };
        let entry = match self.shared.entry(model) {
            Some(entry) => Some(entry),
            None => self.shared.adopt(model)?,
        };
        let Some(entry) = entry.filter(StoreEntry::is_complete) else {
            return Ok(None);
        };
        self.shared.touch(model);
        let (path, entry, lock) = (entry.path(), Arc::new(entry), Arc::new(lock));
        Ok(Some(InUse { entry, path, _lock: lock }))
    }

    /// The path of the model, if it is complete. The model does not count as in use: it may be removed at any time.
    pub(crate) fn whereabouts(&self, model: &ModelRef) -> Option<PathBuf> {
        self.shared.entry(model).filter(StoreEntry::is_complete).map(|entry| entry.path())
    }

    /// The files of a model of this store, for another machine to read. The model counts as in use while they exist.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) if the store does not have it, or if it is not
    /// complete.
    pub async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        let (store, model) = (self.clone(), model.clone());
        blocking(move || {
            let Some(in_use) = store.open_model(&model)? else {
                let known = store.shared.entry(&model).is_some();
                return Err(match known {
                    true => StoreError::Incomplete(model).into(),
                    false => StoreError::Unknown(model).into(),
                });
            };
            Ok(Arc::new(DirectoryFiles {
                root: in_use.entry.root.clone(),
                manifest: in_use.manifest().clone(),
                keep: Arc::new(in_use),
            }) as Arc<dyn ModelFiles>)
        })
        .await
    }
}
