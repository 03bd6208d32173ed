//! Models: known ones, on disks, in memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaVersion))]
pub struct Version {
    /// The version of Ollama whose features rbee has ([`API_VERSION`](super::API_VERSION)), not that of rbee.
    pub version: String,
}

/// The available models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaModelList))]
pub struct ModelList {
    /// The models.
    pub models: Vec<ListedModel>,
}

/// An available model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaListedModel))]
pub struct ListedModel {
    /// Its name. One without a colon gets `:latest`.
    pub name: String,
    /// The same.
    pub model: String,
    /// When the queen began to serve.
    pub modified_at: String,
    /// The size of its files in bytes; 0 if unknown.
    pub size: u64,
    /// The SHA-256 of its content; of its name if that is unknown.
    pub digest: String,
    /// Facts from its files.
    pub details: ModelDetails,
    /// What it can do, as [`ShowResponse`] has it; empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// Facts from the files of a model. A text is empty if the fact is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaModelDetails))]
pub struct ModelDetails {
    /// Always empty.
    pub parent_model: String,
    /// `gguf` or `safetensors`.
    pub format: String,
    /// The architecture.
    pub family: String,
    /// The same, as a list.
    pub families: Vec<String>,
    /// The number of parameters: `7.6B`.
    pub parameter_size: String,
    /// The quantization, or the type of plain numbers: `Q4_K_M`, `BF16`.
    pub quantization_level: String,
}

/// A model to describe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaShowRequest))]
pub struct ShowRequest {
    /// The model, a reference or an alias, with or without `:latest`.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// Accepted. The answer is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbose: Option<bool>,
}

/// A description of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaShowResponse))]
pub struct ShowResponse {
    /// The name of its license; empty if it is unknown.
    pub license: String,
    /// Always empty: rbee has no Modelfiles.
    pub modelfile: String,
    /// Always empty: rbee has no default options of models.
    pub parameters: String,
    /// Its chat template, in Jinja, if it is a file of the queen's machine; else empty.
    pub template: String,
    /// Facts from its files.
    pub details: ModelDetails,
    /// More facts, with the names that GGUF files have for them: `general.architecture`, `llama.context_length`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub model_info: BTreeMap<String, Value>,
    /// What it can do: `completion`, `tools`, `thinking`, `embedding`, `insert`.
    pub capabilities: Vec<String>,
    /// When the queen began to serve.
    pub modified_at: String,
}

/// The loaded models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaLoadedModels))]
pub struct LoadedModels {
    /// The models.
    pub models: Vec<LoadedModel>,
}

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaLoadedModel))]
pub struct LoadedModel {
    /// Its name. One without a colon gets `:latest`.
    pub name: String,
    /// The same.
    pub model: String,
    /// The memory of all its workers, in bytes.
    pub size: u64,
    /// The part of it on GPUs, in bytes.
    pub size_vram: u64,
    /// The SHA-256 of its content; of its name if that is unknown.
    pub digest: String,
    /// Facts from its files.
    pub details: ModelDetails,
    /// When it will be unloaded if nobody uses it; in 100 years if it stays loaded.
    pub expires_at: String,
    /// The longest prompt and answer together, in tokens; 0 if unknown.
    pub context_length: u32,
}

/// A model to put on the disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaPullRequest))]
pub struct PullRequest {
    /// A reference (`hf:org/repo`) or an alias. There is no library of Ollama's own names.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// Respond with a stream of objects, one in each line; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Accepted. Connections to a hub are always secure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
}

/// The progress of a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaPullStatus))]
pub struct PullStatus {
    /// What is done now; `success` in the last object.
    pub status: String,
    /// Identifies the model and the machine that it is put on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// All bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The bytes so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// A model to remove from the disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaDeleteRequest))]
pub struct DeleteRequest {
    /// The model, a reference or an alias, with or without `:latest`.
    pub model: String,
}
