//! The models in the store of a hive.

use std::sync::{Arc, Weak};

use super::{InProcessHive, factory::files_of, shared::Shared};
use crate::{
    error::{Error, ErrorKind, Result},
    hive::ModelOrigin,
    id::HiveId,
    model_on_disk::ModelOnDisk,
    model_ref::{ModelRef, ModelSource},
    models::{InUse, ModelFiles, ModelStore, StoredState},
    progress::Progress,
};

/// Runs a function that blocks for a moment on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        let message = "work on the model store was interrupted";
        Err(Error::new(ErrorKind::Internal, message).with_source(cause))
    })
}

impl InProcessHive {
    /// The model, if the store has all of it: it is not removed as long as this exists.
    pub(super) async fn in_use(&self, model: &ModelRef) -> Result<Option<InUse>> {
        let Some(store) = self.store.clone() else { return Ok(None) };
        if matches!(model.source(), ModelSource::Alias(_)) {
            return Ok(None);
        }
        let model = model.clone();
        blocking(move || store.open_model(&model)).await
    }

    /// Puts the model in the store, and keeps it from being removed until it is inspected.
    pub(super) async fn fetch(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<InUse> {
        let Some(store) = &self.store else {
            let message = format!("hive {} has no store to put model {model} in", self.info.id);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        if let Some(there) = self.in_use(model).await? {
            return Ok(there);
        }
        let fetched = match from {
            ModelOrigin::Files(files) => store.import(model, files, progress).await?.model,
            #[cfg(feature = "hub")]
            ModelOrigin::Hub(access) => {
                let hub = crate::models::Hub::of(&access, store.hub_cache())?;
                // Under its commit, whatever reference was requested.
                store.download(&hub, model, progress).await?.model
            }
            #[cfg(not(feature = "hub"))]
            ModelOrigin::Hub(_) => {
                let message = format!(
                    "hive {} was built without downloads from a hub (feature `hub`); model {model} is not here",
                    self.info.id
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            ModelOrigin::Here => model.clone(),
        };
        self.in_use(&fetched).await?.ok_or_else(|| {
            let message = format!("model {fetched} was fetched, and was removed again at once");
            Error::new(ErrorKind::ModelNotFound, message)
        })
    }

    /// Reads the contents of the store, now and whenever they change.
    pub(super) async fn take_stock(&self) {
        let Some(store) = self.store.clone() else { return };
        if self.shared.state().follows_store {
            return;
        }
        let mut changed = store.changed();
        changed.mark_unchanged();
        let shared = Arc::downgrade(&self.shared);
        stock(&shared, &store).await;
        if std::mem::replace(&mut self.shared.state().follows_store, true) {
            return;
        }
        tokio::spawn(async move {
            while changed.changed().await.is_ok() && shared.strong_count() > 0 {
                stock(&shared, &store).await;
            }
        });
    }
}

/// Updates the hive's report about its store.
async fn stock(shared: &Weak<Shared>, store: &ModelStore) {
    let listed = {
        let store = store.clone();
        blocking(move || {
            let ready =
                store.models().into_iter().filter(|model| model.state == StoredState::Ready);
            // Not opened: an inspection is no use of a model, and must not prevent its eviction.
            let look = |stored: crate::models::StoredModel| {
                let path = store.whereabouts(&stored.model)?;
                Some((stored, path))
            };
            Ok(ready.filter_map(look).collect::<Vec<_>>())
        })
    };
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(error) => return tracing::warn!(%error, "the store of models could not be read"),
    };
    let mut models = Vec::new();
    for (stored, path) in listed {
        // A damaged model is still listed: a request for it gets an error that describes the damage.
        let seen = files_of(&stored.model, Some(&path)).await.ok();
        let info = seen.and_then(|seen| seen.info);
        let on_disk = ModelOnDisk::new(stored.model, stored.bytes);
        models.push(ModelOnDisk { digest: stored.digest, info, ..on_disk });
    }
    let Some(shared) = shared.upgrade() else { return };
    shared.change(|state| {
        let mut now = state.models.clone();
        now.retain(|_, model| model.digest.is_none());
        now.extend(models.into_iter().map(|model| (model.model.clone(), model)));
        let is_other = now != state.models;
        state.models = now;
        is_other.then_some(())
    });
}

/// The files of a model, for another machine to read.
pub(super) async fn files(
    store: Option<&ModelStore>,
    hive: &HiveId,
    model: &ModelRef,
    is_reported: bool,
) -> Result<Arc<dyn ModelFiles>> {
    let Some(store) = store.cloned() else {
        let message = format!("hive {hive} has no store, and gives no files of model {model} away");
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    // A file of this machine is a model only after it was provisioned; before that its files are not given to others.
    if let ModelSource::File(_) = model.source()
        && store.whereabouts(model).is_none()
        && is_reported
    {
        return store.local(model, Progress::ignore()).await;
    }
    store.files(model).await
}

/// Removes the model from the store, if it is there.
pub(super) async fn remove(store: &ModelStore, model: &ModelRef) -> Result<()> {
    match store.remove(model).await {
        Err(error) if error.kind() == ErrorKind::ModelNotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::InvalidRequest => Ok(()),
        other => other,
    }
}
