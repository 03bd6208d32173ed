//! The bodies of requests.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A conversation to continue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessagesRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The longest answer, in tokens.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub max_tokens: u32,
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// Texts that end the answer and are not part of it; at most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 4))]
    pub stop_sequences: Vec<String>,
    /// Send the answer as a stream of events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 2))]
    pub temperature: Option<f32>,
    /// Keep the likeliest tokens that together have this probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
}

/// A conversation whose tokens are counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CountTokensRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
}

/// A conversation, with all that the model reads of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Conversation {
    /// The turns so far. The last one is not the assistant's.
    pub messages: Vec<InputMessage>,
    /// Instructions: a text, or a list of blocks of type `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Content>,
    /// The tools that the model may call: at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<InputTool>,
    /// Which of them it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether the model thinks before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The effort, which only turns thinking off, and the format of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_config: Option<OutputConfig>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputMessage {
    /// Its author.
    pub role: InputRole,
    /// Its content.
    pub content: Content,
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum InputRole {
    /// The person, and the results of tools.
    User,
    /// The model.
    Assistant,
    /// Instructions in the course of the conversation.
    System,
}

/// A text, or a list of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// A list of blocks.
    Blocks(Vec<InputBlock>),
}

/// A block of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(no_recursion))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InputBlock {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A call of a tool, only in a message of the assistant.
    ToolUse {
        /// Its id.
        id: String,
        /// The name of the tool.
        name: String,
        /// The arguments.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        input: Map<String, Value>,
    },
    /// The result of a call, only in a message of the user.
    ToolResult {
        /// The id of the call.
        tool_use_id: String,
        /// The result: a text, or a list of blocks of type `text`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Content>,
        /// True if the call failed. The model reads `Error: ` before the text then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// Earlier thinking, only in a message of the assistant. The model does not read it.
    Thinking {
        /// The text.
        thinking: String,
        /// Its signature; any text.
        #[serde(default)]
        signature: String,
    },
    /// The same, encrypted.
    RedactedThinking {
        /// The encrypted text.
        data: String,
    },
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputTool {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(max_length = 128, pattern = r"^[A-Za-z0-9_.:/-]+$"))]
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input_schema: Value,
}

/// Which tools the model calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto {
        /// True: at most one call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    /// At least one.
    Any {
        /// True: exactly one call.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    },
    /// One call of this one.
    Tool {
        /// The name of the tool.
        name: String,
    },
    /// None.
    None,
}

/// Whether the model thinks before it answers. Only a model whose chat template has a switch for it follows this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    /// It thinks. How much is up to the model.
    Enabled {
        /// Has no effect.
        budget_tokens: u32,
        /// Whether the answer has the text of the thinking.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display: Option<ThinkingDisplay>,
    },
    /// It thinks.
    Adaptive {
        /// Whether the answer has the text of the thinking.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display: Option<ThinkingDisplay>,
    },
    /// It does not think.
    Disabled,
}

/// Whether an answer has the text of the thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ThinkingDisplay {
    /// It has the whole text; the default.
    Summarized,
    /// Its blocks of type `thinking` are empty.
    Omitted,
}

/// The effort, and the format of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputConfig {
    /// `low`, `medium`, `high`, `xhigh` or `max`. Has no effect: how much a model thinks is up to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(low|medium|high|xhigh|max)$"))]
    pub effort: Option<String>,
    /// The format of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
}

/// The format of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputFormat {
    /// JSON that this schema allows.
    JsonSchema {
        /// The schema.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        schema: Value,
    },
}
