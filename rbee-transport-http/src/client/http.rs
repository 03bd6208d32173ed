//! Requests to one daemon, over one pool of kept-alive connections.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rbee_core::{CorrelationId, Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{
    Token,
    dial::{Dial, Io},
    wire::{CORRELATION_ID, ErrorBody, sse},
};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long an unused connection is kept. Shorter than servers keep it, so that it is rarely closed under a request.
const IDLE: Duration = Duration::from_secs(45);
/// Unused connections that are kept.
const MOST_IDLE: usize = 64;
/// The longest answer that is no stream, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// How long an answer that is no stream may take to arrive, once it has begun.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A daemon: where it is, and the token it takes. Cloning shares the pool of connections.
#[derive(Clone)]
pub struct Endpoint {
    client: Client<Connector, Full<Bytes>>,
    dial: Arc<dyn Dial>,
    port: u16,
    authority: Arc<str>,
    token: Option<Token>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.authority)
    }
}

impl Endpoint {
    /// The daemon on this port of the machine that is reached in this way.
    pub fn new(dial: Arc<dyn Dial>, port: u16, token: Option<Token>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .build(Connector { dial: dial.clone(), port });
        let host = dial.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self { client, authority: format!("{host}:{port}").into(), dial, port, token }
    }

    /// Its machine and port, `127.0.0.1:7835` for instance.
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

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] where the daemon cannot be reached; what it answers, where that is an error.
    pub async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        correlation_id: Option<&CorrelationId>,
    ) -> Result<Answer> {
        let request = self.request(method, path, body, correlation_id)?;
        self.exchange(request).await
    }

    /// `GET`, and the whole of the answer.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::HiveUnreachable`] where the answer does not come within `limit`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T> {
        self.call(Method::GET, path, None::<&()>, limit).await
    }

    /// A request, and the whole of the answer.
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

    /// As [`send`](Self::send), but not for longer than `limit`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::HiveUnreachable`] where the answer does not begin in time.
    pub async fn open<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        limit: Duration,
    ) -> Result<Answer> {
        self.within(path, limit, self.send(method, path, body, None)).await
    }

    /// Sends bytes, which stand at this place of a whole of `all`, and waits for the answer.
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
            .header(header::CONTENT_RANGE, format!("bytes {from}-{last}/{all}"))
            .body(Full::new(part))
            .map_err(internal)?;
        self.within(path, limit, self.exchange(request)).await.map(drop)
    }

    /// `GET` of what follows this byte; the bytes are still to come.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn get_from(&self, path: &str, from: u64, limit: Duration) -> Result<Answer> {
        let request = self
            .head(Method::GET, path, None)?
            .header(header::RANGE, format!("bytes={from}-"))
            .body(Full::default())
            .map_err(internal)?;
        self.within(path, limit, self.exchange(request)).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let answer = self.client.request(request).await.map_err(|cause| self.lost(cause))?;
        if answer.status().is_success() {
            Ok(Answer { response: answer, authority: self.authority.clone() })
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
        let mut request = self.head(method, path, correlation_id)?;
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(internal)?
            }
            None => Vec::new(),
        };
        request.body(Full::new(body.into())).map_err(internal)
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
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
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

    /// Reads the error that a daemon answered with.
    async fn refusal(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        let answer = Answer { response, authority: self.authority.clone() };
        match answer.json::<ErrorBody>().await {
            Ok(body) => body.error.into(),
            Err(_) => Error::new(
                kind_of(status),
                format!("{} answered {status}, and not as rbee does", self.authority),
            ),
        }
    }
}

/// The kind of an error that says no more than its status.
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

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A good answer, whose body is still to come.
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    authority: Arc<str>,
}

impl Answer {
    /// The whole of it, from JSON.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] where it breaks off, is too long, or is not what was expected.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let wrong = |why: String| {
            let message = format!("the answer of {} {why}", self.authority);
            Error::new(ErrorKind::HiveUnreachable, message)
        };
        let body = Limited::new(self.response.into_body(), MOST_BYTES).collect();
        let body = tokio::time::timeout(BODY_PATIENCE, body)
            .await
            .map_err(|_| wrong(format!("did not arrive within {BODY_PATIENCE:?}")))?
            .map_err(|cause| wrong(format!("broke off: {cause}")))?;
        let bytes = body.to_bytes();
        serde_json::from_slice(&bytes).map_err(|cause| wrong(format!("is not understood: {cause}")))
    }

    /// Its bytes, as they arrive. Ends with an error where none come for `silence`.
    pub fn bytes(self, silence: Duration) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let Self { response, authority } = self;
        let broke = move |why: String| {
            let message = format!("the answer of {authority} {why}");
            Some((Err(Error::new(ErrorKind::HiveUnreachable, message)), None))
        };
        futures_util::stream::unfold(Some(response.into_body()), move |body| {
            let broke = broke.clone();
            async move {
                let mut body = body?;
                loop {
                    match tokio::time::timeout(silence, body.frame()).await {
                        Ok(None) => return None,
                        Ok(Some(Ok(frame))) => {
                            // What is no data are trailers, which nobody sends.
                            if let Ok(data) = frame.into_data() {
                                return Some((Ok(data), Some(body)));
                            }
                        }
                        Ok(Some(Err(cause))) => return broke(format!("broke off: {cause}")),
                        Err(_) => return broke(format!("stood still for {silence:?}")),
                    }
                }
            }
        })
    }

    /// Its events.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] where it is no stream of events.
    pub fn events(self) -> Result<EventStream> {
        let kind = self.response.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(sse::CONTENT_TYPE.as_bytes())) {
            let message = format!(
                "the answer of {} is of content type {kind:?}; expected was {}",
                self.authority,
                sse::CONTENT_TYPE
            );
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        Ok(EventStream {
            body: self.response.into_body(),
            parser: sse::Parser::default(),
            authority: self.authority,
            silence: None,
            done: false,
        })
    }
}

/// The events of an answer, as they arrive. Dropping it closes the connection, which tells the daemon to stop.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    parser: sse::Parser,
    authority: Arc<str>,
    /// How long the daemon may say nothing, and when that is over.
    silence: Option<(Duration, Pin<Box<Sleep>>)>,
    done: bool,
}

impl EventStream {
    /// Ends with an error where the daemon says nothing for this long, not even by a comment.
    pub fn with_silence_limit(mut self, limit: Duration) -> Self {
        self.silence = Some((limit, Box::pin(tokio::time::sleep(limit))));
        self
    }

    fn broke(&mut self, why: &str) -> Error {
        self.done = true;
        let message = format!("the connection to {} broke off: {why}", self.authority);
        Error::new(ErrorKind::WorkerLost, message)
    }

    /// Is it silent for too long?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some((limit, over)) = &mut self.silence else { return Poll::Pending };
        let limit = *limit;
        std::task::ready!(over.as_mut().poll(cx));
        Poll::Ready(self.broke(&format!("it said nothing for {limit:?}")))
    }
}

impl Stream for EventStream {
    type Item = Result<sse::Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            match this.parser.next_event() {
                Ok(None) => {}
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Err(error) => {
                    this.done = true;
                    return Poll::Ready(Some(Err(error.context(&this.authority))));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                return this.poll_silence(cx).map(|error| Some(Err(error)));
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        this.parser.push(bytes);
                    }
                    if let Some((limit, over)) = &mut this.silence {
                        over.as_mut().reset(Instant::now() + *limit);
                    }
                }
                Some(Err(cause)) => {
                    let error = this.broke(&chain(&cause)).with_source(cause);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.done = true;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

/// Makes the pool's connections.
#[derive(Clone, Debug)]
struct Connector {
    dial: Arc<dyn Dial>,
    port: u16,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (dial, port) = (self.dial.clone(), self.port);
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            let io =
                tokio::time::timeout(CONNECT_PATIENCE, dial.dial(port)).await.map_err(late)??;
            Ok(TokioIo::new(Dialled(io)))
        })
    }
}

/// A connection, as the pool wants it.
struct Dialled(Box<dyn Io>);

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
