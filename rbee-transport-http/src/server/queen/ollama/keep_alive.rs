//! Reads how long a model stays loaded.
//!
//! rbee decides when it unloads a model, so this counts only in a request without a prompt, which loads or unloads.

use rbee_core::Result;
use serde_json::value::RawValue;

use crate::server::queen::fields::{Fields, not_allowed, parse};

/// How long a model stays loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepAlive {
    /// Not at all.
    Unload,
    /// For a time.
    Some,
    /// For ever.
    Forever,
}

const ALLOWED: &str =
    "a number of seconds, or a number with a unit like \"5m\"; a negative one is for ever";

/// Reads it.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`](rbee_core::ErrorKind::InvalidRequest) if it is no time.
pub(super) fn take(fields: &mut Fields<'_>) -> Result<Option<KeepAlive>> {
    let Some(value) = fields.take_raw("keep_alive") else { return Ok(None) };
    read(value).map(Some)
}

fn read(value: &RawValue) -> Result<KeepAlive> {
    let refused = || not_allowed(value, "keep_alive", ALLOWED);
    let seconds: f64 = match value.get().as_bytes().first() {
        Some(b'"') => {
            let text: String = parse(value, "keep_alive", ALLOWED)?;
            seconds(text.trim()).ok_or_else(refused)?
        }
        _ => parse(value, "keep_alive", ALLOWED)?,
    };
    Ok(match seconds {
        0.0 => KeepAlive::Unload,
        seconds if seconds < 0.0 => KeepAlive::Forever,
        _ => KeepAlive::Some,
    })
}

/// A duration as Go writes it (`1h30m`), or a number of seconds.
fn seconds(text: &str) -> Option<f64> {
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if is_number(rest) {
        return rest.parse::<f64>().ok().map(|seconds| sign * seconds);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<KeepAlive> {
        let value: &RawValue = serde_json::from_str(text).unwrap();
        read(value)
    }

    #[test]
    fn numbers_and_durations_are_times_and_anything_else_is_refused() {
        for (text, expected) in [
            ("0", KeepAlive::Unload),
            ("0.0", KeepAlive::Unload),
            ("\"0\"", KeepAlive::Unload),
            ("\"0s\"", KeepAlive::Unload),
            ("-1", KeepAlive::Forever),
            ("\"-1\"", KeepAlive::Forever),
            ("\"-1m\"", KeepAlive::Forever),
            ("300", KeepAlive::Some),
            ("\"1h30m\"", KeepAlive::Some),
            ("\"1.5h\"", KeepAlive::Some),
            ("\"250ms\"", KeepAlive::Some),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for text in
            ["\"\"", "\"soon\"", "\"5 m\"", "\"5mm\"", "\"m\"", "\"1h3\"", "true", "[]", "\"--1\""]
        {
            let error = of(text).unwrap_err();
            assert_eq!(error.param(), Some("keep_alive"), "{text}");
            assert!(error.message().contains("\"5m\""), "{error}");
        }
    }
}
