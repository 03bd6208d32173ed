//! A connection in the form that the pool needs.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dial::Io;

/// The time limit for making a connection, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection in the form that the pool needs.
pub(super) struct Dialled {
    io: Box<dyn Io>,
    /// True if the other end is a proxy, which gets the whole URL.
    is_proxied: bool,
}

impl Dialled {
    /// A connection to the server itself.
    pub(super) fn direct(io: Box<dyn Io>) -> Self {
        Self { io, is_proxied: false }
    }

    /// A connection to a proxy that sends each request on.
    #[cfg(feature = "https")]
    pub(super) fn proxied(io: Box<dyn Io>) -> Self {
        Self { io, is_proxied: true }
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
        Pin::new(&mut self.io).poll_read(cx, buffer)
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
