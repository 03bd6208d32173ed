//! Requests to one daemon, over one pool of kept-alive connections.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rbee_core::{CorrelationId, Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{Body, answer::HttpAnswer, chain, connector::Connector, dialled::Dialled, pool::Pool};
use crate::{
    dial::Dial,
    token::{SharedToken, Token},
    wire::{CORRELATION_ID, ErrorBody, HEALTH, Up, hive::PART_CONTENT_TYPE},
};

/// The most unused connections that are kept.
const MOST_IDLE: usize = 512;

/// A daemon: its address, and the token it accepts. Clones share the pool of connections.
#[derive(Clone)]
pub struct Endpoint {
    pool: Pool,
    dial: Arc<dyn Dial>,
    port: u16,
    authority: Arc<str>,
    token: Option<SharedToken>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.authority)
    }
}

impl Endpoint {
    /// The daemon on this port of the machine that `dial` reaches.
    pub fn new(dial: Arc<dyn Dial>, port: u16, token: Option<Token>) -> Self {
        let pool = Pool::new(Connector::Dial { dial: dial.clone(), port }, MOST_IDLE);
        let host = dial.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let token = token.map(SharedToken::from);
        Self { pool, authority: format!("{host}:{port}").into(), dial, port, token }
    }

    /// Uses this token, also after it is replaced.
    pub fn with_token(mut self, token: SharedToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Its machine and port, for example `127.0.0.1:7835`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How its machine is reached.
    pub fn dial(&self) -> &Arc<dyn Dial> {
        &self.dial
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if the daemon cannot be reached; otherwise the error that it responds with.
    pub async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<HttpAnswer> {
        let request = self.request(method, path, body, correlation_id)?;
        self.exchange(request).await
    }

    /// Sends a `GET`, and waits for the whole response.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::HiveUnreachable`] if the response does not arrive within `limit`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T> {
        self.call(Method::GET, path, None::<&()>, limit).await
    }

    /// The identity of the daemon, a hive or a worker: its response on [`HEALTH`].
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`ErrorKind::Unauthorized`] for an endpoint without a token: the daemon then only
    /// says that it is up.
    pub(crate) async fn health<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        if self.token.is_some() {
            return self.get(HEALTH, limit).await;
        }
        self.get::<Up>(HEALTH, limit).await?;
        let message = format!("{} is up, and requires its token for anything more", self.authority);
        Err(Error::new(ErrorKind::Unauthorized, message))
    }

    /// Sends a request, and waits for the whole response.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        limit: Duration,
    ) -> Result<T> {
        let answered = async { self.send(method, path, body, None).await?.json().await };
        self.within(path, limit, answered).await
    }

    /// As [`send`](Self::send), but for at most `limit`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::HiveUnreachable`] if the response does not begin in time.
    pub async fn open<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        limit: Duration,
    ) -> Result<HttpAnswer> {
        self.within(path, limit, self.send(method, path, body, None)).await
    }

    /// Sends bytes that belong at this offset of a whole of `all` bytes, and waits for the response.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn put_part(
        &self,
        path: &str,
        part: Bytes,
        (from, all): (u64, u64),
        limit: Duration,
    ) -> Result<()> {
        let last = (from + part.len() as u64).saturating_sub(1);
        let request = self
            .head(Method::PUT, path, None)?
            .header(header::CONTENT_TYPE, PART_CONTENT_TYPE)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{last}/{all}"))
            .body(Full::new(part))
            .map_err(internal)?;
        self.within(path, limit, self.exchange(request)).await.map(drop)
    }

    /// Sends a `GET` for the bytes from this offset on; the bytes have not arrived yet.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn get_from(&self, path: &str, from: u64, limit: Duration) -> Result<HttpAnswer> {
        let request = self
            .head(Method::GET, path, None)?
            .header(header::RANGE, format!("bytes={from}-"))
            .body(Full::default())
            .map_err(internal)?;
        self.within(path, limit, self.exchange(request)).await
    }

    /// Opens a connection of its own, and switches it to this protocol. Also returns the bytes that have arrived.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::HiveUnreachable`] if that takes longer than `limit`.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        protocol: &'static str,
        limit: Duration,
    ) -> Result<(Dialled, Bytes)> {
        self.within(path, limit, self.switch(path, protocol)).await
    }

    async fn switch(&self, path: &str, protocol: &'static str) -> Result<(Dialled, Bytes)> {
        let mut request = self
            .head(Method::POST, path, None)?
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, protocol)
            .header(header::HOST, &*self.authority)
            .body(Full::<Bytes>::default())
            .map_err(internal)?;
        // Only the pool shortens the address.
        *request.uri_mut() = path.parse().map_err(internal)?;
        let io = self.dial.dial(self.port).await.map_err(|cause| self.lost(cause))?;
        let io = TokioIo::new(Dialled::direct(io));
        let (mut sender, connection) =
            http1::handshake(io).await.map_err(|cause| self.lost(cause))?;
        // It ends with the upgrade, or when the sender is dropped.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|cause| self.lost(cause))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let response = response.map(Body::new);
            return Err(match status.is_success() {
                true => {
                    let message = format!("{} did not switch to {protocol}", self.authority);
                    Error::new(ErrorKind::HiveUnreachable, message)
                }
                false => self.refusal(response).await,
            });
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|cause| self.lost(cause))?;
        let parts = upgraded.downcast::<TokioIo<Dialled>>().map_err(|_| {
            Error::new(ErrorKind::Internal, "the connection is not the one that was made")
        })?;
        Ok((parts.io.into_inner(), parts.read_buf))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<HttpAnswer> {
        let answer = self.pool.send(request).await.map_err(|cause| self.lost(cause))?;
        if answer.status().is_success() {
            Ok(HttpAnswer { response: answer, authority: self.authority.clone() })
        } else {
            Err(self.refusal(answer).await)
        }
    }

    async fn within<T>(
        &self,
        path: &str,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::time::timeout(limit, work).await.map_err(|_| {
            let message = format!("{} did not answer {path} within {limit:?}", self.authority);
            Error::new(ErrorKind::HiveUnreachable, message)
        })?
    }

    fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<Request<Full<Bytes>>> {
        let reads = matches!(method, Method::GET | Method::HEAD);
        let mut request = self.head(method, path, correlation_id)?;
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(internal)?.into(),
            None if reads => Bytes::new(),
            // Daemons change state only for requests of content type JSON: web pages do not send those without
            // permission.
            None => Bytes::from_static(b"{}"),
        };
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body)).map_err(internal)
    }

    fn head(
        &self,
        method: Method,
        path: &str,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<http::request::Builder> {
        let uri: Uri = format!("http://{}{path}", self.authority).parse().map_err(|cause| {
            let message = format!("http://{}{path} is not an address", self.authority);
            Error::new(ErrorKind::InvalidRequest, message).with_source(cause)
        })?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        if let Some(id) = correlation_id {
            request = request.header(CORRELATION_ID, id.as_str());
        }
        Ok(request)
    }

    fn lost(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let why = chain(&cause);
        let message = format!("{} cannot be reached: {why}", self.authority);
        Error::new(ErrorKind::HiveUnreachable, message).with_source(cause)
    }

    /// Reads the error of a response.
    async fn refusal(&self, response: Response<Body>) -> Error {
        let status = response.status();
        let answer = HttpAnswer { response, authority: self.authority.clone() };
        match answer.json::<ErrorBody>().await {
            Ok(body) => body.error.into(),
            Err(_) => Error::new(
                kind_of(status),
                format!("{} answered {status}, and not as rbee does", self.authority),
            ),
        }
    }
}

/// The kind of an error of which only the status is known.
fn kind_of(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited,
        status if status.is_client_error() => ErrorKind::InvalidRequest,
        _ => ErrorKind::HiveUnreachable,
    }
}

fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, format!("the request cannot be made: {cause}"))
        .with_source(cause)
}
