//! The response to a request that takes long: events on its progress, then a last one.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;
use futures_util::future::BoxFuture;
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{keep_alive::Ticker, stream_headers};
use crate::wire::{ollama::NDJSON, sse};

/// Events on the progress of some work, and the event with its result. The work is dropped if the client disconnects. They
/// are server-sent events, or JSON objects, one in each line.
pub(super) struct WorkStream {
    told: mpsc::Receiver<Bytes>,
    /// `None` once it is done.
    work: Option<BoxFuture<'static, Bytes>>,
    ticker: Ticker,
    is_lines: bool,
}

impl WorkStream {
    /// The work returns the last [`frame`], and sends the others to `told`.
    pub(super) fn new(
        told: mpsc::Receiver<Bytes>,
        work: impl Future<Output = Bytes> + Send + 'static,
    ) -> Self {
        Self { told, work: Some(Box::pin(work)), ticker: Ticker::new(), is_lines: false }
    }

    /// The same with lines of JSON instead of frames.
    pub(super) fn lines(
        told: mpsc::Receiver<Bytes>,
        work: impl Future<Output = Bytes> + Send + 'static,
    ) -> Self {
        Self { is_lines: true, ..Self::new(told, work) }
    }
}

impl IntoResponse for WorkStream {
    fn into_response(self) -> Response {
        let is_lines = self.is_lines;
        let mut response = (stream_headers(), Body::from_stream(self)).into_response();
        if is_lines {
            let value = HeaderValue::from_static(NDJSON);
            response.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        response
    }
}

/// An event.
pub(super) fn frame(name: &str, body: &impl Serialize) -> Bytes {
    let mut out = BytesMut::new();
    match serde_json::to_vec(body) {
        Ok(json) => sse::put(&mut out, None, name, &json),
        Err(cause) => tracing::warn!(%cause, event = name, "an event could not be written"),
    }
    out.freeze()
}

impl Stream for WorkStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(work) = &mut this.work else { return Poll::Ready(None) };
        let last = work.as_mut().poll(cx);
        // Progress that was reported before the end is sent before it.
        let mut out = BytesMut::new();
        while let Poll::Ready(Some(progress)) = this.told.poll_recv(cx) {
            out.extend_from_slice(&progress);
        }
        if let Poll::Ready(last) = last {
            this.work = None;
            out.extend_from_slice(&last);
        }
        if out.is_empty() {
            ready!(this.ticker.poll_due(cx));
            if this.is_lines {
                // White space before the next object.
                out.put_u8(b' ');
            } else {
                sse::put_comment(&mut out, "working");
            }
        } else {
            this.ticker.heard();
        }
        Poll::Ready(Some(Ok(out.freeze())))
    }
}
