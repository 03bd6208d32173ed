//! The bodies of Anthropic's Messages API, as far as rbee supports them.
//!
//! How the queen reads a request, and what it does with every other field that Anthropic's clients can send, is defined
//! with its routes; this is what clients build and receive.

mod answer;
mod request;

pub use answer::{
    AnswerBlock, BlockDelta, MessageAnswer, MessageEnd, MessageUsage, SIGNATURE, StopReason,
    StreamEvent, TokensCount,
};
pub use request::{
    Content, Conversation, CountTokensRequest, InputBlock, InputMessage, InputRole, InputTool,
    MessagesRequest, OutputConfig, OutputFormat, Thinking, ThinkingDisplay, ToolChoice,
};

/// `POST`: a conversation, with Anthropic's body.
pub const MESSAGES: &str = "/v1/messages";
/// `POST`: the number of tokens of a conversation, with Anthropic's body.
pub const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
