//! Answers and vectors.

use rbee_core::event::Logprobs;
use serde::{Deserialize, Serialize};

use super::Message;

/// An answer, or the next part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaChatResponse))]
pub struct ChatResponse {
    /// The model, as requested.
    pub model: String,
    /// The current time.
    pub created_at: String,
    /// The message, or the next part of it. The last object of a stream has an empty one.
    pub message: Message,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<LogprobOf>,
    /// True in the last object.
    pub done: bool,
    /// Why the answer ended: `stop`, `length`, `load` or `unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<String>,
    /// Counts and times, in the last object.
    #[serde(flatten)]
    pub timings: Option<Timings>,
}

/// An answer, or the next part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaGenerateResponse))]
pub struct GenerateResponse {
    /// The model, as requested.
    pub model: String,
    /// The current time.
    pub created_at: String,
    /// The text, or the next part of it.
    pub response: String,
    /// The reasoning, or the next part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<LogprobOf>,
    /// True in the last object.
    pub done: bool,
    /// Why the answer ended: `stop`, `length`, `load` or `unload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<String>,
    /// Counts and times, in the last object.
    #[serde(flatten)]
    pub timings: Option<Timings>,
}

/// Counts and times of an answer. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaTimings))]
pub struct Timings {
    /// From the request to the end of the answer.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub total_duration: u64,
    /// The part of it before a worker began: in the queue, and while the model was loaded.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub load_duration: u64,
    /// The tokens of the prompt, also those that the worker had cached.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub prompt_eval_count: u64,
    /// How long the worker computed the prompt.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub prompt_eval_duration: u64,
    /// The tokens of the answer.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub eval_count: u64,
    /// How long they took.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub eval_duration: u64,
}

/// The log probability of a token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaLogprob))]
pub struct LogprobOf {
    /// The token.
    #[serde(flatten)]
    pub token: TokenLogprob,
    /// Those of the likeliest tokens, the likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<TokenLogprob>,
}

/// The log probability of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaTokenLogprob))]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The bytes of its text.
    #[serde(default)]
    pub bytes: Vec<u8>,
}

impl From<&rbee_core::event::TokenLogprob> for TokenLogprob {
    fn from(token: &rbee_core::event::TokenLogprob) -> Self {
        Self {
            token: token.text.to_string(),
            logprob: token.logprob,
            bytes: token.as_bytes().to_vec(),
        }
    }
}

impl From<&Logprobs> for LogprobOf {
    fn from(logprobs: &Logprobs) -> Self {
        Self {
            token: (&logprobs.chosen).into(),
            top_logprobs: logprobs.top.iter().map(Into::into).collect(),
        }
    }
}

/// The vectors of several texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaEmbedResponse))]
pub struct EmbedResponse {
    /// The model, as requested.
    pub model: String,
    /// The vectors, each of length 1, in the order of the texts.
    pub embeddings: Vec<Vec<f32>>,
    /// From the request to the answer, in nanoseconds.
    pub total_duration: u64,
    /// The part of it before a worker began, in nanoseconds.
    pub load_duration: u64,
    /// The tokens of all texts.
    pub prompt_eval_count: u64,
}

/// The vector of one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = OllamaEmbeddingsResponse))]
pub struct EmbeddingsResponse {
    /// The vector, as the model gives it.
    pub embedding: Vec<f32>,
}
