//! The bodies of OpenAI's API, as far as rbee supports them.
//!
//! How the queen reads a request, and what it does with every other field that OpenAI's clients can send, is defined
//! with its routes; this is what clients build and receive.

use std::collections::BTreeMap;

use rbee_core::{Priority, Role, Usage as TokenUsage};
use serde::{Deserialize, Serialize};

/// One model: `GET` below [`MODELS`](super::queen::MODELS); the id may contain slashes and colons.
pub const MODEL: &str = "/v1/models/{*id}";

/// The data after the last chunk of a stream that ended properly.
pub const DONE: &str = "[DONE]";

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

/// Text to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The text, or up to 8 of them.
    pub prompt: OneOrMany,
    /// Respond with the log probability of each token, and of this many of the likeliest tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 20))]
    pub logprobs: Option<u8>,
    /// Sampling and limits.
    #[serde(flatten)]
    pub options: Options,
}

/// Texts to turn into vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingRequest {
    /// The model, a reference or an alias.
    #[cfg_attr(feature = "openapi", schema(example = "bee-tiny"))]
    pub model: String,
    /// The text, or several.
    pub input: EmbeddingInput,
    /// The length of the vectors, for a model that was trained for several; its own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub dimensions: Option<u32>,
    /// The encoding of vectors: `float`, the default, or `base64` (little-endian 32-bit floats).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
}

/// The texts of a request for vectors. Tokens are given by their ids, exactly as the model reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum EmbeddingInput {
    /// One text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// The tokens of one text.
    Tokens(Vec<u32>),
    /// The tokens of each text of a list.
    TokenLists(Vec<Vec<u32>>),
}

/// The encoding of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// The little-endian 32-bit floats one after the other, in base64.
    Base64,
}

/// One text or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// How text is generated, and its limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Options {
    /// Respond with a stream of server-sent events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Additions to the stream; only allowed with `stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// How many answers, each with a seed of its own: 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 8))]
    pub n: Option<u32>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub max_tokens: Option<u32>,
    /// 0 (always the likeliest token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 2))]
    pub temperature: Option<f32>,
    /// Keep the likeliest tokens that together have this probability: 0 (the likeliest one alone) to 1 (all).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 and -1 are off. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = -1))]
    pub top_k: Option<u32>,
    /// Drop tokens less likely than this share of the likeliest one's probability. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub min_p: Option<f32>,
    /// Divides the logits of tokens already seen. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(exclusive_minimum = 0, maximum = 10))]
    pub repetition_penalty: Option<f32>,
    /// Subtracted from the logits of tokens that the answer has already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = -2, maximum = 2))]
    pub presence_penalty: Option<f32>,
    /// Subtracted from the logit of a token for each time that the answer has it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = -2, maximum = 2))]
    pub frequency_penalty: Option<f32>,
    /// Added to the logits of these tokens, by id: -100, which forbids a token, to 100. At most 1,024 tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<String, f32>,
    /// The shortest answer, in tokens. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
    /// Texts that end the answer and are not part of it; at most 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<OneOrMany>,
    /// The same seed gives the same tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Interactive, the default, or batch. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::queen::PriorityName>))]
    pub priority: Option<Priority>,
    /// How long the job may run, in milliseconds. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_800_000))]
    pub timeout_ms: Option<u64>,
    /// How long the job may take in total, in milliseconds. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub deadline_ms: Option<u64>,
}

/// Additions to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StreamOptions {
    /// One more chunk at the end, with the token counts.
    #[serde(default)]
    pub include_usage: bool,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    #[serde(default)]
    pub completion_tokens: u64,
    /// The sum of both.
    pub total_tokens: u64,
    /// More about the tokens of the prompt, if the engine reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// More about the tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptTokensDetails {
    /// Those that were not computed, because the worker had them cached.
    #[serde(default)]
    pub cached_tokens: u64,
}

impl Usage {
    /// Adds the counts of one more answer; several answers to one prompt count the prompt once.
    pub fn add(&mut self, usage: TokenUsage, new_prompt: bool) {
        if new_prompt {
            self.prompt_tokens += u64::from(usage.prompt_tokens);
            if let Some(cached) = usage.cached_tokens {
                let details = self.prompt_tokens_details.get_or_insert_default();
                details.cached_tokens += u64::from(cached);
            }
        }
        self.completion_tokens += u64::from(usage.completion_tokens);
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// The whole response to a [`ChatRequest`].
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

/// The response to a [`CompletionRequest`], whole or one chunk of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Completion {
    /// `cmpl-` and the id of the (first) job.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// When it began, in seconds of the Unix epoch.
    pub created: u64,
    /// The model, as requested.
    pub model: String,
    /// The answers.
    pub choices: Vec<CompletionChoice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// One answer, or what is new of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionChoice {
    /// Its index: prompt by prompt, `n` for each.
    pub index: u32,
    /// The text.
    pub text: String,
    /// The log probabilities of its tokens, if they were requested.
    #[serde(default)]
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; in a stream, in the last chunk of the answer.
    pub finish_reason: Option<String>,
}

/// The response to an [`EmbeddingRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// The vectors, in the order of the texts.
    pub data: Vec<Embedding>,
    /// The model, as requested.
    pub model: String,
    /// Token counts.
    pub usage: EmbeddingUsage,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EmbeddingUsage {
    /// Tokens of the texts.
    pub prompt_tokens: u64,
    /// The same as `prompt_tokens`.
    pub total_tokens: u64,
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// The index of its text.
    pub index: u32,
    /// The numbers.
    pub embedding: Vector,
}

/// A vector, in the requested encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Vector {
    /// A list of numbers.
    Float(Vec<f32>),
    /// The little-endian 32-bit floats, in base64.
    Base64(String),
}

/// The available models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
    /// False: the list is complete. For Anthropic's clients.
    #[serde(default)]
    pub has_more: bool,
    /// The id of the first one. For Anthropic's clients.
    #[serde(default)]
    pub first_id: Option<String>,
    /// The id of the last one. For Anthropic's clients.
    #[serde(default)]
    pub last_id: Option<String>,
}

/// An available model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    /// The name to request it by.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When the queen started, in seconds of the Unix epoch: the queen does not know when the model was made.
    pub created: u64,
    /// `rbee`.
    pub owned_by: String,
    /// `model`, for Anthropic's clients.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The id again, for Anthropic's clients.
    #[serde(default)]
    pub display_name: String,
    /// `created` as RFC 3339 has it, for Anthropic's clients.
    #[serde(default)]
    pub created_at: String,
    /// The longest prompt and answer together, in tokens, if known. Not OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// What the model can do, as far as known: `completion`, `embedding`, `tools`, `structured_output`, `thinking`. Not
    /// OpenAI's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}
