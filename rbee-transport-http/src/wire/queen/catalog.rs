//! Models: what is known of them, and their way to a disk.

use rbee_core::{
    HiveId, WorkerId,
    models::{MemoryEstimate, ModelInfo},
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
    /// The name to ask for it by: an alias where there is one.
    pub name: String,
    /// Its reference.
    pub model: String,
    /// `unloaded`, `downloading`, `loading`, `loaded` or `failed`.
    pub state: String,
    /// Its size on disk, in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The hives that have it on their disk.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub hives: Vec<HiveId>,
    /// Its workers.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub workers: Vec<WorkerId>,
    /// What its files say, where one model is asked for and a hive has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ModelDetails>,
}

/// What the files of a model say about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelDetails {
    /// What names its content, where it lies in a hive's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Architecture, parameters, context and the like.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub info: ModelInfo,
    /// The memory that a worker of one slot is expected to take at the model's own context.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub memory: MemoryEstimate,
}

/// Which model, and on which hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct ModelQuery {
    /// A reference or an alias.
    pub model: String,
    /// On this hive alone; on all of them where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub hive: Option<HiveId>,
}

/// A model to be put on a hive's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// A reference or an alias.
    pub model: String,
    /// Where; on every hive that is online where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hive: Option<HiveId>,
    /// Read what is there already again, and fetch what is damaged anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
}

/// How far a pull has come on one hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullProgress {
    /// Where.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hive: HiveId,
    /// How far.
    #[serde(flatten)]
    pub progress: ProgressBody,
}

/// A pull is done.
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
    /// Files that were damaged and are whole again, where that was looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
}
