//! The models of a queen: their names, where they are, and the orders to download, verify and load them.

mod unknown;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{LoadProgress, Queen, model_locator::Grant, unexpected};
use crate::{
    cluster::ClusterView,
    device::DeviceKind,
    engine::{Command, CommandOutput, Input},
    error::{Error, ErrorKind, Result},
    hive_address::HiveAddress,
    id::{HiveId, WorkerId},
    load_request::LoadRequest,
    model_info::{MemoryEstimate, ModelInfo, ModelKind},
    model_on_disk::ModelOnDisk,
    model_ref::{self, ModelRef, ModelSource},
    models::Damage,
    progress::Progress,
    sizing::DeviceEstimate,
};

/// How long an estimate may take to find out, from a hub, what kind of model it is about.
const ESTIMATE_LOOK: Duration = Duration::from_secs(10);

/// What is known of a model that may be on no hive. An unknown fact is `None`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelDescription {
    /// Its reference, in the form that a hive can use.
    pub model: ModelRef,
    /// The size of its files, in bytes.
    pub bytes: Option<u64>,
    /// What decides whether an engine can read it.
    pub kind: Option<ModelKind>,
    /// The facts in its files, if they are on this machine.
    pub info: Option<Arc<ModelInfo>>,
}

/// The models of a queen; see [`Queen::models`].
#[derive(Clone, Copy, Debug)]
pub struct Models<'a> {
    pub(super) queen: &'a Queen,
}

impl<'a> Models<'a> {
    /// The aliases of models, with the reference that each stands for.
    pub fn aliases(self) -> &'a BTreeMap<String, ModelRef> {
        &self.queen.shared.aliases
    }

    /// The alias that this name means, with its model: the one of this name, or of the name without `:latest`.
    pub fn alias(self, name: &str) -> Option<(&'a str, &'a ModelRef)> {
        model_ref::find_alias(self.aliases(), name).map(|(name, model)| (name.as_str(), model))
    }

    /// The model that this alias or reference stands for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a malformed reference, [`ErrorKind::ModelNotFound`] for any other text that can
    /// be no model's name.
    pub fn resolve(self, name: &str) -> Result<ModelRef> {
        if let Some((_, model)) = self.alias(name) {
            return Ok(model.clone());
        }
        name.parse().map_err(|error| match name.is_empty() || model_ref::is_reference(name) {
            true => error,
            false => self.unknown(name, None, None),
        })
    }

    /// [`resolve`](Self::resolve), which also takes `name:latest` for the model `name` of a worker of this cluster.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_in(self, name: &str, cluster: &ClusterView) -> Result<ModelRef> {
        let model = self.resolve(name)?;
        let bare = model.without_latest().filter(|bare| cluster.knows_model(bare));
        Ok(bare.filter(|_| !cluster.knows_model(&model)).unwrap_or(model))
    }

    /// The model that this alias or reference stands for, in the form that a hive can use: a reference to a hub names
    /// the commit that it stands for now, and the file if there are several. A reference under which a hive already has
    /// the model is returned unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it is a malformed reference, [`ErrorKind::ModelNotFound`] if it can be no
    /// model's name or the hub has no such model, [`ErrorKind::Unauthorized`] or [`ErrorKind::PermissionDenied`] if the hub does not give it to this queen,
    /// [`ErrorKind::HubUnreachable`] if the hub does not answer and no hive has the model.
    pub async fn locate(self, name: &str) -> Result<ModelRef> {
        self.locate_as(name, Grant::Operator).await
    }

    /// [`locate`](Self::locate), with the permissions of the one who named the model.
    pub(super) async fn locate_as(self, name: &str, grant: Grant) -> Result<ModelRef> {
        let model = self.resolve(name)?;
        let located = match model.source() {
            ModelSource::Hub { .. } => {
                let cluster = self.queen.cluster().await?;
                self.queen.shared.models.pinned(model, grant, &cluster).await?
            }
            ModelSource::Alias(_) if model.without_latest().is_some() => {
                self.resolve_in(name, &self.queen.cluster().await?)?
            }
            _ => model,
        };
        self.look(&located, grant).await?;
        Ok(located)
    }

    /// As [`locate`](Self::locate), for a question about the model: it counts as asked for by nobody, and what kind of
    /// model it is stays open.
    async fn peek(self, name: &str) -> Result<ModelRef> {
        let model = self.resolve(name)?;
        match model.source() {
            ModelSource::Hub { .. } => {
                let cluster = self.queen.cluster().await?;
                self.queen.shared.models.pin(model, false, &cluster).await
            }
            ModelSource::Alias(_) if model.without_latest().is_some() => {
                self.resolve_in(name, &self.queen.cluster().await?)
            }
            _ => Ok(model),
        }
    }

    /// What can be said about a model that may be on no hive; `name` is an alias or a reference. A reference to a hub
    /// is looked up there, and a file is read if it is on this machine. Nothing is fetched.
    ///
    /// # Errors
    /// As [`locate`](Self::locate), [`ErrorKind::ModelNotFound`] for a file that does not exist and for a plain name,
    /// and [`ErrorKind::ModelIncompatible`] for a file that is no model.
    pub async fn describe(self, name: &str) -> Result<ModelDescription> {
        let model = self.peek(name).await?;
        let nothing = |model| ModelDescription { model, bytes: None, kind: None, info: None };
        match model.source() {
            ModelSource::Alias(_) => {
                Err(self.unknown(name, None, Some(&self.queen.cluster().await?)))
            }
            ModelSource::File(_) => {
                let ModelOnDisk { bytes, info, .. } = ModelOnDisk::read(&model, None).await?;
                // The size of a file that is no model is nobody's business.
                let info = info.ok_or_else(|| no_model(&model))?;
                let (bytes, kind) = (Some(bytes), Some(ModelKind::from(&*info)));
                Ok(ModelDescription { bytes, kind, info: Some(info), ..nothing(model) })
            }
            ModelSource::Hub { .. } => {
                let models = &self.queen.shared.models;
                let (kind, bytes) =
                    tokio::join!(models.look(&model, Grant::Operator), models.bytes_on_hub(&model));
                Ok(ModelDescription { bytes, kind: kind?, ..nothing(model) })
            }
        }
    }

    /// Tells the engine what kind of model this is, so that it is started only where an engine can read it.
    async fn look(self, model: &ModelRef, grant: Grant) -> Result<()> {
        let models = &self.queen.shared.models;
        if !models.is_look_due(model) {
            return Ok(());
        }
        let cluster = self.queen.cluster().await?;
        // What a worker has loaded can be read; and where nothing is known of the engines, nothing is refused.
        let is_loaded = cluster.with_model(model).next().is_some();
        if is_loaded || cluster.hives().all(|hive| hive.engines.is_none()) {
            return Ok(());
        }
        // The commit of a model on a disk does not change, but a file may.
        let is_known =
            matches!(model.source(), ModelSource::Hub { .. }) && cluster.kind_of(model).is_some();
        // A damaged file is an error of the start, which names the machine.
        if !is_known && let Ok(Some(kind)) = models.look(model, grant).await {
            let model = model.clone();
            self.queen.shared.inbox.input(Input::ModelKind { model, kind });
        }
        Ok(())
    }

    /// The properties of a model, as a hive has read them from its files; `name` is an alias or a reference.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if no hive has the model, or none could read its files.
    pub async fn info(self, name: &str) -> Result<Arc<ModelInfo>> {
        let cluster = self.queen.cluster().await?;
        let model = self.resolve_in(name, &cluster)?;
        let mut held = cluster.hives().flat_map(|hive| hive.models.values());
        let found = held.find_map(|held| held.info.clone().filter(|_| held.model.is_of(&model)));
        found.ok_or_else(|| {
            let message = format!("no hive has model {model}, or none could read its files");
            Error::new(ErrorKind::ModelNotFound, message)
        })
    }

    /// Puts a model on the disk of a machine, and returns what is there. A model that is already there is not fetched
    /// again; one that another machine has is copied from there. Concurrent calls for one model share one download, and
    /// all of them see its progress. The download continues if the caller goes away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such hive, [`ErrorKind::ModelNotFound`] if no source has the model,
    /// [`ErrorKind::DiskInUse`] if the models in use leave too little of the machine's disk budget,
    /// [`ErrorKind::HiveUnreachable`] if there is no progress for as long as the setting `provision_silence` allows.
    pub async fn provision(
        self,
        hive: HiveId,
        model: ModelRef,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        let model = self.locate(model.as_str()).await?;
        match self.queen.command(Command::Provision { hive, model }, progress).await? {
            CommandOutput::Model(on_disk) => Ok(*on_disk),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads every file of a model on a machine again, and returns the damaged ones. Damaged files are set aside. When
    /// the model is next needed, only these files are fetched again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such hive, [`ErrorKind::ModelNotFound`] if its store does not have the
    /// model, [`ErrorKind::Unsupported`] if it has no store.
    pub async fn verify(
        self,
        hive: HiveId,
        model: ModelRef,
        progress: Progress,
    ) -> Result<Vec<Damage>> {
        let model = self.locate(model.as_str()).await?;
        match self.queen.command(Command::Verify { hive, model }, progress).await? {
            CommandOutput::Damage(damage) => Ok(damage),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes a model from the disk of a machine.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if a worker of that machine has loaded or is loading the model, or while it is being
    /// fetched there, [`ErrorKind::NotFound`] if there is no such hive.
    pub async fn remove(self, hive: HiveId, model: ModelRef) -> Result<()> {
        let remove = Command::RemoveModel { hive, model };
        self.queen.command(remove, Progress::ignore()).await.map(drop)
    }

    /// Starts a worker for a model, or returns the one that is already running or starting. It takes jobs when
    /// [`Queen::cluster`] shows it as ready. The scheduler decides what the request leaves open; the built-in policy
    /// decides if the scheduler fails, is suspended, or would wait. A model that is not on the machine's disk is
    /// fetched first. The work continues if the caller goes away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::HiveUnreachable`] if the hive does not exist or does not answer,
    /// [`ErrorKind::ModelNotFound`] if no source has the model, [`ErrorKind::InsufficientVram`] if it fits nowhere,
    /// [`ErrorKind::Conflict`] while the model is being removed from there.
    pub async fn load(self, mut request: LoadRequest) -> Result<WorkerId> {
        request.model = self.locate(request.model.as_str()).await?;
        match self.queen.command(Command::LoadModel(request), Progress::ignore()).await? {
            CommandOutput::Worker(worker) => Ok(worker),
            other => Err(unexpected(&other)),
        }
    }

    /// An estimate, for every device that the request allows, of whether a worker for this model would fit now, with
    /// all figures. The sequences are taken to be `context` tokens long; if it is `None`, as long as the machine allows
    /// ([`Sizing::with_context`](crate::scheduler::Sizing::with_context)). Nothing is started.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the model is a malformed reference, [`ErrorKind::NotFound`] or
    /// [`ErrorKind::HiveUnreachable`] if the hive does not exist or does not answer,
    /// [`ErrorKind::ModelIncompatible`] if the model is a file of this machine that is damaged,
    /// [`ErrorKind::ModelNotFound`] if it is a file that can be on no other machine, and is not on this one.
    pub async fn estimate(
        self,
        request: &LoadRequest,
        context: Option<u32>,
    ) -> Result<Vec<DeviceEstimate>> {
        // What the hub does not answer is not known, and no error.
        let peek = async {
            let located = self.peek(request.model.as_str()).await?;
            self.look(&located, Grant::Operator).await.map(|()| located)
        };
        let asked = match tokio::time::timeout(ESTIMATE_LOOK, peek).await {
            Ok(Ok(located)) => located,
            _ => self.resolve_in(request.model.as_str(), &self.queen.cluster().await?)?,
        };
        let mut cluster = request.candidates(&self.queen.cluster().await?)?;
        let held = cluster.hives().flat_map(|hive| hive.models.keys());
        let model = { held }.find(|model| model.is_of(&asked)).cloned().unwrap_or(asked);
        let mut sizing = *self.queen.shared.built_in.sizing();
        if let Some(slots) = request.slots {
            sizing = sizing.with_slots(slots);
        }
        if let Some(context) = context {
            sizing = sizing.with_context(context);
        }
        let known = cluster.largest_on_disk(&model).cloned();
        let known = match (known, model.source()) {
            // The file may be on this machine, from which it would be copied.
            // A directory may be a model of another engine; the size of a single file that is no model is not told.
            (None, ModelSource::File(path)) => match ModelOnDisk::read(&model, None).await {
                Ok(read) => Some(read).filter(|read| read.info.is_some() || path.is_dir()),
                Err(error) if self.is_final(&error, request.hive.as_ref()).await? => {
                    return Err(error.with_param("model"));
                }
                Err(_) => None,
            },
            (known, _) => known,
        };
        if let Some(info) = known.as_ref().and_then(|known| known.info.as_deref()) {
            cluster.note_kind(&model, info.into());
        }
        Ok(sizing.estimate_with(&model, known.as_ref(), &cluster))
    }

    /// The memory that a worker of this model is expected to take, with the slots that the queen would order: on a hive
    /// that has the model, or else on one that can read it. `None` if the headers of its files are unknown.
    ///
    /// # Errors
    /// [`ErrorKind::ShuttingDown`] if the queen has stopped.
    pub async fn memory(self, model: &ModelOnDisk) -> Result<Option<MemoryEstimate>> {
        let mut cluster = self.queen.cluster().await?;
        if let Some(info) = model.info.as_deref() {
            cluster.note_kind(&model.model, info.into());
        }
        let holder = cluster.hives().find(|hive| hive.models.contains_key(&model.model));
        let able = || cluster.hives().find(|hive| cluster.unreadable(hive, &model.model).is_none());
        let hive = holder.or_else(able);
        let device = hive.and_then(|hive| hive.devices.first());
        let kind = device.map_or(DeviceKind::Cpu, |device| device.kind);
        let here = hive.and_then(|hive| hive.model_here(&model.model, Some(model)));
        Ok(self.queen.shared.built_in.sizing().memory(here.as_deref().unwrap_or(model), kind))
    }

    /// True if a worker of a file that cannot be read here for this reason can be started on none of the hives: the file
    /// would be copied from here, unless it is on the machine of a hive alone.
    async fn is_final(self, error: &Error, hive: Option<&HiveId>) -> Result<bool> {
        Ok(match error.kind() {
            ErrorKind::ModelIncompatible => true,
            ErrorKind::ModelNotFound => {
                let hives = self.queen.fleet().list().await?;
                let mut hives = hives.iter().filter(|known| hive.is_none_or(|id| *id == known.id));
                hives.all(|known| known.address == HiveAddress::Local)
            }
            _ => false,
        })
    }

    /// The models that are being fetched or loaded at this moment, with their progress.
    pub fn loading(self) -> Vec<LoadProgress> {
        self.queen.shared.loads.all()
    }

    /// The reason why a worker failed to start; `None` if its start did not fail, or is not among the latest failures.
    pub fn load_failure(self, worker: WorkerId) -> Option<Error> {
        self.queen.shared.loads.failure(worker)
    }
}

fn no_model(model: &ModelRef) -> Error {
    let message = format!(
        "{model} is not a model of a known form: a GGUF file, a safetensors file, or a directory with config.json"
    );
    Error::new(ErrorKind::ModelIncompatible, message)
}
