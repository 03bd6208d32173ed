//! The models of an in-process hive: those in its store, and those that its factory finds.

use std::{panic::AssertUnwindSafe, path::Path, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;

use super::{InProcessHive, factory::files_of, order, store};
use crate::{
    engine_support::EngineSupport,
    error::{Error, ErrorKind, Result},
    hive::{HiveInfo, ModelHost, ModelOrigin},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::{Damage, InUse, ModelFiles},
    progress::Progress,
};

impl InProcessHive {
    /// The factory's facts about a model.
    async fn inspect(&self, model: &ModelRef, path: Option<&Path>) -> Result<ModelOnDisk> {
        let Some(factory) = &self.factory else {
            return files_of(model, path).await;
        };
        // Called inside the block, so that a panic before the first await is also caught.
        AssertUnwindSafe(async { factory.inspect(model, path).await })
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(order::panicked(&*panic)))
    }
}

#[async_trait]
impl ModelHost for InProcessHive {
    fn info(&self) -> &HiveInfo {
        &self.info
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.check()?;
        let stored = match from {
            ModelOrigin::Here => self.in_use(model).await?,
            elsewhere => Some(self.fetch(model, elsewhere, progress.clone()).await?),
        };
        let path = stored.as_ref().map(InUse::path);
        let model = stored.as_ref().map_or(model, InUse::model);
        let on_disk = match self.inspect(model, path).await {
            Ok(on_disk) => on_disk,
            Err(error) if stored.is_some() => return Err(error),
            Err(error) => {
                // A worker that the application gave to the hive may have a model that is on no disk.
                let state = self.shared.state();
                let mut workers = state.workers.values();
                return match workers.any(|worker| worker.info().model == *model) {
                    true => Ok(state
                        .models
                        .get(model)
                        .cloned()
                        .unwrap_or_else(|| ModelOnDisk::new(model.clone(), 0))),
                    false => Err(error),
                };
            }
        };
        // A path that someone typed: what no engine can read is not listed as a model.
        if stored.is_none()
            && on_disk.info.is_none()
            && let Some(engines) = self.factory.as_ref().and_then(|factory| factory.engines())
        {
            EngineSupport::check_unknown(&engines, model)?;
        }
        let digest = stored.as_ref().map(InUse::digest);
        let limits = self.factory.as_ref().map(|factory| factory.limits(model));
        let on_disk = ModelOnDisk { digest, ..on_disk }.with_limits(limits.unwrap_or_default());
        progress.update(on_disk.bytes, Some(on_disk.bytes));
        self.shared.change(|state| {
            let before = state.models.insert(model.clone(), on_disk.clone());
            (before.as_ref() != Some(&on_disk)).then_some(())
        });
        Ok(on_disk)
    }

    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.check()?;
        let is_reported = self.shared.state().models.contains_key(model);
        store::files(self.store.as_ref(), &self.info.id, model, is_reported).await
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.check()?;
        let Some(store) = &self.store else {
            let message =
                format!("hive {} has no store with checksums of model {model}", self.info.id);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let damage = store.verify(model, progress).await?;
        if !damage.is_empty() {
            self.shared.change(|state| state.models.remove(model));
        }
        Ok(damage)
    }

    /// Removes the model from its store. For a `file:` reference that was not copied, only the reference is removed;
    /// the files belong to the user, and stay.
    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.check()?;
        if let Some(store) = &self.store {
            store::remove(store, model).await?;
        }
        self.shared.change(|state| state.models.remove(model));
        Ok(())
    }
}
