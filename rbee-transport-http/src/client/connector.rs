//! The connections of a pool, made in the way that the server is reached.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;

#[cfg(feature = "https")]
use super::url_connector::UrlConnector;
use super::{
    dialled::{CONNECT_TIMEOUT, Dialled},
    http_error::BoxError,
};
use crate::dial::Dial;

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
