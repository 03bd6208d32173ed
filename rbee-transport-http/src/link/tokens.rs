//! The payload of a `TOKENS` frame.
//!
//! Each token is a number, the length of its text in bytes, and the text. The lowest bit of the number is set if log
//! probabilities follow, as their length in bytes and their JSON; the other bits are the id of the token plus 1, or 0 if
//! it has none.

use bytes::BytesMut;
use rbee_core::event::{Logprobs, Output};

use super::varint;

/// Appends a token.
pub(crate) fn put_token(
    out: &mut BytesMut,
    id: Option<u32>,
    text: &str,
    logprobs: Option<&Logprobs>,
) {
    // Numbers and text always become JSON.
    let logprobs = logprobs.and_then(|logprobs| serde_json::to_vec(logprobs).ok());
    let id = id.map_or(0, |id| u64::from(id) + 1);
    varint::put(out, id << 1 | u64::from(logprobs.is_some()));
    varint::put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
    if let Some(logprobs) = logprobs {
        varint::put(out, logprobs.len() as u64);
        out.extend_from_slice(&logprobs);
    }
}

/// Takes a token from the front of a payload. `None` if it is malformed.
pub(crate) fn take_token(payload: &mut &[u8]) -> Option<Output> {
    let first = varint::take(payload)?;
    let id = match first >> 1 {
        0 => None,
        id => Some(u32::try_from(id - 1).ok()?),
    };
    let text = std::str::from_utf8(take_bytes(payload)?).ok()?.into();
    let logprobs = match first & 1 {
        0 => None,
        _ => Some(serde_json::from_slice(take_bytes(payload)?).ok()?),
    };
    Some(Output::Token { id, text, logprobs })
}

/// A length, and then this many bytes.
fn take_bytes<'a>(payload: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint::take(payload)?).ok()?;
    let (bytes, rest) = payload.split_at_checked(length)?;
    *payload = rest;
    Some(bytes)
}
