//! The events of a job, as a stream.

use std::{
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use rbee_core::{
    CorrelationId, JobId, Result,
    event::{EventRef, Logprobs},
    queen::JobEvents,
};
use serde::Serialize;

use crate::{
    server::queen::{
        bounds::FollowerPlace, caller::Caller, json_escape::put_escaped, keep_alive::Waiting,
        stream_headers,
    },
    wire::{
        ErrorBody,
        queen::{Metrics, Started, job_event},
        sse,
        worker::End,
    },
};

/// Events that are available together are sent together, up to this many bytes.
const MOST_TOGETHER: usize = 16 << 10;

/// The events that the reader has not received; `None` if it has received the last one.
pub(super) fn stream(
    job: JobId,
    mark: Option<CorrelationId>,
    caller: Caller,
    waiting: Waiting,
    reader: JobEvents,
    place: FollowerPlace,
) -> Option<Response> {
    let buffer = BytesMut::with_capacity(1 << 10);
    let origin = Origin { job, mark, caller };
    let mut frames = Frames { reader, origin, buffer, waiting, over: false, _place: place };
    // The events that exist already; polling the stream wakes for the rest.
    frames.fill(&mut Context::from_waker(Waker::noop()));
    if frames.over && frames.buffer.is_empty() {
        return None;
    }
    Some((stream_headers(), Body::from_stream(frames)).into_response())
}

/// The job of the events, and their reader.
struct Origin {
    job: JobId,
    mark: Option<CorrelationId>,
    caller: Caller,
}

struct Frames {
    reader: JobEvents,
    origin: Origin,
    buffer: BytesMut,
    waiting: Waiting,
    over: bool,
    _place: FollowerPlace,
}

impl Frames {
    fn fill(&mut self, cx: &mut Context<'_>) {
        if self.over {
            return;
        }
        let Self { reader, origin, buffer, waiting, .. } = self;
        let _ = reader.poll_read(cx, |seq, event| {
            waiting.begun();
            put(buffer, origin, seq, event);
            if buffer.len() < MOST_TOGETHER {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        self.over = self.reader.is_done();
        if self.over && self.reader.interruption().is_some() {
            // This is not an event of the job: the job has not ended, and no position is used.
            sse::put_retry(&mut self.buffer, sse::RETRY);
        }
    }
}

fn put(out: &mut BytesMut, origin: &Origin, seq: Option<u64>, event: EventRef<'_>) {
    match event {
        EventRef::Token { id, text, logprobs } => put_token(out, seq, id, text, logprobs),
        EventRef::Started(started) => {
            let queue_ms = u64::try_from(started.queue_wait.as_millis()).unwrap_or(u64::MAX);
            let worker = origin.caller.worker(started.worker);
            let started = Started { job: origin.job, worker, queue_ms };
            put_json(out, seq, job_event::STARTED, &started);
        }
        EventRef::Vectors(vectors) => put_json(out, seq, job_event::VECTORS, &**vectors),
        EventRef::Metrics(metrics) => {
            let metrics = Metrics {
                prompt_tokens: metrics.prompt_tokens,
                prefill_ms: metrics.prefill.as_secs_f64() * 1e3,
                cached_tokens: metrics.cached_tokens,
            };
            put_json(out, seq, job_event::METRICS, &metrics);
        }
        EventRef::End { finish, usage, stop_text } => {
            let stop_text = stop_text.map(Box::from);
            put_json(out, seq, job_event::END, &End { finish, usage, stop_text });
        }
        EventRef::Error(error) => {
            let Origin { job, mark, caller } = origin;
            if !caller.sees_machines() {
                // Details that are hidden from a tenant must be found by the correlation id.
                let mark = mark.as_ref().map(CorrelationId::as_str);
                tracing::info!(correlation_id = mark, %job, error = error.for_log(), "a job failed");
            }
            let told = ErrorBody::new(&caller.error(error), mark.as_ref());
            put_json(out, seq, job_event::ERROR, &told.error);
        }
    }
}

/// Nearly all events are tokens: they are written directly.
fn put_token(
    out: &mut BytesMut,
    seq: Option<u64>,
    id: Option<u32>,
    text: &str,
    logprobs: Option<&Logprobs>,
) {
    if let Some(seq) = seq {
        out.extend_from_slice(b"id: ");
        sse::put_number(out, seq);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"event: token\ndata: {");
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        sse::put_number(out, u64::from(id));
        out.extend_from_slice(b",");
    }
    out.extend_from_slice(b"\"text\":\"");
    put_escaped(out, text);
    out.extend_from_slice(b"\"");
    // Numbers and text always become JSON.
    if let Some(json) = logprobs.and_then(|logprobs| serde_json::to_vec(logprobs).ok()) {
        out.extend_from_slice(b",\"logprobs\":");
        out.extend_from_slice(&json);
    }
    out.extend_from_slice(b"}\n\n");
}

fn put_json(out: &mut BytesMut, seq: Option<u64>, name: &str, body: &impl Serialize) {
    match serde_json::to_vec(body) {
        Ok(json) => sse::put(out, seq, name, &json),
        Err(cause) => tracing::warn!(%cause, event = name, "an event could not be written"),
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.buffer.is_empty() {
            this.fill(cx);
        }
        if !this.buffer.is_empty() {
            this.waiting.heard();
        } else if this.over {
            return Poll::Ready(None);
        } else {
            let comment = std::task::ready!(this.waiting.poll_comment(cx));
            sse::put_comment(&mut this.buffer, &comment);
        }
        Poll::Ready(Some(Ok(this.buffer.split().freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::worker::Token;

    #[test]
    fn a_token_is_written_as_its_type_says() {
        let of = |text: &str, bytes: Option<Box<[u8]>>| rbee_core::event::TokenLogprob {
            id: Some(7),
            text: text.into(),
            bytes,
            logprob: -0.5,
        };
        let some = Logprobs {
            chosen: of("a \"b\"", None),
            top: vec![of("\u{fffd}", Some([0xf0].into()))],
        };
        for (id, logprobs) in [(None, None), (Some(7), None), (Some(7), Some(some))] {
            let mut out = BytesMut::new();
            put_token(&mut out, Some(3), id, "a \"b\"\n\u{e9}", logprobs.as_ref());
            let mut parser = sse::Parser::default();
            parser.push(&out);
            let event = parser.next_event().unwrap().unwrap();
            assert_eq!((event.id.as_deref(), &*event.name), (Some("3"), job_event::TOKEN));
            let token: Token<'_> = serde_json::from_slice(&event.data).unwrap();
            assert_eq!(
                token,
                Token { id, text: "a \"b\"\n\u{e9}".into(), logprobs: logprobs.map(Box::new) }
            );
        }
    }
}
