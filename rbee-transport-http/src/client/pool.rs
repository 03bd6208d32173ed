//! A pool of kept-alive HTTP/1.1 connections, which every client uses.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::{Body, connector::Connector};

/// How long an unused connection is kept. Shorter than servers keep it, so that it is rarely closed during a request.
const IDLE: Duration = Duration::from_secs(45);

/// An error of any type that can be sent to and shared with other threads.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request got no response, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made, so nothing was sent.
    #[error(transparent)]
    Connect(BoxError),
    /// The connection broke, or the bytes are not HTTP. The server may have acted on the request.
    #[error(transparent)]
    Broken(BoxError),
    /// The body is larger than the caller's limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

/// The connections to one server, or to many. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pool(Client<Connector, Full<Bytes>>);

impl Pool {
    /// Keeps up to `most_idle` unused connections to each server.
    pub(super) fn new(connector: Connector, most_idle: usize) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(most_idle)
            .build(connector);
        Self(client)
    }

    /// Sends a request and waits for the head of the response, whatever its status is. Redirects are not followed. A
    /// request is sent again only if the connection was closed before any of it was sent.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, HttpError> {
        match self.0.request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(cause) if cause.is_connect() => Err(HttpError::Connect(cause.into())),
            Err(cause) => Err(HttpError::Broken(cause.into())),
        }
    }
}
