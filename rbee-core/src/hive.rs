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

pub(crate) mod devices;
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
pub(crate) use in_process::is_in_known_form;
pub use in_process::{InProcessHive, WorkerFactory};
pub use info::{HiveInfo, parse_label};
pub use model_host::ModelHost;
pub use origin::ModelOrigin;

pub use crate::device::{Device, DeviceKind};
pub use crate::engine_support::{EngineSupport, ReadableFiles, matches_pattern};
pub use crate::hive_address::HiveAddress;
pub use crate::progress::{Progress, ProgressUpdate};

/// The report of a hive about one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its identity.
    pub info: WorkerInfo,
    /// Its health.
    pub health: WorkerHealth,
}

/// The full report of a hive about itself. Other fields may be added, so create it from its default, which is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HiveReport {
    /// The revision; it grows with every change on the hive. A report older than a worker says nothing about the
    /// worker.
    pub rev: u64,
    /// The devices that models can be loaded on.
    pub devices: Vec<Device>,
    /// Its engines, and what they read. The first that is for a model runs it. `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engines: Option<Vec<EngineSupport>>,
    /// The models on its disk.
    pub models: Vec<ModelOnDisk>,
    /// The workers that can be used now.
    pub workers: Vec<WorkerReport>,
}

/// An event on a hive.
#[derive(Clone, Debug)]
pub enum HiveEvent {
    /// The whole state; the first event of every subscription.
    Report(Box<HiveReport>),
    /// A worker ended that nobody asked to stop.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// The reason, with the last output of its engine if there is any.
        why: Error,
    },
}

/// The agent of one machine: it starts and stops workers and reports facts. It makes no decisions. It includes the
/// models on the machine's disk: [`ModelHost`].
///
/// Test implementations with [`conformance::hive`](crate::conformance::hive) (feature `conformance`).
#[async_trait]
pub trait HiveBackend: ModelHost {
    /// Makes the hive ready, claims it for this run of the queen, renews the claim, and returns the hive's events. To
    /// make it ready, it adopts a running hive, or deploys and starts one, which may take minutes. Idempotent: a queen
    /// calls it again when the stream has ended, also after a [`shutdown`](Self::shutdown).
    ///
    /// The first event is a full report, taken after the subscription, so that no event is lost between the two. The
    /// stream ends when the connection does; the hive is then suspect, not dead.
    ///
    /// A newer run of the queen takes over at once. A hive that is a separate daemon refuses an epoch that is more than
    /// 1,000 above that of a living owner, and accepts any epoch once the lease of its owner has expired.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`](crate::ErrorKind::HiveUnreachable) if the machine does not answer,
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another queen owns the hive.
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>>;

    /// The current full report.
    async fn report(&self) -> Result<HiveReport>;

    /// Starts a worker with this id, and returns when it is usable. Idempotent: if the worker exists or is being
    /// started, the call returns that one.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound),
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible),
    /// [`ErrorKind::InsufficientVram`](crate::ErrorKind::InsufficientVram), or the failure that ended its engine.
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>>;

    /// An existing worker: to use it again after a restart of the queen.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it does not exist.
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>>;

    /// Stops a worker, by force if it has not ended within `grace`. Idempotent: no error if the worker does not exist.
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
