//! The bodies of Anthropic's Messages API, as far as rbee supports them.
//!
//! How the queen reads a request, and what it does with every other field that Anthropic's clients can send, is defined
//! with its routes; this is what clients build and receive.

use rbee_core::Usage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `POST`: a conversation, with Anthropic's body.
pub const MESSAGES: &str = "/v1/messages";
/// `POST`: the number of tokens of a conversation, with Anthropic's body.
pub const COUNT_TOKENS: &str = "/v1/messages/count_tokens";

/// The signature of every block of type `thinking`. rbee signs nothing: clients send a signature back, and some of them
/// drop a block without one.
pub const SIGNATURE: &str = "cmJlZQ==";

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

/// The whole answer to a [`MessagesRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageAnswer {
    /// `msg_` and the id of the job.
    pub id: String,
    /// `message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `assistant`.
    pub role: String,
    /// The model, as requested.
    pub model: String,
    /// The parts of the answer, in their order. An empty answer has none.
    pub content: Vec<AnswerBlock>,
    /// Why it ended; `None` in the first event of a stream.
    pub stop_reason: Option<StopReason>,
    /// The stop text that ended it; always `null`: rbee does not report it.
    pub stop_sequence: Option<String>,
    /// Token counts.
    pub usage: MessageUsage,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended it, or generated a stop text.
    EndTurn,
    /// It reached its maximum length.
    MaxTokens,
    /// The model waits for the results of its calls.
    ToolUse,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AnswerBlock {
    /// What the model thought before it answered.
    Thinking {
        /// The text.
        thinking: String,
        /// [`SIGNATURE`].
        signature: String,
    },
    /// Text for the user.
    Text {
        /// The text.
        text: String,
    },
    /// A call of a tool.
    ToolUse {
        /// Its id: the result names it.
        id: String,
        /// The name of the tool.
        name: String,
        /// The arguments.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        input: Map<String, Value>,
    },
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageUsage {
    /// Tokens of the prompt that were computed.
    pub input_tokens: u64,
    /// Tokens of the prompt that were not computed, because the worker had them cached.
    pub cache_read_input_tokens: u64,
    /// Always 0: what is cached costs nothing extra.
    pub cache_creation_input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

impl From<Usage> for MessageUsage {
    fn from(usage: Usage) -> Self {
        let cached = usage.cached_tokens.unwrap_or(0).min(usage.prompt_tokens);
        Self {
            input_tokens: u64::from(usage.prompt_tokens - cached),
            cache_read_input_tokens: u64::from(cached),
            cache_creation_input_tokens: 0,
            output_tokens: u64::from(usage.completion_tokens),
        }
    }
}

/// The answer to a [`CountTokensRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokensCount {
    /// The number of tokens of the conversation, as the model reads it.
    pub input_tokens: u32,
}

/// An event of a stream. The name of the event is the same as its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamEvent {
    /// The answer begins.
    MessageStart {
        /// The answer without content.
        message: MessageAnswer,
    },
    /// A part begins, empty.
    ContentBlockStart {
        /// The number of the part, from 0.
        index: u32,
        /// The part.
        content_block: AnswerBlock,
    },
    /// More of the part that began last.
    ContentBlockDelta {
        /// The number of the part.
        index: u32,
        /// What is added.
        delta: BlockDelta,
    },
    /// The part is complete.
    ContentBlockStop {
        /// The number of the part.
        index: u32,
    },
    /// The answer is complete.
    MessageDelta {
        /// Why it ended.
        delta: MessageEnd,
        /// All token counts.
        usage: MessageUsage,
    },
    /// The last event.
    MessageStop,
    /// The answer is not ready yet. A comment before it says what it waits for.
    Ping,
}

/// What is added to a part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BlockDelta {
    /// Text for the user.
    TextDelta {
        /// The text.
        text: String,
    },
    /// Text of the thinking.
    ThinkingDelta {
        /// The text.
        thinking: String,
    },
    /// The signature of the thinking, at its end.
    SignatureDelta {
        /// [`SIGNATURE`].
        signature: String,
    },
    /// A part of the arguments of a call.
    InputJsonDelta {
        /// A part of their JSON, cut at any character.
        partial_json: String,
    },
}

/// The end of a streamed answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageEnd {
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The stop text that ended it; always `null`.
    pub stop_sequence: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cached_tokens_are_not_counted_as_input_again() {
        let usage = Usage { prompt_tokens: 10, completion_tokens: 3, cached_tokens: Some(8) };
        assert_eq!(
            serde_json::to_value(MessageUsage::from(usage)).unwrap(),
            json!({
                "input_tokens": 2, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 0,
                "output_tokens": 3,
            })
        );
        let unknown = Usage { cached_tokens: None, ..usage };
        assert_eq!(MessageUsage::from(unknown).input_tokens, 10);
    }
}
