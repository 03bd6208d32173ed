//! The [`HiveBackend`] trait: one machine.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    id::{Epoch, WorkerId},
    model_on_disk::ModelOnDisk,
    worker::{Worker, WorkerHealth, WorkerInfo},
    worker_spec::WorkerSpec,
};

mod devices;
mod in_process;
mod info;
mod model_host;
mod origin;

pub use devices::Devices;
#[cfg_attr(
    not(feature = "candle"),
    expect(unused_imports, reason = "for factories of this crate")
)]
pub(crate) use in_process::files_of;
pub use in_process::{InProcessHive, WorkerFactory};
pub use info::{HiveInfo, parse_label};
pub use model_host::ModelHost;
pub use origin::ModelOrigin;

pub use crate::device::{Device, DeviceKind};
pub use crate::hive_address::HiveAddress;
pub use crate::progress::{Progress, ProgressUpdate};

/// A worker as its hive reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Who it is.
    pub info: WorkerInfo,
    /// How it is.
    pub health: WorkerHealth,
}

/// Everything a hive knows of itself. Other fields may be added, so it is made from its default, which is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HiveReport {
    /// Grows with every change on the hive: a report older than a worker says nothing about it.
    pub rev: u64,
    /// What models can be loaded on.
    pub devices: Vec<Device>,
    /// The models on its disk.
    pub models: Vec<ModelOnDisk>,
    /// The workers that are usable now.
    pub workers: Vec<WorkerReport>,
}

/// Something that happened on a hive.
#[derive(Clone, Debug)]
pub enum HiveEvent {
    /// The whole state; the first event of every subscription.
    Report(Box<HiveReport>),
    /// A worker is gone that nobody asked to stop.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// Why, with the last words of its engine where there are any.
        why: Error,
    },
}

/// One machine: it starts and stops workers and reports facts. It decides nothing. The models on its disk are part of it:
/// [`ModelHost`].
///
/// Implementations are proved by [`conformance::hive`](crate::conformance::hive) (feature `conformance`).
#[async_trait]
pub trait HiveBackend: ModelHost {
    /// Makes the hive ready, claims it for this life of the queen, keeps the claim alive, and tells what happens. To make
    /// it ready is to adopt what runs already, or else to deploy and run it, which may take minutes. Idempotent: a queen
    /// calls it again when the stream has ended, also after a [`shutdown`](Self::shutdown).
    ///
    /// The first event is a full report, taken after the subscription, so that nothing falls between the two. The stream
    /// ends when the link does; that makes the hive suspect, not dead.
    ///
    /// A younger life of the queen takes over at once. A hive that is a daemon of its own refuses an epoch that is more
    /// than 1,000 above that of an owner that is alive, and takes any epoch once the lease of its owner has run out.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`](crate::ErrorKind::HiveUnreachable) if the machine does not answer,
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another queen owns the hive.
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>>;

    /// The whole state, now.
    async fn report(&self) -> Result<HiveReport>;

    /// Starts a worker of this name, and returns when it is usable. Idempotent: for a worker that is there already,
    /// or is being started, it answers with that one.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound),
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible),
    /// [`ErrorKind::InsufficientVram`](crate::ErrorKind::InsufficientVram), or whatever ended its engine.
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>>;

    /// A worker that is there already: to use it again after the queen was restarted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not there.
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>>;

    /// Stops a worker, by force if it has not ended within `grace`. Idempotent: one that is not there is stopped.
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()>;

    /// Stops every worker and the hive itself.
    async fn shutdown(&self, grace: Duration) -> Result<()>;
}

/// A shared hive is a hive.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<H: HiveBackend + ?Sized> HiveBackend for Arc<H> {
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        (**self).watch(owner).await
    }
    async fn report(&self) -> Result<HiveReport> {
        (**self).report().await
    }
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        (**self).spawn(id, spec, progress).await
    }
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        (**self).worker(id).await
    }
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        (**self).stop(id, grace).await
    }
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        (**self).shutdown(grace).await
    }
}
