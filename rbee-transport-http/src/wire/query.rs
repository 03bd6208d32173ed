//! What is asked in the query of an address.

use rbee_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;

/// The path with these fields as its query.
///
/// # Errors
/// [`ErrorKind::Internal`] where the fields are not plain values.
pub(crate) fn with(path: &str, fields: &impl Serialize) -> Result<String> {
    let wrong = |what: String| Err(Error::new(ErrorKind::Internal, format!("no query: {what}")));
    let fields = match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return wrong(format!("{other} has no fields")),
        Err(cause) => return wrong(cause.to_string()),
    };
    let mut out = path.to_owned();
    for (index, (name, value)) in fields.iter().enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        match value {
            Value::String(text) => put(&mut out, text),
            Value::Number(number) => out.push_str(&number.to_string()),
            other => return wrong(format!("{name} is {other}")),
        }
    }
    Ok(out)
}

fn put(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hive::{Model, Stop};

    #[test]
    fn fields_become_a_query_that_any_reader_understands() {
        assert_eq!(with("/x", &Stop { grace_ms: 5 }).unwrap(), "/x?grace_ms=5");
        let model = Model { model: "file:/a b/é&c".parse().unwrap() };
        assert_eq!(with("/x", &model).unwrap(), "/x?model=file:/a%20b/%C3%A9%26c");
        assert_eq!(with("/x", &7).unwrap_err().kind(), ErrorKind::Internal);
    }
}
