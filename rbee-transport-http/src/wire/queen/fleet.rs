//! Hives and workers: what is added, started and told of them.

use std::collections::BTreeMap;

use rbee_core::{HiveId, WorkerId, hive::Device};
use serde::{Deserialize, Serialize};

use crate::wire::{ErrorInfo, ProgressBody};

/// A machine to be added: one whose `rbee-hive` runs already and is reached over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddHive {
    /// Where its daemon listens: `http://192.168.1.7:7835`.
    pub url: String,
    /// The token it takes. Not needed for a hive on the queen's machine that runs as the same user, with its state in the
    /// default place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub token: Option<crate::token::Token>,

    /// What its owner says of it, for the policy to know: `region`, `cost`, `power` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

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
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<u64>,
    /// Why it is not usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// What models can be loaded on.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub devices: Vec<Device>,
    /// Memory that its workers may take together, in bytes; absent where they may fill its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<u64>,
    /// Memory that its workers take together, in bytes.
    #[serde(default)]
    pub memory_taken: u64,
    /// The models on its disk, with their sizes in bytes.
    pub models: BTreeMap<String, u64>,
    /// How many workers it has.
    pub workers: usize,
    /// It takes no workers, until it is started again.
    #[serde(default)]
    pub draining: bool,
    /// What its owner says of it, for the policy to know: `region`, `cost`, `power` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A worker to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpawnWorker {
    /// The model, a reference or an alias.
    pub model: String,
    /// Where; the scheduler chooses where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// The devices, by index; the scheduler chooses where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Runs it shall do at once.
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
    /// How far its load has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressBody>,
    /// The engine.
    pub backend: String,
    /// The devices it runs on, by index.
    pub devices: Vec<u32>,
    /// Where it listens; none for one inside the queen's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Runs it can do at once.
    pub slots: u32,
    /// Runs it could begin now.
    pub slots_available: u32,
    /// Memory it takes, in bytes.
    pub memory_bytes: u64,
    /// How long ago a slot of it was last given out or back.
    pub idle_ms: u64,
    /// It is never evicted.
    pub pinned: bool,
    /// Its hive answers.
    pub reachable: bool,
    /// It does not answer, or a stream of it is silent: it gets no jobs until it is known to be well.
    #[serde(default)]
    pub suspected: bool,
}
