//! The response of a daemon: one body, or a stream of events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::{Response, header};
use rbee_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};

use super::{Body, HttpError, chain};
use crate::wire::sse;

/// The longest response that is not a stream, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// How long the body of a response that is not a stream may take to arrive, from its first byte.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A successful response whose body has not arrived yet.
#[derive(Debug)]
pub struct HttpAnswer {
    pub(super) response: Response<Body>,
    pub(super) authority: Arc<str>,
}

/// The content type of an answer in a message.
pub(super) fn content_type(value: Option<&http::HeaderValue>) -> String {
    match value {
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            format!("content type \"{}\"", text.chars().take(80).collect::<String>())
        }
        None => "no content type".into(),
    }
}

impl HttpAnswer {
    /// Reads the whole body, as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if the body breaks off, is too long, or is not of the expected shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let wrong = |why: String| {
            let message = format!("the answer of {} {why}", self.authority);
            Error::new(ErrorKind::HiveUnreachable, message)
        };
        let mut body = self.response.into_body();
        let bytes = tokio::time::timeout(BODY_TIMEOUT, body.read(MOST_BYTES))
            .await
            .map_err(|_| wrong(format!("did not arrive within {BODY_TIMEOUT:?}")))?
            .map_err(|cause| match cause {
                HttpError::TooLarge(most) => wrong(format!("is larger than {most} bytes")),
                cause => wrong(format!("broke off: {cause}")),
            })?;
        serde_json::from_slice(&bytes).map_err(|cause| wrong(format!("is not understood: {cause}")))
    }

    /// The bytes of the body, as they arrive. Ends with an error if none arrive for `silence`.
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
                match tokio::time::timeout(silence, body.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(data))) => Some((Ok(data), Some(body))),
                    Ok(Some(Err(cause))) => broke(format!("broke off: {cause}")),
                    Err(_) => broke(format!("sent nothing for {silence:?}")),
                }
            }
        })
    }

    /// The events of the body.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] if the response is not a stream of events.
    pub fn events(self) -> Result<EventStream> {
        let kind = self.response.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(sse::CONTENT_TYPE.as_bytes())) {
            let message = format!(
                "the answer of {} is of {}; expected was {}",
                self.authority,
                content_type(kind),
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

/// The events of a response, as they arrive. Dropping it closes the connection, which tells the daemon to stop.
#[derive(Debug)]
pub struct EventStream {
    body: Body,
    parser: sse::Parser,
    authority: Arc<str>,
    /// How long the daemon may send nothing, and the timer for it.
    silence: Option<(Duration, Pin<Box<Sleep>>)>,
    done: bool,
}

impl EventStream {
    /// Ends the stream with an error if the daemon sends nothing for this long, not even a comment.
    pub fn with_silence_limit(mut self, limit: Duration) -> Self {
        self.silence = Some((limit, Box::pin(tokio::time::sleep(limit))));
        self
    }

    fn broke(&mut self, why: &str) -> Error {
        self.done = true;
        let message = format!("the connection to {} broke off: {why}", self.authority);
        Error::new(ErrorKind::WorkerLost, message)
    }

    /// Ready if nothing was received for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some((limit, over)) = &mut self.silence else { return Poll::Pending };
        let limit = *limit;
        std::task::ready!(over.as_mut().poll(cx));
        Poll::Ready(self.broke(&format!("it sent nothing for {limit:?}")))
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
            let Poll::Ready(bytes) = Pin::new(&mut this.body).poll_next(cx) else {
                return this.poll_silence(cx).map(|error| Some(Err(error)));
            };
            match bytes {
                Some(Ok(bytes)) => {
                    this.parser.push(&bytes);
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
