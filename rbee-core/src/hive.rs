//! The [`HiveBackend`] trait: one machine.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    device::Device,
    error::{Error, ErrorKind, Result},
    hive_address::HiveAddress,
    id::{Epoch, HiveId, WorkerId},
    model_on_disk::ModelOnDisk,
    model_ref::ModelRef,
    models::{Damage, ModelFiles},
    progress::Progress,
    worker::{Worker, WorkerHealth, WorkerInfo},
    worker_spec::WorkerSpec,
};

mod devices;
mod in_process;
mod origin;

pub use devices::Devices;
#[cfg_attr(
    not(feature = "candle"),
    expect(unused_imports, reason = "for factories of this crate")
)]
pub(crate) use in_process::files_of;
pub use in_process::{InProcessHive, WorkerFactory};
pub use origin::ModelOrigin;

/// A worker as its hive reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Who it is.
    pub info: WorkerInfo,
    /// How it is.
    pub health: WorkerHealth,
}

/// Everything a hive knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// How a hive is reached, as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveContact {
    /// The machine's own name, or the name it is reached by.
    pub hostname: String,
    /// The port of its HTTP API; 0 where it has none, inside this process.
    pub port: u16,
    /// How it is reached.
    pub address: HiveAddress,
    /// What its owner says of it: see [`HiveView::labels`](crate::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

/// Reads a label, `region=eu`, into its name and its value.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] where there is no `=`, the name is not 1 to 64 letters, digits, `.`, `_` or `-`, or the
/// value is empty or longer than 256 bytes.
pub fn parse_label(text: &str) -> Result<(String, String)> {
    let is_name = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match text.trim().split_once('=') {
        Some((name, value)) if is_name(name) && (1..=256).contains(&value.len()) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => {
            let shown: String = text.chars().take(80).collect();
            let message = format!(
                "{shown:?} is no label; allowed is name=value, region=eu for instance, with a name of letters, \
                 digits, '.', '_' and '-'"
            );
            Err(Error::new(ErrorKind::InvalidRequest, message))
        }
    }
}

impl HiveContact {
    /// Within this process.
    pub fn in_process() -> Self {
        Self::local(sysinfo::System::host_name().unwrap_or_default())
    }

    /// On this machine, which has this name, without an HTTP API and without labels.
    pub fn local(hostname: impl Into<String>) -> Self {
        let hostname = hostname.into();
        Self { hostname, port: 0, address: HiveAddress::Local, labels: BTreeMap::new() }
    }
}

/// One machine: it starts and stops workers and reports facts. It decides nothing.
///
/// Implementations are proved by [`conformance::hive`](crate::conformance::hive) (feature `conformance`).
#[async_trait]
pub trait HiveBackend: fmt::Debug + Send + Sync + 'static {
    /// Its name.
    fn id(&self) -> &HiveId;

    /// How it is reached. As it stands: within this process.
    fn contact(&self) -> HiveContact {
        HiveContact::in_process()
    }

    /// Makes the hive ready: adopts what runs already, else deploys and runs it. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`](crate::ErrorKind::HiveUnreachable) where the machine does not answer.
    async fn start(&self) -> Result<()>;

    /// The whole state, now.
    async fn report(&self) -> Result<HiveReport>;

    /// Claims the hive for this life of the queen, keeps the claim alive, and tells what happens. The first event is
    /// a full report, taken after the subscription, so that nothing falls between the two. The stream ends when the
    /// link does; that makes the hive suspect, not dead.
    ///
    /// A younger life of the queen takes over at once. A hive that is a daemon of its own refuses an epoch that is more
    /// than 1,000 above that of an owner that is alive, and takes any epoch once the lease of its owner has run out.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another queen owns the hive.
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>>;

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
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it is not.
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>>;

    /// Stops a worker, by force where it has not ended within `grace`. Idempotent: one that is not there is stopped.
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()>;

    /// Puts the model on the hive's disk where it is missing, and tells what it is. Idempotent; many who ask at once
    /// wait for one and the same fetch.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) where it is not to be had there,
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) where its files are damaged or not a
    /// model's, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the hive cannot take it from there.
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk>;

    /// The files of a model that is on the hive's disk, to be read by another. As it stands: none are given.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) where it is not there,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the hive gives none away.
    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        let message = format!("hive {} gives no files of model {model} away", self.id());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Reads every file of a model in the hive's store again, and tells which are not what they should be. Those are
    /// put aside, so that they are never used; the next [`provision`](Self::provision) fetches them again, and them
    /// alone. As it stands: the hive keeps no checksums.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) where its store does not have the model,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where it has no store.
    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        let _ = progress;
        let message = format!("hive {} keeps no checksums of model {model}", self.id());
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Removes the model from the hive's disk. Idempotent.
    async fn remove_model(&self, model: &ModelRef) -> Result<()>;

    /// Stops every worker and the hive itself.
    async fn shutdown(&self, grace: Duration) -> Result<()>;
}

/// A shared hive is a hive.
#[async_trait]
impl<H: HiveBackend + ?Sized> HiveBackend for Arc<H> {
    fn id(&self) -> &HiveId {
        (**self).id()
    }
    fn contact(&self) -> HiveContact {
        (**self).contact()
    }
    async fn start(&self) -> Result<()> {
        (**self).start().await
    }
    async fn report(&self) -> Result<HiveReport> {
        (**self).report().await
    }
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        (**self).watch(owner).await
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
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        (**self).shutdown(grace).await
    }
}
