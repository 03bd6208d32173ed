//! The items of a conversation.

use serde::{Deserialize, Serialize};

use crate::wire::openai::ChatTokenLogprob;

/// The progress of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// The model writes it.
    #[default]
    InProgress,
    /// It is complete.
    Completed,
    /// It was cut off, or is malformed.
    Incomplete,
}

/// An item of a conversation: what the model wrote, and what it read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseItem {
    /// A message.
    Message {
        /// Its id.
        id: String,
        /// Its progress.
        status: ItemStatus,
        /// `assistant` for what the model wrote; else `user` or `system`.
        role: String,
        /// Its parts.
        content: Vec<ContentPart>,
    },
    /// What the model thought before it answered.
    Reasoning {
        /// Its id.
        id: String,
        /// Its progress.
        status: ItemStatus,
        /// The text, if the request has `reasoning.summary`.
        summary: Vec<ContentPart>,
        /// The text otherwise.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        content: Vec<ContentPart>,
    },
    /// A call of a function.
    FunctionCall {
        /// Its id.
        id: String,
        /// Its progress.
        status: ItemStatus,
        /// The id of the call, which its result names.
        call_id: String,
        /// The name of the function.
        name: String,
        /// The namespace of the function, if it was offered in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// The arguments: a JSON object, as a text.
        arguments: String,
    },
    /// The result of a call of a function.
    FunctionCallOutput {
        /// Its id.
        id: String,
        /// `completed`.
        status: ItemStatus,
        /// The id of the call.
        call_id: String,
        /// The result.
        output: String,
    },
    /// A call of a custom tool, which takes a text.
    CustomToolCall {
        /// Its id.
        id: String,
        /// Its progress.
        status: ItemStatus,
        /// The id of the call, which its result names.
        call_id: String,
        /// The name of the tool.
        name: String,
        /// The namespace of the tool, if it was offered in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// The text.
        input: String,
    },
    /// The result of a call of a custom tool.
    CustomToolCallOutput {
        /// Its id.
        id: String,
        /// `completed`.
        status: ItemStatus,
        /// The id of the call.
        call_id: String,
        /// The result.
        output: String,
    },
}

impl ResponseItem {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Message { id, .. }
            | Self::Reasoning { id, .. }
            | Self::FunctionCall { id, .. }
            | Self::FunctionCallOutput { id, .. }
            | Self::CustomToolCall { id, .. }
            | Self::CustomToolCallOutput { id, .. } => id,
        }
    }
}

/// A part of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// A text that the model wrote.
    OutputText {
        /// The text.
        text: String,
        /// Always empty.
        #[serde(default)]
        #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
        annotations: [(); 0],
        /// The log probabilities of its tokens, if they were requested.
        #[serde(default)]
        logprobs: Vec<ChatTokenLogprob>,
    },
    /// A text that the model read.
    InputText {
        /// The text.
        text: String,
    },
    /// Reasoning.
    ReasoningText {
        /// The text.
        text: String,
    },
    /// Reasoning, for a request with `reasoning.summary`.
    SummaryText {
        /// The text.
        text: String,
    },
}
