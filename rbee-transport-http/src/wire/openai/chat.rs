//! Chats to continue, with their messages and tools.

use rbee_core::Role;
use serde::{Deserialize, Serialize};

use super::{chat_answer::ChatToolCall, options::Options};

/// A conversation to continue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The turns so far.
    pub messages: Vec<Message>,
    /// Sampling and limits.
    #[serde(flatten)]
    pub options: Options,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub max_completion_tokens: Option<u32>,
    /// Respond with the log probability of each token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logprobs: bool,
    /// Also with those of this many of the likeliest tokens; only allowed with `logprobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 20))]
    pub top_logprobs: Option<u8>,
    /// The functions that the model may call: at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ChatTool>,
    /// Which of them it calls: `auto`, `none`, `required`, or the one of an object like a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub tool_choice: Option<serde_json::Value>,
    /// False: an answer has at most one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    pub function: ChatFunction,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatFunction {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(max_length = 128, pattern = r"^[A-Za-z0-9_.:/-]+$"))]
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub parameters: Option<serde_json::Value>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`; OpenAI's `developer` is taken as `system`.
    #[cfg_attr(feature = "openapi", schema(value_type = RoleName))]
    pub role: Role,
    /// The content: a text. A list of parts of type `text` is accepted too.
    #[cfg_attr(feature = "openapi", schema(example = "Tell me about a flower."))]
    pub content: String,
    /// The name of the author, to tell apart several with one role: up to 64 characters. It is up to the model's chat
    /// template whether the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 64, pattern = r"^[^\s<|\\/>]*$"))]
    pub name: Option<String>,
    /// The calls of this turn, only of the role `assistant`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ChatToolCall>,
    /// The id of the call with this result, only of the role `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// The author of a message.
#[cfg(feature = "openapi")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RoleName {
    /// Instructions for the whole conversation.
    System,
    /// The same as `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}
