//! The answers to chats, whole and in chunks.

use serde::{Deserialize, Serialize};

use super::{logprobs::ChatLogprobs, usage::Usage};

/// The whole response to a [`ChatRequest`](super::ChatRequest).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatCompletion {
    /// `chatcmpl-` and the id of the (first) job.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// When it began, in seconds of the Unix epoch.
    pub created: u64,
    /// The model, as requested.
    pub model: String,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatChoice {
    /// Its index.
    pub index: u32,
    /// The message of the model.
    pub message: ChatMessage,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: String,
}

/// The message of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatMessage {
    /// `assistant`.
    pub role: String,
    /// The text; `null` if there are only tool calls.
    pub content: Option<String>,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that the model calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ChatToolCall>,
    /// Not available.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub refusal: (),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatToolCall {
    /// Its id: the message with its result has it as `tool_call_id`.
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    pub function: CalledFunction,
}

/// A function that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// Its arguments, a JSON object, as text. It is only the beginning of one if `finish_reason` is `length`.
    pub arguments: String,
}

/// A chunk of a streamed chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatChunk {
    /// `chatcmpl-` and the id of the (first) job.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// When it began, in seconds of the Unix epoch.
    pub created: u64,
    /// The model, as requested.
    pub model: String,
    /// What is new; empty in the chunk with the usage.
    pub choices: Vec<ChunkChoice>,
    /// Token counts: in the last chunk, if requested.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// What is new of one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChunkChoice {
    /// The index of the answer.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`, in the last chunk of the answer.
    pub finish_reason: Option<String>,
}

/// What is new of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delta {
    /// `assistant`, in the first chunk of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The next part of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The next part of what the model thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The next part of a call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallDelta>,
}

/// What is new of a tool call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolCallDelta {
    /// The number of the call in this answer.
    pub index: u32,
    /// Its id, in its first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, in its first part.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The function.
    pub function: FunctionDelta,
}

/// What is new of a function that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FunctionDelta {
    /// Its name, in the first part of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The next part of its arguments.
    pub arguments: String,
}
