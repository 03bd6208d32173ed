//! [`HttpClient`]: requests to servers that are named by a URL.

mod trust;
mod url_connector;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper_util::client::proxy::matcher::Matcher;

use super::{Body, HttpError, connector::Connector, pool::Pool};
pub use trust::Trust;
pub(super) use url_connector::UrlConnector;

/// Requests to servers that are named by a URL, over one pool of kept-alive connections: HTTP/1.1, plain or over TLS.
/// Clones share the pool.
///
/// - A redirection is never followed, so what a request carries goes to the server it names and to no other.
/// - A connection is made within 5 seconds, or the request fails. All else takes as long as the caller waits.
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
    /// Checks the certificates of servers against these. Without them, requests over TLS fail.
    pub fn new(trust: Option<Trust>) -> Self {
        Self::with_proxies(trust, Matcher::from_env())
    }

    fn with_proxies(trust: Option<Trust>, proxies: Matcher) -> Self {
        let connector = UrlConnector::new(trust, proxies);
        // How many there are is limited by the requests that run side by side.
        let pool = Pool::new(Connector::Url(connector.clone()), usize::MAX);
        Self { pool, connector }
    }

    /// Sends a request and waits for the head of the answer, whatever its status is. The URL of the request has a scheme
    /// and a host.
    ///
    /// # Errors
    /// [`HttpError::Connect`] if there is no connection, [`HttpError::Broken`] if it breaks before the head is there.
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
