//! The fields of Ollama's API that rbee does not support, and the values of them that are accepted anyway.
//!
//! The tables have every field that Ollama's official clients can send and that the other files do not read.

use crate::server::queen::field_rules::Rule::{
    self, AnyBool, AnyText, Empty, False, Ignored, Nothing, One, OneOf, True, Zero,
};

/// All tables.
#[cfg(test)]
pub(in crate::server::queen) const TABLES: [&[(&str, Rule)]; 11] =
    [COMMON, CHAT, GENERATE, OPTIONS, MESSAGE, TOOL_CALL, TOOL, FUNCTION, EMBED, MODEL, PULL];

/// Of a chat and of a prompt. `shift` and `truncate` say what happens to a prompt that is too long for the context: rbee
/// refuses it, whatever they say.
pub(super) const COMMON: &[(&str, Rule)] = &[
    ("_debug_render_only", False),
    ("shift", AnyBool),
    ("template", Empty),
    ("truncate", AnyBool),
];

/// Of a chat. Ollama does not read the system prompt of a chat from here.
pub(super) const CHAT: &[(&str, Rule)] = &[("system", Empty)];

/// Of a prompt. `context` is from answers of Ollama; those of rbee have none. The sizes are those of images.
pub(super) const GENERATE: &[(&str, Rule)] = &[
    ("context", Empty),
    ("height", Nothing),
    ("images", Empty),
    ("steps", Nothing),
    ("width", Nothing),
];

/// Of the options. Those that are ignored or may be anything say how a machine runs the model, which rbee decides, or
/// belong to a way of sampling that is off.
pub(super) const OPTIONS: &[(&str, Rule)] = &[
    ("embedding_only", False),
    ("f16_kv", AnyBool),
    ("logits_all", AnyBool),
    ("low_vram", AnyBool),
    ("main_gpu", Ignored),
    ("mirostat", Zero),
    ("mirostat_eta", Ignored),
    ("mirostat_tau", Ignored),
    ("num_batch", Ignored),
    ("num_gpu", Ignored),
    // The part of the prompt that Ollama keeps if it cuts the prompt.
    ("num_keep", Ignored),
    ("num_thread", Ignored),
    ("numa", AnyBool),
    ("penalize_newline", True),
    ("tfs_z", One),
    ("typical_p", One),
    ("use_mlock", AnyBool),
    ("use_mmap", AnyBool),
    ("vocab_only", False),
];

/// Of a message. Clients send answers back as they have received them; chat templates leave out the reasoning of earlier
/// turns.
pub(super) const MESSAGE: &[(&str, Rule)] = &[("images", Empty), ("thinking", Ignored)];

/// Of a tool call, and of its function.
pub(super) const TOOL_CALL: &[(&str, Rule)] = &[("index", Ignored), ("type", OneOf(&["function"]))];

/// Of a tool. The official client for Go has `items`, without a meaning.
pub(super) const TOOL: &[(&str, Rule)] = &[("items", Nothing), ("type", OneOf(&["function"]))];

/// Of the function of a tool. Arguments always follow the schema, whether that is requested or not.
pub(super) const FUNCTION: &[(&str, Rule)] =
    &[("strict", AnyBool), ("type", OneOf(&["function", "object"]))];

/// Of a request for vectors. A text that is too long is refused, whatever `truncate` says.
pub(super) const EMBED: &[(&str, Rule)] = &[("truncate", AnyBool)];

/// Of a question about a model, and of its removal. Ollama does not read the first three either.
pub(super) const MODEL: &[(&str, Rule)] =
    &[("options", Ignored), ("system", Ignored), ("template", Ignored), ("verbose", AnyBool)];

/// Of a pull. Ollama does not read these any more.
pub(super) const PULL: &[(&str, Rule)] =
    &[("insecure", AnyBool), ("password", AnyText), ("username", AnyText)];
