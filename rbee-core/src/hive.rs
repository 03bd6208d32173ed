//! The [`HiveBackend`] trait: one machine.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Epoch, Error, ModelInfo, ModelRef, Result, Worker, WorkerHealth, WorkerId, WorkerInfo,
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
pub use origin::{HubAccess, ModelOrigin};

/// What a device computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor and the machine's main memory.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// Something a model can be loaded on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number on this hive; 0 is the processor.
    pub index: u32,
    /// What it computes with.
    pub kind: DeviceKind,
    /// What its maker calls it.
    pub name: String,
    /// All of its memory, in bytes.
    pub memory_total: u64,
    /// What of it is free, in bytes.
    pub memory_free: u64,
}

/// A worker to be started. Other fields may be added, so it is made with [`new`](Self::new); change the fields that differ.
///
/// ```
/// use rbee_core::WorkerSpec;
///
/// let mut spec = WorkerSpec::new("file:/models/bee".parse()?);
/// spec.devices = vec![0];
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerSpec {
    /// The model to load.
    pub model: ModelRef,
    /// Runs it shall do at once, where the engine can; at least 1.
    pub slots: u32,
    /// The devices to load it on, by index.
    pub devices: Vec<u32>,
    /// Memory it is expected to take, in bytes, over all its devices.
    pub need_bytes: u64,
    /// Where the model lies on the hive's disk. The hive says so itself, where its store has the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl WorkerSpec {
    /// A worker with one slot and no device, that takes no memory that is known of.
    pub fn new(model: ModelRef) -> Self {
        Self { model, slots: 1, devices: Vec::new(), need_bytes: 0, path: None }
    }
}

/// What a worker of a model can do at most on one machine, as far as whoever makes the workers there knows it beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Runs at once; as many as it is told to where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The longest prompt and answer together, in tokens. Memory is reckoned with sequences of this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
}

impl WorkerLimits {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A model on a hive's disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelOnDisk {
    /// Its reference.
    pub model: ModelRef,
    /// The size of its files, in bytes.
    pub bytes: u64,
    /// What names its content, where the hive keeps it in a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What its files say about it, where they are in a form that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Arc<ModelInfo>>,
    /// What a worker of it can do at most.
    #[serde(default, skip_serializing_if = "WorkerLimits::are_none")]
    pub limits: WorkerLimits,
}

impl ModelOnDisk {
    /// A model of this size, of which nothing else is known.
    pub fn new(model: ModelRef, bytes: u64) -> Self {
        Self { model, bytes, digest: None, info: None, limits: WorkerLimits::default() }
    }
}

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

/// How far a long piece of work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressUpdate {
    /// What is done, in bytes or in steps.
    pub done: u64,
    /// What is to be done, where that is known.
    pub total: Option<u64>,
}

/// Where a backend tells how far it has come. Each call counts as a sign of life.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(ProgressUpdate) + Send + Sync>);

impl Progress {
    /// Calls `tell` for every update; it must not block.
    pub fn new(tell: impl Fn(ProgressUpdate) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// For those who do not want to know.
    pub fn ignore() -> Self {
        Self::new(|_| {})
    }

    /// Tells.
    pub fn update(&self, done: u64, total: Option<u64>) {
        (self.0)(ProgressUpdate { done, total });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
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
