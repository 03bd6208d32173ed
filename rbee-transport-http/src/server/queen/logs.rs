//! The queen's last log lines.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::State, response::IntoResponse};
use bytes::{Bytes, BytesMut};
use futures_core::{Stream, stream::BoxStream};
use http::StatusCode;
use rbee_core::{Error, ErrorKind, Result};

use super::{
    Shared,
    keep_alive::Ticker,
    middleware::{HandlerResult, Params},
    stream_headers,
};
use crate::{
    server::{Followed, response},
    wire::{
        ErrorBody,
        queen::{Listing, LogLine, LogQuery, log_event},
        sse::{self, ServerSentEvent},
    },
};

/// Lines that are available together are sent together, up to this many bytes.
const MOST_TOGETHER: usize = 64 << 10;

/// Get the queen's last log lines, the oldest first; with `follow` also new ones, as a stream of `line` events.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::LOGS,
        tag = "queen",
        params(LogQuery),
        responses(
            (
                status = 200,
                description = "The lines.",
                content((Listing<LogLine> = "application/json"), (ServerSentEvent = "text/event-stream"))
            ),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn logs(
    State(shared): State<Shared>,
    Params(query): Params<LogQuery>,
) -> HandlerResult {
    let Some(logs) = &shared.logs else {
        return Err(Error::new(ErrorKind::NotFound, "no log is kept here").into());
    };
    if !query.follow {
        return Ok(response::json(StatusCode::OK, &Listing { data: logs.tail(&query)? }));
    }
    let lines = Box::pin(logs.follow(&query)?);
    let stop = Box::pin(shared.stop.clone().cancelled_owned());
    let lines = Lines { lines, stop, ticker: Ticker::new() };
    Ok((stream_headers(), Body::from_stream(lines)).into_response())
}

struct Lines {
    lines: BoxStream<'static, Followed>,
    /// A queen that shuts down does not wait for readers of its log.
    stop: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    ticker: Ticker,
}

impl Stream for Lines {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = BytesMut::new();
        let mut is_over = this.stop.as_mut().poll(cx).is_ready();
        while !is_over && out.len() < MOST_TOGETHER {
            match this.lines.as_mut().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => is_over = true,
                Poll::Ready(Some(Followed::Line(line))) => put(&mut out, &line),
                Poll::Ready(Some(Followed::Missed(lines))) => {
                    sse::put_comment(&mut out, &format!("{lines} lines were missed"));
                }
            }
        }
        if !out.is_empty() {
            this.ticker.heard();
        } else if is_over {
            return Poll::Ready(None);
        } else {
            ready!(this.ticker.poll_due(cx));
            sse::put_comment(&mut out, "nothing new");
        }
        Poll::Ready(Some(Ok(out.freeze())))
    }
}

fn put(out: &mut BytesMut, line: &LogLine) {
    match serde_json::to_vec(line) {
        Ok(json) => sse::put(out, None, log_event::LINE, &json),
        // Logging the error would add another line here.
        Err(_) => sse::put_comment(out, "a line could not be written"),
    }
}
