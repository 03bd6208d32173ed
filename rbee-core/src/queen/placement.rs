//! Where a model is loaded at an operator's word, and whether it would fit.

use super::Queen;
use crate::{
    engine::{Command, CommandOutput},
    error::{Error, ErrorKind, Result},
    id::WorkerId,
    load_request::LoadRequest,
    model_on_disk::ModelOnDisk,
    model_ref::ModelSource,
    sizing::DeviceEstimate,
};

impl Queen {
    /// Starts a worker of a model, or finds the one that is there or on its way; it takes jobs when
    /// [`cluster`](Self::cluster) shows it ready. The scheduler decides what the request leaves open, and the built-in
    /// policy if it fails, is suspended, or would wait. A model that is not on the machine's disk is fetched first. It
    /// goes on if the caller goes away.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::HiveUnreachable`] if the hive is not there,
    /// [`ErrorKind::ModelNotFound`] if the model is nowhere, [`ErrorKind::InsufficientVram`] if it has no place,
    /// [`ErrorKind::Conflict`] while the model is being removed from there.
    pub async fn load_model(&self, mut request: LoadRequest) -> Result<WorkerId> {
        request.model = self.locate(request.model.as_str()).await?;
        match self.command(Command::LoadModel(request)).await? {
            CommandOutput::Worker(worker) => Ok(worker),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether a worker of this model would fit now, on every device that the request allows, with every figure; the
    /// sequences are reckoned to be `context` tokens long, or 4,096 where that is not said. Nothing is started.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where the model is no reference, [`ErrorKind::NotFound`] or
    /// [`ErrorKind::HiveUnreachable`] where the hive is not there.
    pub async fn estimate(
        &self,
        request: &LoadRequest,
        context: Option<u32>,
    ) -> Result<Vec<DeviceEstimate>> {
        let asked = self.resolve(request.model.as_str())?;
        let cluster = request.candidates(&self.cluster().await?)?;
        let mut held = cluster.hives().flat_map(|hive| hive.models.keys());
        let model = held.find(|model| model.is_of(&asked)).cloned().unwrap_or(asked);
        let mut sizing = *self.shared.built_in.sizing();
        if let Some(slots) = request.slots {
            sizing = sizing.with_slots(slots);
        }
        if let Some(context) = context {
            sizing = sizing.with_context(context);
        }
        let known = cluster.largest_on_disk(&model).cloned();
        let known = match (known, model.source()) {
            // It may lie on this machine, to be copied from here.
            (None, ModelSource::File(_)) => ModelOnDisk::read(&model, None).await.ok(),
            (known, _) => known,
        };
        Ok(sizing.estimate_with(&model, known.as_ref(), &cluster))
    }
}

/// The engine answers each command with what belongs to it, so this is a defect.
pub(super) fn unexpected(output: &CommandOutput) -> Error {
    Error::new(ErrorKind::Internal, format!("the command was answered with {output:?}"))
}
