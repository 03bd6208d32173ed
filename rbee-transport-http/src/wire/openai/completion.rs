//! Bare text to continue, and its answers.

use serde::{Deserialize, Serialize};

use super::{
    logprobs::CompletionLogprobs,
    options::{OneOrMany, Options},
    usage::Usage,
};

/// Text to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The text, or up to 8 of them.
    pub prompt: OneOrMany,
    /// Respond with the log probability of each token, and of this many of the likeliest tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 20))]
    pub logprobs: Option<u8>,
    /// Sampling and limits.
    #[serde(flatten)]
    pub options: Options,
}

/// The response to a [`CompletionRequest`], whole or one chunk of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Completion {
    /// `cmpl-` and the id of the (first) job.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// When it began, in seconds of the Unix epoch.
    pub created: u64,
    /// The model, as requested.
    pub model: String,
    /// The answers.
    pub choices: Vec<CompletionChoice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// One answer, or what is new of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionChoice {
    /// Its index: prompt by prompt, `n` for each.
    pub index: u32,
    /// The text.
    pub text: String,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default)]
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; in a stream, in the last chunk of the answer.
    pub finish_reason: Option<String>,
}
