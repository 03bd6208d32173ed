//! The bodies of OpenAI's API, as far as rbee supports them.
//!
//! How the queen reads a request, and what it does with every other field that OpenAI's clients can send, is defined
//! with its routes; this is what clients build and receive.

mod chat;
mod chat_answer;
mod completion;
mod embedding;
mod logprobs;
mod models;
mod options;
mod usage;

#[cfg(feature = "openapi")]
pub use chat::RoleName;
pub use chat::{ChatFunction, ChatRequest, ChatTool, Message};
pub use chat_answer::{
    CalledFunction, ChatChoice, ChatChunk, ChatCompletion, ChatMessage, ChatToolCall, ChunkChoice,
    Delta, FunctionDelta, ToolCallDelta,
};
pub use completion::{Completion, CompletionChoice, CompletionRequest};
pub use embedding::{
    Embedding, EmbeddingInput, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EncodingFormat,
    Vector,
};
pub use logprobs::{ChatLogprobs, ChatTokenLogprob, ChatTopLogprob, CompletionLogprobs};
pub use models::{Model, ModelList};
pub use options::{OneOrMany, Options, StreamOptions};
pub use usage::{PromptTokensDetails, Usage};

/// One model: `GET` below [`MODELS`](super::queen::MODELS); the id may contain slashes and colons.
pub const MODEL: &str = "/v1/models/{*id}";

/// The data after the last chunk of a stream that ended properly.
pub const DONE: &str = "[DONE]";
