//! The order to start a worker.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model_ref::ModelRef;

/// The order to start a worker. Other fields may be added, so create it with [`new`](Self::new); change the fields that
/// differ.
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
    /// Concurrent runs, if the engine supports them; at least 1.
    pub slots: u32,
    /// The devices to load it on, by index.
    pub devices: Vec<u32>,
    /// The expected memory, in bytes, over all its devices.
    pub need_bytes: u64,
    /// The path of the model on the hive's disk. The hive sets it itself if its store has the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl WorkerSpec {
    /// A worker with one slot, without devices and with unknown memory.
    pub fn new(model: ModelRef) -> Self {
        Self { model, slots: 1, devices: Vec::new(), need_bytes: 0, path: None }
    }
}
