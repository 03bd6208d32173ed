//! Log probabilities.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The log probabilities of tokens of a chat, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatLogprobs {
    /// One for each token of the answer, also for those without text: the end of the text, a part of a stop text.
    pub content: Vec<ChatTokenLogprob>,
    /// Not available.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub refusal: (),
}

/// The log probability of a token of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatTokenLogprob {
    /// Its text. U+FFFD stands for bytes that are no whole character.
    pub token: String,
    /// The natural logarithm of its probability, before any penalty, bias or temperature.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The likeliest tokens at its position.
    pub top_logprobs: Vec<ChatTopLogprob>,
}

/// The log probability of one of the likeliest tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatTopLogprob {
    /// Its text. U+FFFD stands for bytes that are no whole character.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The log probabilities of tokens of a completion: lists of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionLogprobs {
    /// The texts of the tokens; `bytes:\xf0\x9f` for one that is no text.
    pub tokens: Vec<String>,
    /// The natural logarithms of their probabilities, before any penalty, bias or temperature.
    pub token_logprobs: Vec<f32>,
    /// Those of the likeliest tokens at each position, and of the token itself.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each token begins in the text of the answer, in characters.
    pub text_offset: Vec<u64>,
}
