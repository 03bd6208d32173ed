//! The devices of a machine that run models.

use serde::{Deserialize, Serialize};

/// What a device computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor and the main memory of the machine.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// A device that a model can be loaded on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number on the hive; 0 is the processor.
    pub index: u32,
    /// What it computes with.
    pub kind: DeviceKind,
    /// The name that its vendor gives it.
    pub name: String,
    /// Its total memory, in bytes.
    pub memory_total: u64,
    /// Its free memory, in bytes.
    pub memory_free: u64,
}
