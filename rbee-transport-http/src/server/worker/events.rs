//! The outputs of a run as server-sent events.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use rbee_core::{Output, Result};

use super::outputs::RunOutputs;
use crate::wire::{
    ErrorBody, sse,
    worker::{End, Token, frame},
};

/// Outputs that are available together are sent together, up to this many bytes.
const MOST_TOGETHER: usize = 16 << 10;

/// The body that sends a run's outputs as they come. Dropping it ends the run.
pub(super) fn body_of(outputs: RunOutputs) -> Body {
    Body::from_stream(Events { outputs, buffer: BytesMut::new() })
}

struct Events {
    outputs: RunOutputs,
    buffer: BytesMut,
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = loop {
            match this.outputs.poll_next(cx) {
                Poll::Ready(Some(item)) => put(&mut this.buffer, item),
                polled => break polled,
            }
            if this.buffer.len() >= MOST_TOGETHER {
                break Poll::Pending;
            }
        };
        match polled {
            _ if !this.buffer.is_empty() => Poll::Ready(Some(Ok(this.buffer.split().freeze()))),
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn put(out: &mut BytesMut, item: Result<Output>) {
    let (name, data) = match item {
        Ok(Output::Token { id, text, logprobs }) => {
            (frame::TOKEN, serde_json::to_vec(&Token { id, text: (&*text).into(), logprobs }))
        }
        Ok(Output::Vectors(vectors)) => (frame::VECTORS, serde_json::to_vec(&vectors)),
        Ok(Output::Heartbeat) => (frame::HEARTBEAT, Ok(b"{}".to_vec())),
        Ok(Output::Metrics(metrics)) => (frame::METRICS, serde_json::to_vec(&metrics)),
        Ok(Output::End { finish, usage, stop_text }) => {
            (frame::END, serde_json::to_vec(&End { finish, usage, stop_text }))
        }
        Err(error) => (frame::ERROR, serde_json::to_vec(&ErrorBody::for_queen(&error, None).error)),
    };
    match data {
        Ok(data) => sse::put(out, None, name, &data),
        // Vectors may contain values that JSON does not allow: then the reader gets an error.
        Err(_) => sse::put(
            out,
            None,
            frame::ERROR,
            br#"{"code":"WORKER_FAULT","message":"an output is not JSON"}"#,
        ),
    }
}
