//! Checks of the values of single keywords.

use llguidance::regex_to_lark;
use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Value, json};

use super::{
    super::{error::Error, limits},
    keywords::FORMATS,
    pointer::Pointer,
};

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

pub(super) fn types(value: &Value, at: &Pointer) -> Result<Value, Error> {
    let names = match value {
        Value::Array(names) if !names.is_empty() => names.iter().collect(),
        other => vec![other],
    };
    for name in names {
        if !name.as_str().is_some_and(|name| TYPES.contains(&name)) {
            let allowed = format!("one of {}, or a list of them", TYPES.join(", "));
            return Err(wrong(at, "type", &allowed, name));
        }
    }
    Ok(value.clone())
}

pub(super) fn format(value: &Value, at: &Pointer) -> Result<Value, Error> {
    let name = value.as_str().ok_or_else(|| wrong(at, "format", "a string", value))?;
    if !FORMATS.contains(&name) {
        let advice = format!("allowed are {}; or use pattern", FORMATS.join(", "));
        return Err(refused(&format!("format {:?}", shorten(name)), at, &advice));
    }
    Ok(value.clone())
}

pub(super) fn count(value: &Value, keyword: &str, at: &Pointer) -> Result<Value, Error> {
    // Some generators write 3.0.
    let float = value.as_f64().filter(|float| float.fract() == 0.0 && *float >= 0.0);
    let count = float.ok_or_else(|| wrong(at, keyword, "a number of 0 or more", value))?;
    if count > limits::MAX_COUNT as f64 {
        let most = limits::MAX_COUNT;
        return Err(Error::too_complex(format!(
            "{keyword} at {at} is {count}; allowed is at most {most}"
        )));
    }
    Ok(json!(count as u64))
}

pub(super) fn number(value: &Value, keyword: &str, at: &Pointer) -> Result<Value, Error> {
    let number = value.as_f64().ok_or_else(|| wrong(at, keyword, "a number", value))?;
    // Just above the limit an integer becomes the same float as the limit.
    let is_beyond = |integer: i64| integer.unsigned_abs() > limits::MAX_NUMBER as u64;
    if number.abs() > limits::MAX_NUMBER || value.as_i64().is_some_and(is_beyond) {
        return Err(Error::invalid(format!(
            "{keyword} at {at} is {value}; allowed are numbers between -2^53 and 2^53, which all programs read alike"
        )));
    }
    if keyword == "multipleOf" && number <= 0.0 {
        return Err(wrong(at, keyword, "a number above 0", value));
    }
    // A value such as 1.0 is an integer for the standard.
    if number.fract() == 0.0 {
        return Ok(json!(number as i64));
    }
    Ok(value.clone())
}

pub(super) fn refused(keyword: &str, at: &Pointer, advice: &str) -> Error {
    Error::invalid(format!("{} at {at} is not supported; {advice}", shorten(keyword)))
}

pub(super) fn wrong(at: &Pointer, what: &str, allowed: &str, value: &Value) -> Error {
    let value = shorten(&value.to_string());
    Error::invalid(format!("the JSON schema has {value} as {what} at {at}; allowed is {allowed}"))
}

/// Checks that a regular expression demands no character that an answer cannot write. Other mistakes in it are found
/// when it is compiled.
pub(super) fn pattern(pattern: &str, keyword: &str, at: &Pointer) -> Result<(), Error> {
    // The same reading as that of the library.
    let Ok(parsed) = regex_syntax::parse(&regex_to_lark(pattern, "dw")) else { return Ok(()) };
    match unwritable_in(&parsed) {
        Some(byte) => Err(unwritable(char::from(byte), keyword, at)),
        None => Ok(()),
    }
}

/// Checks that an answer can write each character of a string.
pub(super) fn string(text: &str, keyword: &str, at: &Pointer) -> Result<(), Error> {
    let found = text.bytes().find(|byte| is_unwritable(*byte));
    found.map_or(Ok(()), |byte| Err(unwritable(char::from(byte), keyword, at)))
}

/// The control characters without a short escape: `\u` is never allowed.
fn is_unwritable(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\x08' | b'\t' | b'\n' | b'\x0c' | b'\r')
}

/// A character of a literal part that cannot be written. Classes are no problem: they lose the character. The nesting is
/// limited by the parser.
fn unwritable_in(parsed: &Hir) -> Option<u8> {
    match parsed.kind() {
        HirKind::Literal(literal) => literal.0.iter().copied().find(|byte| is_unwritable(*byte)),
        HirKind::Repetition(repetition) => unwritable_in(&repetition.sub),
        HirKind::Capture(capture) => unwritable_in(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().find_map(unwritable_in)
        }
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => None,
    }
}

fn unwritable(character: char, keyword: &str, at: &Pointer) -> Error {
    Error::invalid(format!(
        "{keyword} at {at} has the control character {:?}, which is not supported in answers; leave it out",
        character
    ))
}

/// The beginning of a client's text, for a message.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
