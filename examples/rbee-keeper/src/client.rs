//! Requests to the queen.

mod answers;
mod stream;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use rbee_core::CorrelationId;
use rbee_transport_http::{
    client::{HttpClient, HttpError, TlsError, Trust},
    wire::{CORRELATION_ID, HEALTH, LAST_EVENT_ID, queen::Health, query, sse},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Address,
    failure::{CONNECTION_LOST, Exit, Failure, TLS, UNREACHABLE},
};

pub use answers::Reply;
pub(crate) use answers::failure_in;
pub use stream::Events;

const USER_AGENT: &str = concat!("rbee/", env!("CARGO_PKG_VERSION"));
/// What the `Authorization` header has before the key.
const SCHEME: &str = "Bearer ";
/// The timeout of an answer that is not a stream.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout of the head of a stream: the queen answers at once, and sends comments while a model loads.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// The key for the queen, and the certificates that are trusted.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The value of the `Authorization` header, marked as sensitive.
    pub key: Option<HeaderValue>,
    /// Certificates in PEM. If set, TLS trusts only these.
    pub ca: Option<Vec<u8>>,
}

impl Credentials {
    /// Sets the key. An error does not repeat it.
    pub fn with_key(mut self, key: &str) -> Result<Self, Failure> {
        let header = HeaderValue::try_from(format!("{SCHEME}{}", key.trim()));
        let mut header = header.map_err(|_| {
            Failure::usage("the key has characters that cannot be sent; allowed is printable ASCII")
        })?;
        header.set_sensitive(true);
        self.key = Some(header);
        Ok(self)
    }

    /// Trusts only the certificates of this file.
    pub fn with_ca(mut self, path: &Path) -> Result<Self, Failure> {
        let read = std::fs::read(path);
        self.ca = Some(read.map_err(|cause| {
            Failure::usage(format!("the certificates {} cannot be read: {cause}", path.display()))
        })?);
        Ok(self)
    }
}

/// A client of the queen's HTTP API.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient,
    key: Option<HeaderValue>,
    address: Address,
}

impl Client {
    /// Makes a client without connecting to the queen.
    ///
    /// # Errors
    /// [`Exit::Usage`] if the certificates cannot be used.
    pub fn new(address: Address, credentials: &Credentials) -> Result<Self, Failure> {
        let trust = match &credentials.ca {
            Some(pem) => Some(Trust::only(pem).map_err(|error| {
                let why = error.message();
                Failure::usage(format!("the file of --ca-cert cannot be used: {why}"))
            })?),
            None if address.is_tls() => Some(Trust::system().map_err(|error| {
                Failure::usage(format!("TLS cannot be used: {}", error.message()))
                    .with_hint("--ca-cert names a file with the certificate of the queen")
            })?),
            // Reading the system's certificates takes time, and plain HTTP does not need them.
            None => None,
        };
        Ok(Self { http: HttpClient::new(trust), key: credentials.key.clone(), address })
    }

    /// The same client for a queen at another address.
    pub(crate) fn at(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }

    /// The key that is sent to the queen.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_ref()?.to_str().ok()?.strip_prefix(SCHEME)
    }

    /// The queen's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a `GET` request with query parameters.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, query, None::<&()>, TIMEOUT).await?.json().await
    }

    /// Sends a `GET` request with the timeout `timeout`.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, &(), None::<&()>, timeout).await?.json().await
    }

    /// The queen's health, also while it goes down. With the operator's key it includes the details that only the
    /// operator sees.
    ///
    /// # Errors
    /// If the queen is not reached within `timeout`, or refuses the key.
    pub async fn health(&self, timeout: Duration) -> Result<Health, Failure> {
        let request = self.request(Method::GET, HEALTH, &(), None::<&()>)?;
        self.exchange(request, HEALTH, timeout).await?.health().await
    }

    /// Sends a `POST` request.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &(), Some(body), TIMEOUT).await?.json().await
    }

    /// Sends a `POST` request with the timeout `timeout`.
    pub async fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &(), Some(body), timeout).await?.json().await
    }

    /// Sends a `PUT` request.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::PUT, path, &(), Some(body), TIMEOUT).await?.json().await
    }

    /// Sends a `DELETE` request and returns its answer.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, &(), None::<&()>, TIMEOUT).await?.json().await
    }

    /// Sends a request with this method and no body, whose answer has no content.
    pub async fn order(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
    ) -> Result<Reply, Failure> {
        self.ask(method, path, query, None::<&()>, TIMEOUT).await
    }

    /// The same, with the timeout `timeout`.
    pub async fn order_within(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        self.ask(method, path, query, None::<&()>, timeout).await
    }

    /// Sends a `GET` request that is answered with events, after the event with this id if one is given. `None` if
    /// there are no more events.
    pub async fn events(
        &self,
        path: &str,
        query: &impl Serialize,
        after: Option<u64>,
    ) -> Result<Option<Events>, Failure> {
        let mut request = self.request(Method::GET, path, query, None::<&()>)?;
        if let Some(after) = after {
            request.headers_mut().insert(LAST_EVENT_ID, after.into());
        }
        let reply = self.send(request, path, HEAD_TIMEOUT).await?;
        if reply.is_empty() { Ok(None) } else { reply.events().map(Some) }
    }

    /// Sends a `POST` request that is answered with events.
    pub async fn post_for_events(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Events, Failure> {
        let mut request = self.request(Method::POST, path, &(), Some(body))?;
        let accepted = HeaderValue::from_static(sse::CONTENT_TYPE);
        request.headers_mut().insert(header::ACCEPT, accepted);
        self.send(request, path, HEAD_TIMEOUT).await?.events()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        let request = self.request(method, path, query, body)?;
        self.send(request, path, timeout).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Bytes>, Failure> {
        let unsendable = |why: String| {
            Failure::usage(format!("the request to {} cannot be made: {why}", self.address))
        };
        // The queen refuses changes without a JSON content type, because a web page could send them.
        let is_json = body.is_some() || matches!(method, Method::POST | Method::PUT);
        let path = query::with(path, query).map_err(|error| unsendable(error.message().into()))?;
        let body = body.map_or(Ok(Vec::new()), serde_json::to_vec);
        let body = body.map_err(|cause| unsendable(cause.to_string()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(self.address.join(&path))
            .header(header::USER_AGENT, USER_AGENT);
        if is_json {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key);
        }
        request.body(body.into()).map_err(|cause| unsendable(cause.to_string()))
    }

    async fn send(
        &self,
        request: Request<Bytes>,
        path: &str,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        self.exchange(request, path, timeout).await?.accepted().await
    }

    /// Sends a request and returns the head of the answer, whatever its status is.
    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        path: &str,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        let correlation_id = CorrelationId::random();
        if let Ok(shown) = correlation_id.as_str().try_into() {
            request.headers_mut().insert(CORRELATION_ID, shown);
        }
        let about = About {
            address: self.address.clone(),
            path: path.to_owned(),
            correlation_id: correlation_id.to_string(),
        };
        match tokio::time::timeout(timeout, self.http.send(request)).await {
            Ok(Ok(response)) => Ok(Reply::new(response, about, timeout)),
            Ok(Err(cause)) => Err(about.lost(&cause)),
            Err(_) => Err(about.silent(timeout)),
        }
    }
}

/// The request that an answer belongs to.
#[derive(Clone, Debug)]
pub(crate) struct About {
    address: Address,
    path: String,
    correlation_id: String,
}

impl About {
    /// The failure of a connection that was refused or that broke.
    fn lost(&self, cause: &HttpError) -> Failure {
        let address = &self.address;
        let why = root_of(cause);
        if let Some(error) = TlsError::find(cause) {
            let failure = Failure::new(
                Exit::Unreachable,
                TLS,
                format!("no connection to the queen at {address}: {error}"),
            );
            return if error.is_untrusted() {
                failure.with_hint(
                    "--ca-cert names a file with the queen's certificate, or with that of the CA that signed it",
                )
            } else {
                failure
            };
        }
        if let HttpError::Connect(_) = cause {
            let failure = Failure::new(
                Exit::Unreachable,
                UNREACHABLE,
                format!("no queen answers at {address}: {why}"),
            );
            return if address.is_loopback() {
                failure.with_hint(
                    "start one with `rbee serve`, or name another with --host or RBEE_HOST",
                )
            } else if address.is_tls() {
                failure.with_hint(
                    "check the queen's address; --ca-cert names a file with the queen's certificate",
                )
            } else {
                failure.with_hint("check the queen's address; --host or RBEE_HOST names another")
            };
        }
        self.broken(&format!("the connection to the queen at {address} broke: {why}"))
    }

    /// The failure of a connection that broke in the middle of an answer.
    fn broken(&self, message: &str) -> Failure {
        Failure::new(Exit::Unreachable, CONNECTION_LOST, message)
            .with_correlation_id(Some(self.correlation_id.clone()))
            .with_hint("`rbee status` shows whether it still runs")
    }

    fn silent(&self, timeout: Duration) -> Failure {
        let (address, path) = (&self.address, &self.path);
        self.broken(&format!("the queen at {address} did not answer {path} within {timeout:?}"))
    }

    /// The failure of an answer that does not come from a queen.
    fn stranger(&self, why: &str) -> Failure {
        let (address, path) = (&self.address, &self.path);
        let message = format!("{address} does not answer {path} as a queen does: {why}");
        Failure::new(Exit::Failed, "UNEXPECTED_ANSWER", message)
            .with_correlation_id(Some(self.correlation_id.clone()))
            .with_hint("is another program listening there? `rbee version` compares the versions")
    }
}

/// The innermost cause, which is the most specific: `connection refused`, `invalid peer certificate`.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        said = because.to_string();
        cause = because.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queen_that_accepts_and_says_nothing_is_given_up() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = silent.local_addr().unwrap().to_string().parse().unwrap();
        let client = Client::new(address, &Credentials::default()).unwrap();
        let timeout = Duration::from_millis(20);
        let failure = client.get_within::<()>(HEALTH, timeout).await.unwrap_err();
        assert_eq!((failure.exit(), failure.code()), (Exit::Unreachable, CONNECTION_LOST));
        assert!(failure.message().ends_with("did not answer /health within 20ms"), "{failure}");
    }
}
