//! The fields of OpenAI's API that rbee does not support, and the values of them that are accepted anyway.
//!
//! A value that requests nothing is accepted, because clients send it; any other value is refused by name. The table
//! has every field that OpenAI's official clients can send and that [`request`](super::request) does not read.

use rbee_core::Result;
use serde_json::{Value, value::RawValue};

use super::fields::{Fields, not_allowed, parse};

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
    /// `true`.
    True,
    /// An empty list, object or text.
    Empty,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// The list `["text"]`.
    TextAlone,
    /// Any text: it does not change the answer.
    AnyText,
    /// `true` or `false`: it does not change the answer.
    AnyBool,
    /// Any object: it does not change the answer.
    AnyObject,
    /// Anything: it is not for the model.
    Ignored,
}

use Rule::{
    AnyBool, AnyObject, AnyText, Empty, False, Ignored, Nothing, One, OneOf, TextAlone, True, Zero,
};

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
    ("chat_template_kwargs", Empty),
    ("continue_final_message", False),
    ("echo", False),
    ("function_call", OneOf(&["none", "auto"])),
    ("functions", Empty),
    ("modalities", TextAlone),
    ("moderation", Nothing),
    ("prediction", Nothing),
    ("reasoning", Empty),
    ("reasoning_effort", OneOf(&["none"])),
    ("verbosity", OneOf(&["medium"])),
    ("web_search_options", Nothing),
];

/// Of a completion of bare text.
pub(super) const COMPLETION: &[(&str, Rule)] = &[("echo", False), ("suffix", Empty)];

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

impl Rule {
    fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) | (Ignored, _) => true,
            (Nothing, _) => false,
            (Zero, value) => value.as_f64() == Some(0.0),
            (One, value) => value.as_f64() == Some(1.0),
            (False, value) => value.as_bool() == Some(false),
            (True, value) => value.as_bool() == Some(true),
            (Empty, Value::Array(list)) => list.is_empty(),
            (Empty, Value::Object(map)) => map.is_empty(),
            (Empty, Value::String(text)) => text.is_empty(),
            (OneOf(texts), Value::String(text)) => texts.contains(&text.as_str()),
            (TextAlone, Value::Array(list)) => list.iter().all(|item| item == "text"),
            (AnyText, value) => value.is_string(),
            (AnyBool, value) => value.is_boolean(),
            (AnyObject, value) => value.is_object(),
            (Empty | OneOf(_) | TextAlone, _) => false,
        }
    }

    fn allowed(self) -> String {
        let only = |what: &str| format!("{what}; rbee does not support more");
        match self {
            Nothing => "none: rbee does not support it".into(),
            Zero => only("0"),
            One => only("1"),
            False => only("false"),
            True => only("true"),
            Empty => only("an empty one"),
            OneOf(texts) => {
                only(&texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or "))
            }
            TextAlone => only(r#"["text"]"#),
            AnyText => "a text".into(),
            AnyBool => "true or false".into(),
            AnyObject => "an object".into(),
            Ignored => "anything".into(),
        }
    }
}

/// Checks that the remaining fields of an object are known and request nothing.
///
/// # Errors
/// For a field that is in none of the tables, and as [`check`].
pub(super) fn finish(fields: Fields<'_>, tables: &[&[(&str, Rule)]]) -> Result<()> {
    let path = fields.name("");
    fields.finish(|field, value| {
        let name = format!("{path}{field}");
        tables.iter().find_map(|table| check(table, field, &name, value))
    })
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
    if matches!(rule, Ignored) {
        return Some(Ok(()));
    }
    Some(parse::<Value>(value, name, "JSON").and_then(|parsed| {
        if rule.allows(&parsed) { Ok(()) } else { Err(not_allowed(value, name, &rule.allowed())) }
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Values that a rule accepts, and values that it refuses.
    fn examples(rule: Rule) -> (Vec<Value>, Vec<Value>) {
        let (something, list) = (json!({"type": "x"}), json!([1]));
        match rule {
            Nothing => (vec![], vec![something, list, json!(false), json!(0), json!("")]),
            Zero => (vec![json!(0), json!(0.0)], vec![json!(1), json!(-0.5), json!("0")]),
            One => (vec![json!(1), json!(1.0)], vec![json!(0), json!(1.5), json!("1")]),
            False => (vec![json!(false)], vec![json!(true), json!(0), json!("false")]),
            True => (vec![json!(true)], vec![json!(false), json!(1), json!("true")]),
            Empty => (vec![json!([]), json!({}), json!("")], vec![something, list, json!("x")]),
            OneOf(texts) => {
                let good = texts.iter().map(|text| json!(text)).collect();
                (good, vec![json!("x"), something, json!(true)])
            }
            TextAlone => (vec![json!(["text"])], vec![json!(["text", "audio"]), json!("text")]),
            AnyText => (vec![json!(""), json!("x")], vec![json!(1), something]),
            AnyBool => (vec![json!(true), json!(false)], vec![json!(1), json!("true")]),
            AnyObject => (vec![json!({}), something], vec![json!("x"), list]),
            Ignored => (vec![something, list, json!("x"), json!(7), json!(true)], vec![]),
        }
    }

    #[test]
    fn every_field_is_taken_if_it_requests_nothing_and_refused_by_its_name_if_it_requests_something()
     {
        let tables = [
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
        ];
        for table in tables {
            for (index, (field, rule)) in table.iter().enumerate() {
                assert!(table[..index].iter().all(|(other, _)| other != field), "{field} twice");
                let checked = |value: &Value| {
                    let raw = serde_json::value::to_raw_value(value).unwrap();
                    check(table, field, &format!("messages[0].{field}"), &raw).unwrap()
                };
                let (good, bad) = examples(*rule);
                for value in good.into_iter().chain([Value::Null]) {
                    assert!(checked(&value).is_ok(), "{field}: {value}");
                }
                for value in bad {
                    let error = checked(&value).unwrap_err();
                    let place = format!("messages[0].{field}");
                    assert_eq!(error.param(), Some(&*place), "{value}");
                    assert!(error.message().starts_with(&place), "{error}");
                }
            }
        }
        let raw = serde_json::value::to_raw_value(&1).unwrap();
        assert!(check(CHAT, "color", "color", &raw).is_none());
    }
}
