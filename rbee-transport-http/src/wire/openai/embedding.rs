//! Texts to turn into vectors, and the vectors.

use serde::{Deserialize, Serialize};

/// Texts to turn into vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The text, or several.
    pub input: EmbeddingInput,
    /// The length of the vectors, for a model that was trained for several; its own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub dimensions: Option<u32>,
    /// The encoding of vectors: `float`, the default, or `base64` (little-endian 32-bit floats).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
}

/// The texts of a request for vectors. Tokens are given by their ids, exactly as the model reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum EmbeddingInput {
    /// One text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// The tokens of one text.
    Tokens(Vec<u32>),
    /// The tokens of each text of a list.
    TokenLists(Vec<Vec<u32>>),
}

/// The encoding of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// The little-endian 32-bit floats one after the other, in base64.
    Base64,
}

/// The response to an [`EmbeddingRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// The vectors, in the order of the texts.
    pub data: Vec<Embedding>,
    /// The model, as requested.
    pub model: String,
    /// Token counts.
    pub usage: EmbeddingUsage,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingUsage {
    /// Tokens of the texts.
    pub prompt_tokens: u64,
    /// The same as `prompt_tokens`.
    pub total_tokens: u64,
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// The index of its text.
    pub index: u32,
    /// The numbers.
    pub embedding: Vector,
}

/// A vector, in the requested encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Vector {
    /// A list of numbers.
    Float(Vec<f32>),
    /// The little-endian 32-bit floats, in base64.
    Base64(String),
}
