//! The bodies of OpenAI's Responses API, as far as rbee supports them.
//!
//! How the queen reads a request, and what it does with every other field that OpenAI's clients can send, is defined
//! with its routes; this is what clients build and receive.

mod item;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use item::{ContentPart, ItemStatus, ResponseItem};

/// `POST`: create a response.
pub const RESPONSES: &str = "/v1/responses";
/// `GET`: a stored response. `DELETE`: delete it.
pub const RESPONSE: &str = "/v1/responses/{id}";
/// `POST`: cancel a response that runs in the background.
pub const RESPONSE_CANCEL: &str = "/v1/responses/{id}/cancel";
/// `GET`: the items that the model read for a stored response.
pub const RESPONSE_INPUT_ITEMS: &str = "/v1/responses/{id}/input_items";

/// A response to create. Every other field of OpenAI's API is accepted only if it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResponseRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// What the model answers.
    pub input: ResponseInput,
    /// Instructions for this response alone: later responses do not inherit them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The stored response whose conversation goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_response_id: Option<String>,
    /// Keep request and answer, so that they can be read and continued later; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// Send events while the model answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Return at once; the response can be read later. Needs `store`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// The functions and custom tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub tools: Vec<serde_json::Value>,
    /// Which of them it calls: `auto`, `none`, `required`, or an object with `type` and `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub tool_choice: Option<serde_json::Value>,
    /// False: an answer has at most one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// The format of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub text: Option<serde_json::Value>,
    /// Whether the model thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningOptions>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub max_output_tokens: Option<u32>,
    /// 0 (always the likeliest token) to 2; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 2))]
    pub temperature: Option<f32>,
    /// Choose among the likeliest tokens with this total probability; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub top_p: Option<f32>,
    /// Up to 16 texts of the client, kept with the response.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What a model answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ResponseInput {
    /// A text of the user.
    #[cfg_attr(feature = "openapi", schema(example = "Tell me about a flower."))]
    Text(String),
    /// Items: messages, calls of tools and their results, and references to items of stored responses.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    Items(Vec<serde_json::Value>),
}

/// How a model thinks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReasoningOptions {
    /// `none` turns thinking off, and every other effort turns it on; without one the model does as it does by default.
    pub effort: Option<String>,
    /// If set, reasoning is in `summary` of its item, and otherwise in `content`. It is the same text.
    pub summary: Option<String>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Response {
    /// Its id: `resp_` and the id of its job, without hyphens.
    pub id: String,
    /// `response`.
    pub object: String,
    /// When it was created, in seconds of the Unix epoch.
    pub created_at: u64,
    /// When it ended, in seconds of the Unix epoch.
    pub completed_at: Option<u64>,
    /// Its progress.
    pub status: ResponseStatus,
    /// True if it runs without a reader.
    pub background: bool,
    /// Why it failed.
    pub error: Option<ResponseError>,
    /// Why it is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// The instructions of the request.
    pub instructions: Option<String>,
    /// The longest answer, in tokens.
    pub max_output_tokens: Option<u32>,
    /// Always null: there are no tools that the server runs.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub max_tool_calls: (),
    /// The texts of the client.
    pub metadata: BTreeMap<String, String>,
    /// The model, as it was requested.
    pub model: String,
    /// What the model answered.
    pub output: Vec<ResponseItem>,
    /// True if the answer may have several calls.
    pub parallel_tool_calls: bool,
    /// The response whose conversation it continues.
    pub previous_response_id: Option<String>,
    /// How the model thinks.
    pub reasoning: ReasoningOptions,
    /// `default`.
    pub service_tier: String,
    /// True if request and answer are kept.
    pub store: bool,
    /// The temperature of the sampling.
    pub temperature: f32,
    /// The format of the text.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub text: serde_json::Value,
    /// Which tools the model may call: a name, or an object.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub tool_choice: serde_json::Value,
    /// The tools that the model was offered.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub tools: Vec<serde_json::Value>,
    /// Always 0.
    pub top_logprobs: u8,
    /// The total probability of the likeliest tokens to choose from.
    pub top_p: f32,
    /// `disabled`: a prompt that is too long is an error.
    pub truncation: String,
    /// The tokens, once it has ended.
    pub usage: Option<ResponseUsage>,
}

/// The progress of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// It waits in the queue, in the background.
    Queued,
    /// It waits or runs.
    InProgress,
    /// It has ended.
    Completed,
    /// It has ended at a limit of tokens.
    Incomplete,
    /// It has ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// Why a response failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResponseError {
    /// `server_error`, `rate_limit_exceeded`, `invalid_prompt` or `context_length_exceeded`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Why a response is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IncompleteDetails {
    /// `max_output_tokens`: the limit of the request, or the end of the context of the model.
    pub reason: String,
}

/// The tokens of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResponseUsage {
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// More about them.
    pub input_tokens_details: InputTokensDetails,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// More about them.
    pub output_tokens_details: OutputTokensDetails,
    /// All tokens.
    pub total_tokens: u32,
}

/// Tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputTokensDetails {
    /// Those that the worker had in its cache; 0 if its engine does not report them.
    pub cached_tokens: u32,
    /// Always 0: a cache costs nothing.
    pub cache_write_tokens: u32,
}

/// Tokens of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputTokensDetails {
    /// Those of the reasoning, estimated by its share of the text.
    pub reasoning_tokens: u32,
}

/// A page of items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ItemList {
    /// `list`.
    pub object: String,
    /// The items.
    pub data: Vec<ResponseItem>,
    /// The id of the first one.
    pub first_id: Option<String>,
    /// The id of the last one.
    pub last_id: Option<String>,
    /// True if there are more.
    pub has_more: bool,
}

/// Which items to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ItemQuery {
    /// The most items: 1 to 100; 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only the items after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// `desc`, the newest first, by default; or `asc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// How to read a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct RetrieveQuery {
    /// Send its events: those so far, and those to come.
    #[serde(default)]
    pub stream: bool,
    /// Only the events after the one with this sequence number; only with `stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_after: Option<u64>,
}

/// A response was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedResponse {
    /// Its id.
    pub id: String,
    /// `response`.
    pub object: String,
    /// `true`.
    pub deleted: bool,
}
