//! The connections of a pool, made in the way that the server is reached.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "https")]
use super::http_client::UrlConnector;
use super::pool::BoxError;
use crate::dial::{Dial, Io};

/// The time limit for making a connection, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the pool's connections.
#[derive(Clone, Debug)]
pub(super) enum Connector {
    /// To one port of one machine; the URL of a request does not matter.
    Dial { dial: Arc<dyn Dial>, port: u16 },
    /// To the server that the URL of a request names.
    #[cfg(feature = "https")]
    Url(UrlConnector),
}

impl Connector {
    async fn connect(self, _url: Uri) -> Result<Dialled, BoxError> {
        match self {
            Self::Dial { dial, port } => Ok(Dialled::direct(dial.dial(port).await?)),
            #[cfg(feature = "https")]
            Self::Url(connector) => connector.connect(&_url).await,
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.clone().connect(url));
        Box::pin(async move {
            let late = |_| {
                let message = format!("no connection within {CONNECT_TIMEOUT:?}");
                io::Error::new(io::ErrorKind::TimedOut, message)
            };
            Ok(TokioIo::new(connecting.await.map_err(late)??))
        })
    }
}

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
