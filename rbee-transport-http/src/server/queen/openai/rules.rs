//! The fields of OpenAI's API that rbee does not support, and the values of them that are accepted anyway.
//!
//! A value that requests nothing is accepted, because clients send it; any other value is refused by name. The table
//! has every field that OpenAI's official clients can send and that [`request`](super::request) does not read.

use rbee_core::Result;
use serde_json::{Value, value::RawValue};

use super::fields::{not_allowed, parse};

/// The accepted values of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Only `null`.
    Nothing,
    /// 0.
    Zero,
    /// 1.
    One,
    /// `false`.
    False,
    /// An empty list, object or text.
    Empty,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// The list `["text"]`.
    TextAlone,
    /// The object `{"type": "text"}`.
    TextFormat,
    /// Any text: it does not change the answer.
    AnyText,
    /// `true` or `false`: it does not change the answer.
    AnyBool,
    /// Any object: it does not change the answer.
    AnyObject,
}

use Rule::{
    AnyBool, AnyObject, AnyText, Empty, False, Nothing, One, OneOf, TextAlone, TextFormat, Zero,
};

/// Of a chat.
pub(super) const CHAT: &[(&str, Rule)] = &[
    ("audio", Nothing),
    ("frequency_penalty", Zero),
    ("function_call", OneOf(&["none", "auto"])),
    ("functions", Empty),
    ("logit_bias", Empty),
    ("logprobs", False),
    ("metadata", AnyObject),
    ("modalities", TextAlone),
    ("moderation", Nothing),
    ("parallel_tool_calls", AnyBool),
    ("prediction", Nothing),
    ("presence_penalty", Zero),
    ("prompt_cache_key", AnyText),
    ("prompt_cache_options", AnyObject),
    ("prompt_cache_retention", AnyText),
    ("reasoning_effort", OneOf(&["none"])),
    ("response_format", TextFormat),
    ("safety_identifier", AnyText),
    ("service_tier", OneOf(&["auto", "default"])),
    ("store", False),
    ("tool_choice", OneOf(&["none", "auto"])),
    ("tools", Empty),
    ("top_logprobs", Zero),
    ("user", AnyText),
    ("verbosity", OneOf(&["medium"])),
    ("web_search_options", Nothing),
];

/// Of a completion of bare text.
pub(super) const COMPLETION: &[(&str, Rule)] = &[
    ("echo", False),
    ("frequency_penalty", Zero),
    ("logit_bias", Empty),
    ("logprobs", Nothing),
    ("presence_penalty", Zero),
    ("suffix", Empty),
    ("user", AnyText),
];

/// Of a request for vectors.
pub(super) const EMBEDDING: &[(&str, Rule)] = &[("dimensions", Nothing), ("user", AnyText)];

/// Of a message.
pub(super) const MESSAGE: &[(&str, Rule)] = &[
    ("annotations", Empty),
    ("audio", Nothing),
    ("function_call", Nothing),
    ("name", Nothing),
    ("refusal", Nothing),
    ("tool_call_id", Nothing),
    ("tool_calls", Empty),
];

/// Of a text part of a message.
pub(super) const TEXT_PART: &[(&str, Rule)] = &[("prompt_cache_breakpoint", AnyObject)];

/// Of the options of a stream.
pub(super) const STREAM_OPTIONS: &[(&str, Rule)] = &[("include_obfuscation", False)];

/// Of a job that runs without a reader.
pub(super) const JOB: &[(&str, Rule)] =
    &[("n", One), ("stream", False), ("stream_options", Nothing)];

impl Rule {
    fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Nothing, _) => false,
            (Zero, value) => value.as_f64() == Some(0.0),
            (One, value) => value.as_f64() == Some(1.0),
            (False, value) => value.as_bool() == Some(false),
            (Empty, Value::Array(list)) => list.is_empty(),
            (Empty, Value::Object(map)) => map.is_empty(),
            (Empty, Value::String(text)) => text.is_empty(),
            (OneOf(texts), Value::String(text)) => texts.contains(&text.as_str()),
            (TextAlone, Value::Array(list)) => list.iter().all(|item| item == "text"),
            (TextFormat, Value::Object(map)) => {
                map.len() == 1 && map.get("type").is_some_and(|kind| kind == "text")
            }
            (AnyText, value) => value.is_string(),
            (AnyBool, value) => value.is_boolean(),
            (AnyObject, value) => value.is_object(),
            (Empty | OneOf(_) | TextAlone | TextFormat, _) => false,
        }
    }

    fn allowed(self) -> String {
        let only = |what: &str| format!("{what}; rbee does not support more");
        match self {
            Nothing => "none: rbee does not support it".into(),
            Zero => only("0"),
            One => only("1"),
            False => only("false"),
            Empty => only("an empty one"),
            OneOf(texts) => {
                only(&texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or "))
            }
            TextAlone => only(r#"["text"]"#),
            TextFormat => only(r#"{"type": "text"}"#),
            AnyText => "a text".into(),
            AnyBool => "true or false".into(),
            AnyObject => "an object".into(),
        }
    }
}

/// Checks a field against its rule. `None` if the table does not have it.
///
/// # Errors
/// For a value that requests something, with its full name.
pub(super) fn check(
    table: &[(&str, Rule)],
    field: &str,
    name: &str,
    value: &RawValue,
) -> Option<Result<()>> {
    let (_, rule) = table.iter().find(|(known, _)| *known == field)?;
    Some(parse::<Value>(value, name, "JSON").and_then(|parsed| {
        if rule.allows(&parsed) { Ok(()) } else { Err(not_allowed(value, name, &rule.allowed())) }
    }))
}
