//! The [`ModelHost`] trait: the models on a machine's disk.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{HiveInfo, ModelOnDisk, ModelOrigin, Progress};
use crate::{
    error::{Error, ErrorKind, Result},
    model_ref::ModelRef,
    models::{Damage, ModelFiles},
};

/// The models on the disk of one machine: fetched, sent to other machines, verified and removed.
///
/// Every [`HiveBackend`](crate::HiveBackend) is also a model host, so the hive itself is asked for a model.
#[async_trait]
pub trait ModelHost: fmt::Debug + Send + Sync + 'static {
    /// The hive that owns the disk, and its address. It stays the same for the lifetime of the hive.
    fn info(&self) -> &HiveInfo;

    /// Puts the model on the hive's disk if it is missing, and returns facts about it. Idempotent; concurrent callers
    /// wait for the same fetch.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if the origin does not have it, [`ErrorKind::ModelIncompatible`] if its files are
    /// damaged or are not a model, [`ErrorKind::Unsupported`] if the hive cannot fetch from that origin.
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk>;

    /// The files of a model on the hive's disk, for another machine to read. By default none are given.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if it is not on the disk, [`ErrorKind::Unsupported`] if the hive gives no files.
    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        let message = format!("hive {} gives no files of model {model} away", self.info().id);
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Reads every file of a model in the hive's store again, and returns the damaged ones. Those are moved aside and
    /// never used; the next [`provision`](Self::provision) fetches only those again. By default the hive keeps no
    /// checksums.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if its store does not have the model, [`ErrorKind::Unsupported`] if it has no
    /// store.
    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        let _ = progress;
        let message = format!("hive {} keeps no checksums of model {model}", self.info().id);
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Removes the model from the hive's disk. Idempotent.
    async fn remove_model(&self, model: &ModelRef) -> Result<()>;
}

/// A shared host is a host.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<H: ModelHost + ?Sized> ModelHost for Arc<H> {
    fn info(&self) -> &HiveInfo {
        (**self).info()
    }
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        (**self).provision(model, from, progress).await
    }
    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        (**self).files(model).await
    }
    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        (**self).verify(model, progress).await
    }
    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        (**self).remove_model(model).await
    }
}
