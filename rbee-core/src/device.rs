//! The devices of a machine that run models.

use serde::{Deserialize, Serialize};

/// What a device computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor and the machine's main memory.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// Something a model can be loaded on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number on this hive; 0 is the processor.
    pub index: u32,
    /// What it computes with.
    pub kind: DeviceKind,
    /// What its maker calls it.
    pub name: String,
    /// All of its memory, in bytes.
    pub memory_total: u64,
    /// What of it is free, in bytes.
    pub memory_free: u64,
}
