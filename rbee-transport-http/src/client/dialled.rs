//! A connection in the form that the pool needs.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{dial::Io, tls_error::TlsError};

/// The time limit for making a connection, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection in the form that the pool needs.
pub(super) struct Dialled {
    io: Box<dyn Io>,
    /// True if the other end is a proxy, which gets the whole URL.
    is_proxied: bool,
    /// True once something was read.
    is_begun: bool,
}

/// The first byte of a message of TLS in which a server refuses what it does not understand.
const TLS_ALERT: u8 = 0x15;

impl Dialled {
    /// A connection to the server itself.
    pub(super) fn direct(io: Box<dyn Io>) -> Self {
        Self { io, is_proxied: false, is_begun: false }
    }

    /// A connection to a proxy that sends each request on.
    #[cfg(feature = "https")]
    pub(super) fn proxied(io: Box<dyn Io>) -> Self {
        Self { io, is_proxied: true, is_begun: false }
    }
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if let (false, Some(first)) = (self.is_begun, buffer.filled().get(before)) {
            self.is_begun = true;
            // No HTTP begins with it.
            if *first == TLS_ALERT {
                return Poll::Ready(Err(io::Error::other(TlsError::unexpected())));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
