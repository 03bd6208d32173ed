//! Hives and workers: how they are added, started and described.

use std::collections::BTreeMap;

use rbee_core::{HiveId, WorkerId, hive::Device};
use serde::{Deserialize, Serialize};

use crate::wire::{ErrorInfo, ProgressBody};

/// A hive, as the queen sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HiveView {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: HiveId,
    /// `online`, `offline` or `error`.
    pub status: String,
    /// How it is reached: `in process`, `http://host:port`, `ssh user@host`.
    pub address: String,
    /// When it last responded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<u64>,
    /// Why it is not usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// The devices that models can be loaded on.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub devices: Vec<Device>,
    /// The limit for the memory of its workers together, in bytes; absent if they may fill its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<u64>,
    /// The memory that its workers take together, in bytes.
    #[serde(default)]
    pub memory_taken: u64,
    /// The models on its disk, with their sizes in bytes.
    pub models: BTreeMap<String, u64>,
    /// The number of its workers.
    pub workers: usize,
    /// True if it starts no workers until it is started again.
    #[serde(default)]
    pub draining: bool,
    /// True if the queen can start it again after it was stopped; otherwise its `rbee-hive` has to be started on its
    /// machine.
    #[serde(default)]
    pub can_start: bool,
    /// Labels set by its owner, for the policy: `region`, `cost`, `power` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A worker to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpawnWorker {
    /// The model, a reference or an alias.
    pub model: String,
    /// The hive; chosen by the scheduler if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// The devices, by index; chosen by the scheduler if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Concurrent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Never evict it.
    #[serde(default)]
    pub pin: bool,
}

/// A worker, as the queen sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: WorkerId,
    /// Its hive.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// Its model.
    pub model: String,
    /// `loading`, `idle`, `busy`, `draining` or `failed`.
    pub state: String,
    /// The progress of its load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressBody>,
    /// Its engine.
    pub backend: String,
    /// The devices it runs on, by index.
    pub devices: Vec<u32>,
    /// Its address; absent for a worker inside the queen's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Concurrent runs.
    pub slots: u32,
    /// Runs it could begin now.
    pub slots_available: u32,
    /// The memory it takes, in bytes.
    pub memory_bytes: u64,
    /// How long ago one of its slots was last taken or released.
    pub idle_ms: u64,
    /// True if it is never evicted.
    pub pinned: bool,
    /// True if its hive responds.
    pub reachable: bool,
    /// True if it does not respond, or a stream of it sends nothing: it gets no jobs until it is healthy again.
    #[serde(default)]
    pub suspected: bool,
}
