//! A model on the disk of a hive.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, model_info::ModelInfo, model_ref::ModelRef};

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
