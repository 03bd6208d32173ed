//! Texts that are HTML already, which the filters `safe` and `escape` make.

use minijinja::Value;

use super::{
    characters::original,
    limits::{Outcome, limit},
};

/// A text that is safe HTML if this value is.
pub(super) fn like(value: &Value, text: String) -> Value {
    if value.is_safe() { Value::from_safe_string(text) } else { Value::from(text) }
}

/// The text with nothing in it that has a meaning in HTML.
pub(super) fn escape_html(text: &str) -> Outcome<String> {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        limit(out.len())?;
        match original(character) {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(character),
        }
    }
    Ok(out)
}
