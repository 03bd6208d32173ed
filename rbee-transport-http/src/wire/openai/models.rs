//! The available models.

use serde::{Deserialize, Serialize};

/// The available models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
    /// False: the list is complete. For Anthropic's clients.
    #[serde(default)]
    pub has_more: bool,
    /// The id of the first one. For Anthropic's clients.
    #[serde(default)]
    pub first_id: Option<String>,
    /// The id of the last one. For Anthropic's clients.
    #[serde(default)]
    pub last_id: Option<String>,
}

/// An available model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    /// The name to request it by.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When the queen started, in seconds of the Unix epoch: the queen does not know when the model was made.
    pub created: u64,
    /// `rbee`.
    pub owned_by: String,
    /// `model`, for Anthropic's clients.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The id again, for Anthropic's clients.
    #[serde(default)]
    pub display_name: String,
    /// `created` as RFC 3339 has it, for Anthropic's clients.
    #[serde(default)]
    pub created_at: String,
    /// The longest prompt and answer together, in tokens, if known. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// What the model can do, as far as known: `completion`, `embedding`, `rerank`, `tools`, `structured_output`,
    /// `thinking`, `insert`. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}
