//! What an API does with the fields that rbee does not support: the values of them that are accepted anyway.
//!
//! A value that requests nothing is accepted, because clients send it; any other value is refused by name.

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
    use crate::server::queen::{messages, ollama, openai, rerank, responses};

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
        let openais = openai::TABLES.into_iter().chain(responses::TABLES).chain(rerank::TABLES);
        for table in openais.chain(messages::TABLES).chain(ollama::TABLES) {
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
        assert!(check(openai::TABLES[2], "color", "color", &raw).is_none());
    }
}
