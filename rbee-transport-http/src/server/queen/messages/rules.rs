//! The fields of Anthropic's API that rbee does not read, and the values of them that are accepted.
//!
//! `cache_control` is accepted everywhere: every prompt that begins like an earlier one is computed from where they
//! differ, without being asked for it.

use crate::server::queen::field_rules::Rule::{
    self, AnyBool, AnyObject, AnyText, Empty, False, Ignored, Nothing, OneOf,
};

/// All tables.
#[cfg(test)]
pub(in crate::server::queen) const TABLES: [&[(&str, Rule)]; 11] = [
    REQUEST,
    MESSAGE,
    TEXT,
    TOOL_USE,
    TOOL_RESULT,
    THINKING_BLOCK,
    TOOL,
    THINKING,
    OUTPUT_CONFIG,
    CONTEXT_MANAGEMENT,
    CLEAR_THINKING,
];

/// Of a request.
pub(super) const REQUEST: &[(&str, Rule)] = &[
    ("billing_policy", Nothing),
    ("cache_control", Ignored),
    ("compaction", Nothing),
    ("container", Nothing),
    // It is about the cache of the service.
    ("diagnostics", AnyObject),
    ("fallback_credit_token", Nothing),
    ("fallbacks", Empty),
    ("inference_geo", OneOf(&["global"])),
    ("mcp_servers", Empty),
    ("metadata", AnyObject),
    ("service_tier", OneOf(&["auto", "standard_only"])),
    // The answer is the same.
    ("speed", OneOf(&["standard", "fast"])),
    // Clients react to this error: they send the whole conversation again.
    ("thread", Nothing),
    ("user_profile_id", Nothing),
    ("workspace_id", Nothing),
];

/// Of a message. Clients send back answers as they have received them.
pub(super) const MESSAGE: &[(&str, Rule)] = &[
    ("container", Nothing),
    ("context_management", Ignored),
    ("diagnostics", Ignored),
    ("id", Ignored),
    ("model", Ignored),
    ("stop_details", Ignored),
    ("stop_reason", Ignored),
    ("stop_sequence", Ignored),
    ("type", OneOf(&["message"])),
    ("usage", Ignored),
];

/// Of a block of text. Citations say where the text of an earlier answer is from.
pub(super) const TEXT: &[(&str, Rule)] = &[("cache_control", Ignored), ("citations", Ignored)];

/// Of a block with a call.
pub(super) const TOOL_USE: &[(&str, Rule)] =
    &[("cache_control", Ignored), ("caller", AnyObject), ("toolset_name", Nothing)];

/// Of a block with the result of a call.
pub(super) const TOOL_RESULT: &[(&str, Rule)] =
    &[("cache_control", Ignored), ("toolset_name", Nothing)];

/// Of a block of thinking. The model does not read it, as chat templates leave it out of earlier turns.
pub(super) const THINKING_BLOCK: &[(&str, Rule)] =
    &[("cache_control", Ignored), ("data", AnyText), ("signature", AnyText), ("thinking", AnyText)];

/// Of a tool. Arguments always follow the schema, whether that is requested or not, and are streamed as they come.
pub(super) const TOOL: &[(&str, Rule)] = &[
    ("cache_control", Ignored),
    ("defer_loading", False),
    ("eager_input_streaming", AnyBool),
    ("input_examples", Empty),
    ("strict", AnyBool),
];

/// Of `thinking`. How much a model thinks is up to the model.
pub(super) const THINKING: &[(&str, Rule)] = &[("budget_tokens", Ignored)];

/// Of `output_config`.
pub(super) const OUTPUT_CONFIG: &[(&str, Rule)] = &[("task_budget", Nothing)];

/// Of `context_management`.
pub(super) const CONTEXT_MANAGEMENT: &[(&str, Rule)] = &[];

/// Of the edit that removes earlier thinking, which is never read.
pub(super) const CLEAR_THINKING: &[(&str, Rule)] = &[("keep", Ignored)];
