//! Models: their state, and how they get to a disk.

use rbee_core::{
    HiveId, WorkerId,
    models::{MemoryEstimate, ModelInfo, ModelKind},
};
use serde::{Deserialize, Serialize};

use crate::wire::ProgressBody;

/// Events of a pull: `progress`*, then `done` or `error`.
pub mod pull_event {
    /// A [`PullProgress`](super::PullProgress).
    pub const PROGRESS: &str = "progress";
    /// A [`Pulled`](super::Pulled).
    pub const DONE: &str = "done";
    /// An [`ErrorInfo`](crate::wire::ErrorInfo).
    pub const ERROR: &str = "error";
}

/// A model that the queen knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogEntry {
    /// The name to request it by: an alias if there is one.
    pub name: String,
    /// Its reference.
    pub model: String,
    /// `unloaded`, `downloading`, `loading`, `loaded` or `failed`.
    pub state: String,
    /// Its size on disk in bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The hives that have it on their disk.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub hives: Vec<HiveId>,
    /// Its workers.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub workers: Vec<WorkerId>,
    /// What decides whether an engine can read it; only if one model is requested, and if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub kind: Option<ModelKind>,
    /// What its files describe; only if one model is requested, and if a hive or the queen's machine has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ModelDetails>,
}

/// What the files of a model describe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelDetails {
    /// The digest of its content, if it is in a hive's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Architecture, parameters, context and so on.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub info: ModelInfo,
    /// The memory that a worker is expected to take, and its slots.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub memory: MemoryEstimate,
}

/// A model, on one hive or on all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct ModelQuery {
    /// A reference or an alias.
    pub model: String,
    /// Only on this hive; on all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub hive: Option<HiveId>,
}

/// A model to put on a hive's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// A reference or an alias.
    pub model: String,
    /// The hive; every hive that is online if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// Check existing files too, and download damaged ones again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
}

/// The progress of a pull on one hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullProgress {
    /// The hive.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// The progress.
    #[serde(flatten)]
    pub progress: ProgressBody,
}

/// The result of a finished pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pulled {
    /// The model, with aliases resolved.
    pub model: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The hives that have it now.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub hives: Vec<HiveId>,
    /// Files that were damaged and are whole again, if that was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
}
