//! The order to start a worker.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model_ref::ModelRef;

/// A worker to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
