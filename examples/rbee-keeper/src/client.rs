//! Requests to the queen.

mod answers;
mod stream;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use rbee_core::CorrelationId;
use rbee_transport_http::{
    client::{HttpClient, HttpError, Trust},
    wire::{CORRELATION_ID, HEALTH, LAST_EVENT_ID, queen::Health, query},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Address,
    failure::{CONNECTION_LOST, Exit, Failure, UNREACHABLE},
};

pub use answers::Reply;
pub(crate) use answers::failure_in;
pub use stream::Events;

const USER_AGENT: &str = concat!("rbee/", env!("CARGO_PKG_VERSION"));
/// How long an answer that is no stream may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the head of a stream may take: the queen answers at once, and sends comments while a model loads.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);

/// What the queen is shown and what is believed of her.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The key, as the header it is sent in: one that does not show itself.
    pub key: Option<HeaderValue>,
    /// Certificates in PEM. Where given, TLS trusts these alone.
    pub ca: Option<Vec<u8>>,
}

impl Credentials {
    /// Takes the key. It is not repeated in the error.
    pub fn with_key(mut self, key: &str) -> Result<Self, Failure> {
        let header = HeaderValue::try_from(format!("Bearer {}", key.trim()));
        let mut header = header.map_err(|_| {
            Failure::usage("the key has characters that cannot be sent; allowed is printable ASCII")
        })?;
        header.set_sensitive(true);
        self.key = Some(header);
        Ok(self)
    }

    /// Trusts the certificates of this file alone.
    pub fn with_ca(mut self, path: &Path) -> Result<Self, Failure> {
        let read = std::fs::read(path);
        self.ca = Some(read.map_err(|cause| {
            Failure::usage(format!("the certificates {} cannot be read: {cause}", path.display()))
        })?);
        Ok(self)
    }
}

/// The queen, over HTTP.
#[derive(Clone, Debug)]
pub struct Client {
    http: HttpClient,
    key: Option<HeaderValue>,
    address: Address,
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Exit::Usage`] where the certificates cannot be used.
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
            // Reading the system's certificates takes time, and plain HTTP needs none.
            None => None,
        };
        Ok(Self { http: HttpClient::new(trust), key: credentials.key.clone(), address })
    }

    /// The same for a queen elsewhere.
    pub(crate) fn at(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }

    /// Where the queen is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `GET`, with parameters.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, query, None::<&()>, PATIENCE).await?.json().await
    }

    /// `GET`, given up after `patience`.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, &(), None::<&()>, patience).await?.json().await
    }

    /// How the queen is, also while it goes down; what the operator alone is told is in it if the key is the operator's.
    ///
    /// # Errors
    /// If it is not reached within `patience`, or refuses the key.
    pub async fn health(&self, patience: Duration) -> Result<Health, Failure> {
        let request = self.request(Method::GET, HEALTH, &(), None::<&()>)?;
        self.exchange(request, HEALTH, patience).await?.health().await
    }

    /// `POST`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &(), Some(body), PATIENCE).await?.json().await
    }

    /// `POST`, given up after `patience`.
    pub async fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &(), Some(body), patience).await?.json().await
    }

    /// `PUT`.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::PUT, path, &(), Some(body), PATIENCE).await?.json().await
    }

    /// `DELETE`, with an answer that is looked at.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, &(), None::<&()>, PATIENCE).await?.json().await
    }

    /// A request with a method of its own and no body, whose answer says nothing but that it was done.
    pub async fn order(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
    ) -> Result<Reply, Failure> {
        self.ask(method, path, query, None::<&()>, PATIENCE).await
    }

    /// `GET`, answered with events; after the one of this id, where one is given. None where there are no more.
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
        let reply = self.send(request, path, HEAD_PATIENCE).await?;
        if reply.is_empty() { Ok(None) } else { reply.events().map(Some) }
    }

    /// `POST`, answered with events.
    pub async fn post_for_events(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Events, Failure> {
        let request = self.request(Method::POST, path, &(), Some(body))?;
        self.send(request, path, HEAD_PATIENCE).await?.events()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<Reply, Failure> {
        let request = self.request(method, path, query, body)?;
        self.send(request, path, patience).await
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
        // The queen takes no change that does not say it is JSON: a web page could send it.
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
        patience: Duration,
    ) -> Result<Reply, Failure> {
        self.exchange(request, path, patience).await?.accepted().await
    }

    /// Sends a request, and gives the head of the answer whatever its status is.
    async fn exchange(
        &self,
        mut request: Request<Bytes>,
        path: &str,
        patience: Duration,
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
        match tokio::time::timeout(patience, self.http.send(request)).await {
            Ok(Ok(response)) => Ok(Reply::new(response, about, patience)),
            Ok(Err(cause)) => Err(about.lost(&cause)),
            Err(_) => Err(about.silent(patience)),
        }
    }
}

/// Which request an answer belongs to.
#[derive(Clone, Debug)]
pub(crate) struct About {
    address: Address,
    path: String,
    correlation_id: String,
}

impl About {
    /// Nobody answered, or the connection broke.
    fn lost(&self, cause: &HttpError) -> Failure {
        let address = &self.address;
        let why = root_of(cause);
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
                    "is this her address, and is her certificate known here? --ca-cert names one's file",
                )
            } else {
                failure.with_hint("is this her address? --host or RBEE_HOST names another")
            };
        }
        self.broken(&format!("the connection to the queen at {address} broke: {why}"))
    }

    /// The queen went away in the middle of an answer.
    fn broken(&self, message: &str) -> Failure {
        Failure::new(Exit::Unreachable, CONNECTION_LOST, message)
            .with_correlation_id(Some(self.correlation_id.clone()))
            .with_hint("`rbee status` shows whether she is still there")
    }

    fn silent(&self, patience: Duration) -> Failure {
        let (address, path) = (&self.address, &self.path);
        self.broken(&format!("the queen at {address} did not answer {path} within {patience:?}"))
    }

    /// Something answered that does not talk like a queen.
    fn stranger(&self, why: &str) -> Failure {
        let (address, path) = (&self.address, &self.path);
        let message = format!("{address} does not answer {path} as a queen does: {why}");
        Failure::new(Exit::Failed, "UNEXPECTED_ANSWER", message)
            .with_correlation_id(Some(self.correlation_id.clone()))
            .with_hint("is another program listening there? `rbee version` compares the versions")
    }
}

/// The innermost cause, which says most: `connection refused`, `invalid peer certificate`.
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
        let patience = Duration::from_millis(20);
        let failure = client.get_within::<()>(HEALTH, patience).await.unwrap_err();
        assert_eq!((failure.exit(), failure.code()), (Exit::Unreachable, CONNECTION_LOST));
        assert!(failure.message().ends_with("did not answer /health within 20ms"), "{failure}");
    }
}
