//! The source of an in-process hive's workers.

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;

use super::files;
use crate::{
    engine_support::EngineSupport,
    error::{Error, ErrorKind, Result},
    id::{HiveId, WorkerId},
    model_info::ModelInfo,
    model_on_disk::{ModelOnDisk, WorkerLimits},
    model_ref::{ModelRef, ModelSource},
    progress::Progress,
    worker::Worker,
    worker_spec::WorkerSpec,
};

/// Makes the workers that an [`InProcessHive`](crate::InProcessHive) spawns.
///
/// ```
/// use std::sync::Arc;
/// use rbee_core::{async_trait, hive::{Progress, WorkerFactory}, HiveId, Result, Worker, WorkerId, WorkerInfo, WorkerSpec};
/// # use rbee_core::{worker::WorkerHealth, OutputStream, Run};
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
    /// Loads the model, and returns when the worker is usable. The worker's [`info`](Worker::info) must have this id
    /// and hive and the model of `spec`; the hive sets its `since`. Do blocking work on a separate thread; dropping the
    /// future must end the load as soon as possible.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`], [`ErrorKind::ModelIncompatible`], [`ErrorKind::InsufficientVram`], or the failure
    /// that prevented the start of the engine.
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>>;

    /// Facts about a model on this machine: at `path`, or else at the path of its reference. Called before a worker is
    /// planned for it, so that a model that cannot be loaded is refused before anything is stopped for it. A factory
    /// that knows what its engine can load, or finds models that are not `file:` references, overrides this.
    ///
    /// By default, the size of a model is that of the file, or of all files in the directory, and the other facts come
    /// from the files' headers if their format is known. A link to a file counts as that file (hub caches consist of
    /// them), a link to a directory is not followed.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if it does not exist or cannot be read, [`ErrorKind::ModelIncompatible`] if it is
    /// damaged or is not a model, [`ErrorKind::Unsupported`] for a reference of another kind.
    async fn inspect(&self, model: &ModelRef, path: Option<&Path>) -> Result<ModelOnDisk> {
        files_of(model, path).await
    }

    /// The engines, and what they read, so that a model that none of them can read is refused before it is copied
    /// anywhere. The first that is for a model runs it. By default, unknown: every model is accepted.
    fn engines(&self) -> Option<Vec<EngineSupport>> {
        None
    }

    /// The limits of a future worker of this model, so that no more memory is planned than it will take. By default,
    /// unknown.
    fn limits(&self, model: &ModelRef) -> WorkerLimits {
        let _ = model;
        WorkerLimits::default()
    }
}

impl ModelOnDisk {
    /// The facts in the files of a model, at this path or at the path of its reference: the default of
    /// [`WorkerFactory::inspect`].
    ///
    /// # Errors
    /// As [`WorkerFactory::inspect`].
    pub async fn read(model: &ModelRef, path: Option<&Path>) -> Result<Self> {
        files_of(model, path).await
    }
}

/// The facts in the files of a model, at this path or at the path of its reference.
pub(crate) async fn files_of(model: &ModelRef, path: Option<&Path>) -> Result<ModelOnDisk> {
    let path: Arc<Path> = match (path, model.source()) {
        (Some(path), _) | (None, ModelSource::File(path)) => path.into(),
        _ => {
            let message = format!(
                "model {model} is not on this machine, and its reference does not contain its path"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    let read = tokio::task::spawn_blocking(move || {
        let bytes = files::size(&path)?;
        let info = files::is_in_known_form(&path).then(|| ModelInfo::read(&path)).transpose()?;
        Ok::<_, Error>((bytes, info.map(Arc::new)))
    });
    match read.await {
        Ok(read) => {
            let (bytes, info) = read?;
            Ok(ModelOnDisk { info, ..ModelOnDisk::new(model.clone(), bytes) })
        }
        Err(cause) => {
            Err(Error::new(ErrorKind::Internal, format!("the files of {model} could not be read"))
                .with_source(cause))
        }
    }
}
