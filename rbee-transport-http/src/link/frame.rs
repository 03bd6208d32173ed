//! Frames: a length, a kind, the number of a run, and a payload.

use bytes::{Buf, BufMut, BytesMut};
use rbee_core::{Error, ErrorKind, Result};

/// The size of the field with the length.
const LENGTH_BYTES: usize = 4;
/// The position of the kind.
pub(super) const KIND_AT: usize = LENGTH_BYTES;
/// The size of everything before the payload.
const HEADER_BYTES: usize = LENGTH_BYTES + 5;
/// The largest value of the length field: the kind, the number of the run and the payload.
pub(crate) const MAX_FRAME_BYTES: usize = 64 << 20;

/// The run number of frames that concern the connection.
pub(crate) const CONNECTION: u32 = 0;

/// The kinds of frames.
pub(crate) mod kind {
    /// From the client: begin a run. The payload is the credit in bytes (`u32`), then an
    /// [`Execute`](crate::wire::worker::Execute) as JSON.
    pub(crate) const RUN: u8 = 1;
    /// From the client: end the run.
    pub(crate) const CANCEL: u8 = 2;
    /// From the client: more credit for the run, in bytes (`u32`).
    pub(crate) const CREDIT: u8 = 3;
    /// From the client: send a [`PONG`].
    pub(crate) const PING: u8 = 4;
    /// From the worker: the run has begun.
    pub(crate) const ACCEPTED: u8 = 16;
    /// From the worker: one or more tokens.
    pub(crate) const TOKENS: u8 = 17;
    /// From the worker: the run continues, although there is no output yet.
    pub(crate) const HEARTBEAT: u8 = 18;
    /// From the worker: [`Metrics`](rbee_core::event::Metrics) as JSON.
    pub(crate) const METRICS: u8 = 19;
    /// From the worker: vectors.
    pub(crate) const VECTORS: u8 = 20;
    /// From the worker: the proper end of the run, an [`End`](crate::wire::worker::End) as JSON.
    pub(crate) const END: u8 = 21;
    /// From the worker: the run, or the connection, ends with this [`ErrorInfo`](crate::wire::ErrorInfo), as JSON.
    pub(crate) const ERROR: u8 = 22;
    /// From the worker: the answer to a [`PING`].
    pub(crate) const PONG: u8 = 23;

    /// True if the size of such a frame is taken from the credit of its run.
    pub(crate) const fn takes_credit(kind: u8) -> bool {
        matches!(kind, TOKENS | HEARTBEAT | METRICS | VECTORS)
    }
}

/// A frame that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) run: u32,
    pub(crate) payload: &'a [u8],
}

/// The first frame of these bytes, and its size. `None` if it has not arrived as a whole.
///
/// # Errors
/// [`ErrorKind::WorkerFault`] if its length is not allowed.
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let Some((length, mut rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if !(HEADER_BYTES - LENGTH_BYTES..=MAX_FRAME_BYTES).contains(&length) {
        let least = HEADER_BYTES - LENGTH_BYTES;
        let message = format!(
            "a frame of the link has length {length}; allowed is {least} to {MAX_FRAME_BYTES}"
        );
        return Err(Error::new(ErrorKind::WorkerFault, message));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let (kind, run) = (rest.get_u8(), rest.get_u32_le());
    let payload = &rest[..length - (HEADER_BYTES - LENGTH_BYTES)];
    Ok(Some((Frame { kind, run, payload }, LENGTH_BYTES + length)))
}

/// Begins a frame; the payload is appended after it. Returns its position, for [`finish`].
pub(crate) fn begin(out: &mut BytesMut, kind: u8, run: u32) -> usize {
    let at = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    out.put_u32_le(run);
    at
}

/// Ends the frame at this position. Returns false, and removes it, if it is too large.
pub(crate) fn finish(out: &mut BytesMut, at: usize) -> bool {
    let length = out.len() - at - LENGTH_BYTES;
    match u32::try_from(length) {
        Ok(field) if length <= MAX_FRAME_BYTES => {
            out[at..at + LENGTH_BYTES].copy_from_slice(&field.to_le_bytes());
            true
        }
        _ => {
            out.truncate(at);
            false
        }
    }
}

/// Appends a frame. Returns false, and appends nothing, if it is too large.
pub(crate) fn put(out: &mut BytesMut, kind: u8, run: u32, payload: &[u8]) -> bool {
    let at = begin(out, kind, run);
    out.extend_from_slice(payload);
    finish(out, at)
}

/// Sets the number of the run of the first frame.
pub(crate) fn set_run(frames: &mut BytesMut, run: u32) {
    if let Some(field) = frames.get_mut(KIND_AT + 1..HEADER_BYTES) {
        field.copy_from_slice(&run.to_le_bytes());
    }
}

/// Takes a number of four bytes from the front of a payload.
pub(crate) fn read_u32(payload: &mut &[u8]) -> Option<u32> {
    let (number, rest) = payload.split_first_chunk()?;
    *payload = rest;
    Some(u32::from_le_bytes(*number))
}
