//! Reranking: documents scored by their relevance to a query. The bodies are those of Jina's API; the response also has
//! the fields that Cohere's clients read.

use serde::{Deserialize, Serialize};

/// `POST` ([`RerankRequest`]): score documents ([`RerankResponse`]).
pub const RERANK: &str = "/v1/rerank";
/// The same route, for clients of Cohere's newer API.
pub const RERANK_V2: &str = "/v2/rerank";
/// The same route, for clients of vLLM and Infinity, which leave out the version.
pub const RERANK_PLAIN: &str = "/rerank";

/// Documents to score by their relevance to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The query.
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub query: String,
    /// The documents; at least one.
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub documents: Vec<RerankDocument>,
    /// The most results; all documents by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub top_n: Option<u32>,
    /// Whether the results have the texts of their documents; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_documents: Option<bool>,
}

/// A document, as a text or as an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum RerankDocument {
    /// The text.
    Text(String),
    /// An object with the text.
    Object(RerankText),
}

/// The text of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankText {
    /// The text.
    pub text: String,
}

/// The response to a [`RerankRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankResponse {
    /// The id of the job.
    pub id: String,
    /// The model, as requested.
    pub model: String,
    /// Token counts.
    pub usage: RerankUsage,
    /// The documents, the most relevant first; of equal ones the one that was given first.
    pub results: Vec<RerankResult>,
    /// The version and the token counts, for Cohere's clients.
    pub meta: RerankMeta,
}

/// A document and its relevance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankResult {
    /// The index of the document in the request.
    pub index: u32,
    /// Its relevance: higher is more relevant. From 0 to 1 for most models.
    pub relevance_score: f32,
    /// The document, unless the request has `return_documents: false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<RerankText>,
}

/// Token counts of a rerank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankUsage {
    /// Tokens of all pairs of the query and a document: the query counts once for each document.
    pub prompt_tokens: u64,
    /// The same as `prompt_tokens`.
    pub total_tokens: u64,
}

/// What Cohere's clients read beside the results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankMeta {
    /// The version of the API.
    pub api_version: RerankApiVersion,
    /// The counts of `usage`, by Cohere's names.
    pub tokens: RerankTokens,
}

/// The version of Cohere's API whose form the response has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankApiVersion {
    /// `2`.
    pub version: String,
}

/// Token counts by Cohere's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RerankTokens {
    /// Tokens of all pairs.
    pub input_tokens: u64,
    /// 0: a rerank writes no text.
    pub output_tokens: u64,
}
