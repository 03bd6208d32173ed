//! The fields of the Responses API that rbee does not support, and the values of them that are accepted anyway.

use crate::server::queen::field_rules::Rule::{
    self, AnyBool, AnyObject, AnyText, Empty, False, Ignored, Nothing, OneOf,
};

/// All tables.
#[cfg(test)]
pub(in crate::server::queen) const TABLES: [&[(&str, Rule)]; 11] = [
    REQUEST,
    REASONING,
    TEXT,
    STREAM_OPTIONS,
    FUNCTION,
    CUSTOM,
    NAMESPACE,
    SERVER_TOOL,
    MESSAGE,
    PART,
    CALL,
];

/// Of a request.
pub(super) const REQUEST: &[(&str, Rule)] = &[
    ("access_programs", Nothing),
    ("background_options", Nothing),
    // Codex describes itself in it.
    ("client_metadata", AnyObject),
    ("context_management", Empty),
    ("conversation", Nothing),
    ("image", Nothing),
    // It limits tools that the server runs, and there are none.
    ("max_tool_calls", Ignored),
    ("moderation", Nothing),
    ("prompt", Nothing),
    ("prompt_cache_key", AnyText),
    ("prompt_cache_options", AnyObject),
    ("prompt_cache_retention", AnyText),
    ("safety_identifier", AnyText),
    ("service_tier", OneOf(&["auto", "default"])),
    ("truncation", OneOf(&["disabled"])),
    ("user", AnyText),
];

/// Of `reasoning`.
pub(super) const REASONING: &[(&str, Rule)] = &[
    // Chat templates decide which reasoning of earlier turns a model reads.
    ("context", OneOf(&["auto"])),
    ("mode", OneOf(&["standard"])),
];

/// Of `text`. Codex always sends a verbosity for the models that it knows by name.
pub(super) const TEXT: &[(&str, Rule)] = &[("verbosity", OneOf(&["low", "medium", "high"]))];

/// Of `stream_options`.
pub(super) const STREAM_OPTIONS: &[(&str, Rule)] = &[("include_obfuscation", AnyBool)];

/// Of a function. Its arguments always follow the schema. A function that could be searched for is always offered.
pub(super) const FUNCTION: &[(&str, Rule)] = &[
    ("allowed_callers", Ignored),
    ("async", False),
    ("cache_control", Ignored),
    ("defer_loading", AnyBool),
    ("output_schema", AnyObject),
];

/// Of a custom tool.
pub(super) const CUSTOM: &[(&str, Rule)] =
    &[("allowed_callers", Ignored), ("async", False), ("defer_loading", AnyBool)];

/// Of a namespace: its tools have descriptions of their own.
pub(super) const NAMESPACE: &[(&str, Rule)] = &[("description", AnyText)];

/// Of a tool that only a server could run, and that the model is not offered: any settings.
pub(super) const SERVER_TOOL: &[(&str, Rule)] = &[
    ("action", Ignored),
    ("background", Ignored),
    ("description", Ignored),
    ("execution", Ignored),
    ("external_web_access", Ignored),
    ("filters", Ignored),
    ("indexed_web_access", Ignored),
    ("input_fidelity", Ignored),
    ("input_image_mask", Ignored),
    ("moderation", Ignored),
    ("model", Ignored),
    ("output_compression", Ignored),
    ("output_format", Ignored),
    ("parameters", Ignored),
    ("partial_images", Ignored),
    ("quality", Ignored),
    ("search_content_types", Ignored),
    ("search_context_size", Ignored),
    ("size", Ignored),
    ("user_location", Ignored),
];

/// Of a message: clients send answers back as they have received them.
pub(super) const MESSAGE: &[(&str, Rule)] = &[
    ("annotations", Ignored),
    ("created_at", Ignored),
    ("id", Ignored),
    ("metadata", Ignored),
    ("phase", Ignored),
    ("status", Ignored),
];

/// Of a part of a message or of a result.
pub(super) const PART: &[(&str, Rule)] = &[
    ("annotations", Ignored),
    ("cache_control", Ignored),
    ("id", Ignored),
    ("logprobs", Ignored),
    // The Python client adds it to what it has parsed.
    ("parsed", Ignored),
    ("prompt_cache_breakpoint", AnyObject),
];

/// Of a call, and of its result.
pub(super) const CALL: &[(&str, Rule)] = &[
    ("async", False),
    ("caller", Ignored),
    ("created_by", Ignored),
    ("id", Ignored),
    ("metadata", Ignored),
    ("parsed_arguments", Ignored),
    ("status", Ignored),
    // Codex says with a result whether the command succeeded; the text of the result says it too.
    ("success", AnyBool),
];
