//! A model on the disk of a hive.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    model_info::{CachePool, ModelInfo},
    model_ref::ModelRef,
};

/// The limits of a worker of a model on one machine, as far as they are known before the worker starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Concurrent runs; `None` if the start order decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The longest prompt and answer together, in tokens. Memory is estimated with sequences of this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// The KV cache, if rbee's own engine runs the model. `None`: another engine, which has memory for the whole context
    /// in every slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePool>,
}

impl WorkerLimits {
    pub(crate) fn are_none(&self) -> bool {
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
    /// The digest of its content, if the hive keeps it in a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The facts in its files, if their format is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Arc<ModelInfo>>,
    /// The limits of a worker of the model.
    #[serde(default, skip_serializing_if = "WorkerLimits::are_none")]
    pub limits: WorkerLimits,
}

impl ModelOnDisk {
    /// A model of this size; nothing else is known about it.
    pub fn new(model: ModelRef, bytes: u64) -> Self {
        Self { model, bytes, digest: None, info: None, limits: WorkerLimits::default() }
    }

    /// Sets the limits of a worker of it. In rbee's own engine a model for vectors or scores has one slot, whatever the
    /// others have.
    pub(crate) fn with_limits(self, mut limits: WorkerLimits) -> Self {
        let is_encoder = |info: &Arc<ModelInfo>| info.task.is_of_encoders();
        if limits.cache.is_some() && self.info.as_ref().is_some_and(is_encoder) {
            limits.slots = Some(1);
        }
        Self { limits, ..self }
    }
}
