//! Where an in-process hive gets its workers from.

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    super::{Progress, WorkerSpec},
    files,
};
use crate::{Error, ErrorKind, HiveId, ModelRef, ModelSource, Result, Worker, WorkerId};

/// Makes the workers that an [`InProcessHive`](crate::InProcessHive) is asked to spawn.
///
/// ```
/// use std::sync::Arc;
/// use rbee_core::{HiveId, Progress, Result, Worker, WorkerFactory, WorkerId, WorkerInfo, WorkerSpec, async_trait};
/// # use rbee_core::{OutputStream, Run, WorkerHealth};
/// # #[derive(Debug)]
/// # struct Engine(Arc<WorkerInfo>);
/// # #[async_trait]
/// # impl Worker for Engine {
/// #     fn info(&self) -> &Arc<WorkerInfo> { &self.0 }
/// #     async fn execute(&self, _run: Run) -> Result<OutputStream> { Ok(Box::pin(futures_util::stream::empty())) }
/// #     async fn health(&self) -> Result<WorkerHealth> { Ok(WorkerHealth::default()) }
/// # }
///
/// #[derive(Debug)]
/// struct Engines;
///
/// #[async_trait]
/// impl WorkerFactory for Engines {
///     async fn load(&self, id: WorkerId, hive: &HiveId, spec: &WorkerSpec, _: Progress) -> Result<Arc<dyn Worker>> {
///         let mut info = WorkerInfo::new(spec.model.clone(), "my-engine");
///         info.id = id;
///         info.hive = hive.clone();
///         info.devices = spec.devices.clone();
///         Ok(Arc::new(Engine(Arc::new(info))))
///     }
/// }
/// ```
#[async_trait]
pub trait WorkerFactory: fmt::Debug + Send + Sync + 'static {
    /// Loads the model, and returns when the worker is usable. The worker's [`info`](Worker::info) has this id and
    /// hive and the model of `spec`; its `since` is the hive's to say, and is set by it. Work that blocks belongs on a
    /// thread of its own; dropping the future ends the load as soon as it can be ended.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`], [`ErrorKind::ModelIncompatible`], [`ErrorKind::InsufficientVram`], or whatever
    /// kept the engine from starting.
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>>;

    /// The size of a model that is on this machine, in bytes. A factory that knows its files better than by their
    /// sizes, or finds models that are not `file:` references, says so here.
    ///
    /// As it stands, a `file:` reference has the size of the file, or of all files in the directory. A link to a file
    /// counts as that file (hub caches are made of them), a link to a directory is not entered.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] where it is not there or cannot be read, [`ErrorKind::ModelIncompatible`] where
    /// it is no model, [`ErrorKind::Unsupported`] for a reference of another sort.
    async fn inspect(&self, model: &ModelRef) -> Result<u64> {
        files_of(model).await
    }
}

/// The size of a `file:` reference.
pub(crate) async fn files_of(model: &ModelRef) -> Result<u64> {
    let ModelSource::File(path) = model.source() else {
        let message = format!(
            "model {model} cannot be fetched by a hive inside the process; allowed are file: references"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let path: Arc<Path> = path.into();
    match tokio::task::spawn_blocking(move || files::size(&path)).await {
        Ok(size) => Ok(size?),
        Err(cause) => {
            Err(Error::new(ErrorKind::Internal, format!("the size of {model} could not be read"))
                .with_source(cause))
        }
    }
}
