//! The fields of OpenAI's API that rbee does not support, and the values of them that are accepted anyway.
//!
//! The tables have every field that OpenAI's official clients can send and that [`request`](super::request) does not
//! read.

use crate::server::queen::field_rules::Rule::{
    self, AnyBool, AnyObject, AnyText, Empty, False, Ignored, Nothing, One, OneOf, TextAlone, True,
    Zero,
};

/// All tables.
#[cfg(test)]
pub(in crate::server::queen) const TABLES: [&[(&str, Rule)]; 13] = [
    COMMON,
    GENERATE,
    CHAT,
    COMPLETION,
    MESSAGE,
    TEXT_PART,
    STREAM_OPTIONS,
    JOB,
    TOOL,
    FUNCTION,
    TOOL_CALL,
    JSON_SCHEMA,
    REASONING,
];

/// Of every request: they do not change the answer.
pub(super) const COMMON: &[(&str, Rule)] = &[
    ("metadata", AnyObject),
    ("prompt_cache_key", AnyText),
    ("prompt_cache_options", AnyObject),
    ("prompt_cache_retention", AnyText),
    ("safety_identifier", AnyText),
    ("service_tier", OneOf(&["auto", "default"])),
    ("store", False),
    ("user", AnyText),
];

/// Of a chat and of a completion. The second half is not OpenAI's: clients of vLLM and of llama.cpp send these.
pub(super) const GENERATE: &[(&str, Rule)] = &[
    ("cache_prompt", AnyBool),
    ("ignore_eos", False),
    ("include_stop_str_in_output", False),
    ("length_penalty", One),
    ("mirostat", Zero),
    ("repeat_penalty", One),
    ("skip_special_tokens", True),
    ("spaces_between_special_tokens", True),
    ("tfs_z", One),
    ("typical_p", One),
    ("use_beam_search", False),
];

/// Of a chat.
pub(super) const CHAT: &[(&str, Rule)] = &[
    ("add_generation_prompt", True),
    ("audio", Nothing),
    ("continue_final_message", False),
    ("echo", False),
    ("function_call", OneOf(&["none", "auto"])),
    ("functions", Empty),
    ("modalities", TextAlone),
    ("moderation", Nothing),
    ("prediction", Nothing),
    ("verbosity", OneOf(&["medium"])),
    ("web_search_options", Nothing),
];

/// Of `reasoning`. Reasoning is always in a field of its own.
pub(super) const REASONING: &[(&str, Rule)] = &[
    ("context", Nothing),
    ("exclude", False),
    ("generate_summary", AnyText),
    ("summary", AnyText),
];

/// Of a completion of bare text.
pub(super) const COMPLETION: &[(&str, Rule)] = &[("echo", False)];

/// Of a message. Clients send the answers of this and of other services back as they have received them, so the fields
/// that such an answer can have are ignored if they say nothing that the model has to read: its reasoning too, which
/// chat templates leave out of earlier turns.
pub(super) const MESSAGE: &[(&str, Rule)] = &[
    ("annotations", Ignored),
    ("audio", Nothing),
    ("cache_control", Ignored),
    ("citations", Ignored),
    ("created_at", Ignored),
    ("finish_reason", Ignored),
    ("function_call", Nothing),
    ("id", Ignored),
    ("images", Empty),
    ("index", Ignored),
    ("logprobs", Ignored),
    ("metadata", Ignored),
    ("model", Ignored),
    ("object", Ignored),
    ("parsed", Nothing),
    ("partial", False),
    ("prefix", False),
    ("provider_specific_fields", Ignored),
    ("reasoning", Ignored),
    ("reasoning_content", Ignored),
    ("reasoning_details", Ignored),
    ("reasoning_opaque", Ignored),
    ("reasoning_text", Ignored),
    ("refusal", Nothing),
    ("status", Ignored),
    ("stop_reason", Ignored),
    ("thinking", Ignored),
    ("thinking_blocks", Ignored),
    ("timestamp", Ignored),
    ("type", OneOf(&["message"])),
    ("usage", Ignored),
];

/// Of a tool.
pub(super) const TOOL: &[(&str, Rule)] = &[("cache_control", Ignored)];

/// Of the function of a tool. Arguments always follow the schema, whether that is requested or not.
pub(super) const FUNCTION: &[(&str, Rule)] = &[("cache_control", Ignored), ("strict", AnyBool)];

/// Of the JSON schema of an answer. It is enforced, whether that is requested or not.
pub(super) const JSON_SCHEMA: &[(&str, Rule)] =
    &[("description", AnyText), ("name", AnyText), ("strict", AnyBool)];

/// Of a tool call, and of its function: clients send back what they have received.
pub(super) const TOOL_CALL: &[(&str, Rule)] = &[
    ("cache_control", Ignored),
    ("extra_content", Ignored),
    ("index", Ignored),
    ("parsed_arguments", Ignored),
    ("provider_specific_fields", Ignored),
];

/// Of a text part of a message.
pub(super) const TEXT_PART: &[(&str, Rule)] = &[
    ("annotations", Ignored),
    ("cache_control", Ignored),
    ("citations", Ignored),
    ("id", Ignored),
    ("logprobs", Ignored),
    ("prompt_cache_breakpoint", AnyObject),
    ("provider_specific_fields", Ignored),
];

/// Of the options of a stream.
pub(super) const STREAM_OPTIONS: &[(&str, Rule)] =
    &[("continuous_usage_stats", False), ("include_obfuscation", AnyBool)];

/// Of a job that runs without a reader.
pub(super) const JOB: &[(&str, Rule)] =
    &[("n", One), ("stream", False), ("stream_options", Nothing)];
