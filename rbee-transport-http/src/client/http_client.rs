//! [`HttpClient`]: requests to servers that a URL names.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper_util::client::proxy::matcher::Matcher;

use super::{
    body::Body, connector::Connector, http_error::HttpError, pool::Pool, trust::Trust,
    url_connector::UrlConnector,
};

/// Sends requests to servers that a URL names, over one pool of kept-alive connections: HTTP/1.1, plain or over TLS.
/// Clones share the pool.
///
/// - Redirects are never followed, so a request goes to the server it names and to no other.
/// - A connection is made within 5 seconds, or the request fails. There is no other timeout.
/// - The proxies that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name are used, except to this machine.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use rbee_transport_http::client::{HttpClient, Trust};
///
/// let client = HttpClient::new(Some(Trust::system()?));
/// let request = http::Request::get("https://queen.example/health").body(bytes::Bytes::new())?;
/// let mut answer = client.send(request).await?;
/// println!("{} {:?}", answer.status(), answer.body_mut().read(64 << 10).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HttpClient {
    pool: Pool,
    connector: UrlConnector,
}

impl HttpClient {
    /// A client that checks the certificates of servers against `trust`. Without it, requests over TLS fail.
    pub fn new(trust: Option<Trust>) -> Self {
        Self::with_proxies(trust, Matcher::from_env())
    }

    fn with_proxies(trust: Option<Trust>, proxies: Matcher) -> Self {
        let connector = UrlConnector::new(trust, proxies);
        // The number of concurrent requests limits how many there are.
        let pool = Pool::new(Connector::Url(connector.clone()), usize::MAX);
        Self { pool, connector }
    }

    /// Sends a request and waits for the head of the response, whatever its status is. The URL of the request has a
    /// scheme and a host.
    ///
    /// # Errors
    /// [`HttpError::Connect`] if there is no connection, [`HttpError::Broken`] if it breaks before the head arrives.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, HttpError> {
        let mut request = request.map(Full::new);
        if let Some(shown) = self.connector.proxy_authorization(request.uri()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, shown);
        }
        let accept = request.headers_mut().entry(header::ACCEPT);
        accept.or_insert(HeaderValue::from_static("*/*"));
        self.pool.send(request).await
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[cfg(feature = "tls")]
mod tls_tests;
