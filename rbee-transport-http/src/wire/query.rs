//! Query strings.

use rbee_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;

/// The path with these fields as its query. A field that is `None` is left out, and `()` has no fields.
///
/// # Errors
/// [`ErrorKind::Internal`] if a field is not a plain value.
pub fn with(path: &str, fields: &impl Serialize) -> Result<String> {
    let wrong = |what: String| Err(Error::new(ErrorKind::Internal, format!("not a query: {what}")));
    let fields = match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) => return Ok(path.to_owned()),
        Ok(other) => return wrong(format!("{other} has no fields")),
        Err(cause) => return wrong(cause.to_string()),
    };
    let mut out = path.to_owned();
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    for (index, (name, value)) in given.enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        match value {
            Value::String(text) => out.push_str(&encode(text)),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
            other => return wrong(format!("{name} is {other}")),
        }
    }
    Ok(out)
}

/// The text for a place in a path or a query. Slashes, colons and `@`, which are in names of models, stay as they are.
///
/// ```
/// use rbee_transport_http::wire::query::encode;
///
/// assert_eq!(encode("hf:org/repo@main::file=a b?#%ä"), "hf:org/repo@main::file%3Da%20b%3F%23%25%C3%A4");
/// ```
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        hive::{Model, Stop},
        queen::LogQuery,
    };

    #[test]
    fn fields_become_a_query_that_any_reader_understands() {
        assert_eq!(with("/x", &Stop { grace_ms: 5 }).unwrap(), "/x?grace_ms=5");
        let model = Model { model: "file:/a b/é&c".parse().unwrap() };
        assert_eq!(with("/x", &model).unwrap(), "/x?model=file:/a%20b/%C3%A9%26c");
        assert_eq!(with("/x", &()).unwrap(), "/x");
        let query = LogQuery { level: None, lines: Some(3), follow: true, ..LogQuery::default() };
        // Their order does not matter, and is another one with some features of serde_json.
        let made = with("/x", &query).unwrap();
        assert!(["/x?follow=true&lines=3", "/x?lines=3&follow=true"].contains(&&*made), "{made}");
        let none = serde_json::json!({"a": null, "b": "c"});
        assert_eq!(with("/x", &none).unwrap(), "/x?b=c");
        assert_eq!(with("/x", &7).unwrap_err().kind(), ErrorKind::Internal);
    }
}
