//! Answers that are not streamed.

use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http::{StatusCode, header};
use rbee_core::{
    Finish, JobHandle, Result,
    answer::{AnswerParser, Delta},
    event::Started,
};

use super::{
    line::{Clock, Frame, Line},
    parts::{Part, Parts},
    request::Ask,
};
use crate::{
    server::queen::{
        answer_stream::options,
        sender::{Sender, put_origin},
    },
    wire::ollama::Timings,
};

/// Waits for the whole answer.
pub(super) async fn whole(
    handle: JobHandle,
    ask: &Ask,
    sender: &Sender,
    mut clock: Clock,
) -> Result<Response> {
    let job = handle.id();
    let answer = handle.answer().await?;
    clock.started(answer.queue_wait);
    answer.metrics.iter().for_each(|metrics| clock.measured(metrics));
    let mut deltas = Vec::new();
    match options(ask.tools.as_ref(), answer.format) {
        Some(options) => {
            let mut parser = AnswerParser::new(options);
            parser.push(&answer.text, &mut deltas);
            match answer.finish {
                Finish::Stop => parser.finish(&mut deltas),
                Finish::Length => parser.cut_off(&mut deltas),
            }
        }
        None => deltas.push(Delta::Content(answer.text)),
    }
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    let mut parts = Parts::new(job);
    let mut give = |part| match part {
        Part::Content(text) => content.push_str(&text),
        Part::Thinking(text) => thinking.push_str(&text),
        Part::Call(call) => calls.push(call),
    };
    for delta in deltas {
        parts.add(delta, &mut give);
    }
    parts.finish(&mut give);
    let line = Line {
        content: &content,
        thinking: &thinking,
        calls: &calls,
        logprobs: &answer.logprobs,
        end: Some((answer.finish.as_str(), Some(clock.timings(answer.usage)))),
    };
    let mut response = object(ask, &line);
    let (worker, queue_wait, format) = (answer.worker, answer.queue_wait, answer.format);
    let started = Started { worker, queue_wait, format };
    put_origin(response.headers_mut(), &sender.caller, job, Some(started));
    Ok(response)
}

/// The answer to a request without a prompt.
pub(super) fn empty(ask: &Ask, reason: &'static str) -> Response {
    object(ask, &Line { end: Some((reason, None::<Timings>)), ..Line::default() })
}

fn object(ask: &Ask, line: &Line<'_>) -> Response {
    let mut body = BytesMut::new();
    Frame::new(ask.kind, &ask.model).put(line, &mut body);
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body.freeze()).into_response()
}
