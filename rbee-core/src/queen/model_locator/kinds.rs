//! The kinds of models that no hive has yet, so that a model that no engine can read is refused before it is copied.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Grant, ModelLocator, lock};
use crate::{
    engine_support::{EngineSupport, incompatible},
    error::{Error, ErrorKind, Result},
    hive::HiveBackend,
    model_info::{ModelFormat, ModelInfo, ModelKind},
    model_ref::{ModelRef, ModelSource},
};

/// The time limit for reading the headers of a file, and for the configuration of a model on the hub.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a file of this machine is not looked at again: it may be replaced.
const FILE_KEPT: Duration = Duration::from_secs(5);
/// How long a model of the hub is not looked at again. It names a commit, so only a failed look can change.
const HUB_KEPT: Duration = Duration::from_secs(60);
/// The maximum number of models that are remembered.
const MOST: usize = 1_024;

/// When each model was last looked at.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<BTreeMap<ModelRef, Instant>>);

/// The engines of the hive that a model is put on, and the kind of the model; `None` if unknown.
#[derive(Clone, Debug, Default)]
pub(in crate::queen) struct Readers {
    pub(in crate::queen) engines: Option<Arc<[EngineSupport]>>,
    pub(in crate::queen) kind: Option<Arc<ModelKind>>,
}

impl ModelLocator {
    /// Returns true if it is time to look at this model, and notes that it was looked at. The common case costs one
    /// lookup.
    pub(in crate::queen) fn is_look_due(&self, model: &ModelRef) -> bool {
        let kept = match model.source() {
            ModelSource::Alias(_) => return false,
            ModelSource::File(_) => FILE_KEPT,
            ModelSource::Hub { .. } => HUB_KEPT,
        };
        let mut looked = lock(&self.0.kinds.0);
        if looked.get(model).is_some_and(|at| at.elapsed() < kept) {
            return false;
        }
        if looked.len() >= MOST && !looked.contains_key(model) {
            looked.pop_first();
        }
        looked.insert(model.clone(), Instant::now());
        true
    }

    /// The kind of a model, from the header of its file on this machine or from its description on the hub; `None` if
    /// it is unknown. The reference is in the form that hives use.
    ///
    /// # Errors
    /// [`ErrorKind::ModelIncompatible`] if the file is damaged.
    pub(in crate::queen) async fn look(
        &self,
        model: &ModelRef,
        grant: Grant,
    ) -> Result<Option<ModelKind>> {
        let looking = async {
            match model.source() {
                ModelSource::Alias(_) => Ok(None),
                ModelSource::File(path) => look_at(path.to_owned()).await,
                ModelSource::Hub { .. } => {
                    Ok(self.look_at_hub(model, self.0.vouched.is_anonymous(grant)).await)
                }
            }
        };
        tokio::time::timeout(LOOK_TIMEOUT, looking).await.unwrap_or(Ok(None))
    }

    /// The size of a model on the hub, in bytes; `None` if the hub does not say it in time.
    pub(in crate::queen) async fn bytes_on_hub(&self, model: &ModelRef) -> Option<u64> {
        let asking = self.0.hub.as_ref()?.bytes(model);
        tokio::time::timeout(LOOK_TIMEOUT, asking).await.ok()?.ok()
    }

    async fn look_at_hub(&self, model: &ModelRef, anonymous: bool) -> Option<ModelKind> {
        let ModelSource::Hub { revision, file, .. } = model.source() else { return None };
        let is = |extension: &str| {
            let end = file.and_then(|file| file.rsplit_once('.')).map(|(_, end)| end);
            end.is_some_and(|end| end.eq_ignore_ascii_case(extension))
        };
        if is("gguf") {
            return Some(ModelKind::new(ModelFormat::Gguf));
        }
        // A pinned reference names its file, unless the model consists of safetensors.
        if !revision.is_some_and(crate::model_ref::is_commit)
            || (file.is_some() && !is("safetensors"))
        {
            return None;
        }
        let found = self.0.hub.as_ref()?.config(model, anonymous).await;
        let config = found.unwrap_or_else(|error| {
            tracing::debug!(%model, %error, "the configuration of the model could not be read");
            None
        });
        let kind = config.and_then(|text| ModelKind::of_config(&text));
        Some(kind.unwrap_or_else(|| ModelKind::new(ModelFormat::Safetensors)))
    }

    /// Refuses a model that no engine of the hive can read, as far as is known. This is the last point before bytes
    /// are copied, and every copy passes it.
    pub(super) async fn check_readable(
        &self,
        hive: &Arc<dyn HiveBackend>,
        model: &ModelRef,
        Readers { engines, kind }: Readers,
    ) -> Result<()> {
        let Some(engines) = engines else { return Ok(()) };
        let kind = match kind {
            Some(kind) => kind,
            None => {
                let grant = match self.0.vouched.has(model) {
                    true => Grant::Operator,
                    false => Grant::Tenant,
                };
                match self.look(model, grant).await? {
                    Some(kind) => Arc::new(kind),
                    None => return Ok(()),
                }
            }
        };
        match EngineSupport::refusal(&engines, model, &kind) {
            None => Ok(()),
            Some(why) => {
                let id = &hive.info().id;
                Err(incompatible(model, Some(kind.as_ref()), [format!("hive {id}: {why}")]))
            }
        }
    }
}

/// The kind of the model at this path. The path may exist on another machine alone: then nothing is known.
async fn look_at(path: PathBuf) -> Result<Option<ModelKind>> {
    let read = tokio::task::spawn_blocking(move || {
        if !crate::hive::is_in_known_form(&path) {
            return Ok(None);
        }
        match ModelInfo::read(&path) {
            Ok(info) => Ok(Some(ModelKind::from(&info))),
            Err(error) if error.kind() == ErrorKind::ModelIncompatible => Err(error),
            Err(_) => Ok(None),
        }
    });
    read.await.unwrap_or_else(|cause| {
        let message = "reading the header of a model was interrupted";
        Err(Error::new(ErrorKind::Internal, message).with_source(cause))
    })
}
