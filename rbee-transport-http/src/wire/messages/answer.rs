//! The bodies of answers, and the events of streams.

use rbee_core::Usage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The signature of every block of type `thinking`. rbee signs nothing: clients send a signature back, and some of them
/// drop a block without one.
pub const SIGNATURE: &str = "cmJlZQ==";

/// The whole answer to a [`MessagesRequest`](super::MessagesRequest).
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
    /// The stop text that ended it, if `stop_reason` is `stop_sequence`.
    pub stop_sequence: Option<String>,
    /// Token counts.
    pub usage: MessageUsage,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended it.
    EndTurn,
    /// It reached its maximum length.
    MaxTokens,
    /// The model generated a stop text. If the worker does not report which one, the reason is `end_turn`.
    StopSequence,
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

/// The answer to a [`CountTokensRequest`](super::CountTokensRequest).
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
    /// The stop text that ended it, if `stop_reason` is `stop_sequence`.
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
