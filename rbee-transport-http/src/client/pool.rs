//! A pool of kept-alive HTTP/1.1 connections, which every client uses.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::{body::Body, chain, connector::Connector, http_error::HttpError};

/// How long an unused connection is kept. Shorter than servers keep it, so that it is rarely closed during a request.
const IDLE: Duration = Duration::from_secs(45);

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
            Err(cause) if cause.is_connect() => Err(HttpError::Connect(Lost(cause).into())),
            Err(cause) => Err(HttpError::Broken(Lost(cause).into())),
        }
    }
}

/// The error of a client without its own name, which is `client error (Connect)`: its causes say more.
#[derive(Debug)]
struct Lost(hyper_util::client::legacy::Error);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => f.write_str(&chain(cause)),
            None => f.write_str("the request was given up"),
        }
    }
}

impl Error for Lost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
