//! The bytes of a link that have arrived.

use std::{
    io,
    pin::pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use rbee_core::Result;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::{self, Frame};

/// Room for one read, in bytes.
const READ_BYTES: usize = 32 << 10;
/// A buffer that has grown beyond this for a large frame is released after it.
const MAX_KEPT_BYTES: usize = 256 << 10;

/// The bytes of a link that have arrived and are not read yet. It grows as they arrive, so the length that a frame
/// announces costs no memory.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: BytesMut,
    /// The size of the frame that was returned last: it is removed with the next call.
    read: usize,
}

impl FrameBuffer {
    /// Begins with bytes that have arrived already.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { bytes: BytesMut::from(bytes), read: 0 }
    }

    /// Reads what has arrived. Returns 0 at the end of the connection.
    pub(crate) fn poll_fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.advance();
        if self.bytes.is_empty() && self.bytes.capacity() > MAX_KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        self.bytes.reserve(READ_BYTES);
        pin!(io.read_buf(&mut self.bytes)).poll(cx)
    }

    /// The next whole frame, with its bytes. `None` if it has not arrived.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`](rbee_core::ErrorKind::WorkerFault) if its length is not allowed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Frame<'_>, &[u8])>> {
        self.advance();
        let Some((frame, size)) = frame::split(&self.bytes)? else { return Ok(None) };
        self.read = size;
        Ok(Some((frame, &self.bytes[..size])))
    }

    /// The kind of the next frame, if its header has arrived.
    pub(crate) fn next_kind(&self) -> Option<u8> {
        self.bytes.get(self.read + frame::KIND_AT).copied()
    }

    /// The memory that it holds, in bytes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn advance(&mut self) {
        self.bytes.advance(std::mem::take(&mut self.read));
    }
}
