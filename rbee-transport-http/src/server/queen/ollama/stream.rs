//! Streamed answers: one JSON object in each line.

use bytes::{BufMut, BytesMut};
use rbee_core::{
    Error, JobId,
    answer::Delta,
    event::{Logprobs, Metrics, Started},
};

use super::{
    line::{Clock, Frame, Line},
    parts::{Part, Parts},
    request::Ask,
};
use crate::{
    server::queen::answer_stream::{AnswerEnd, AnswerWriter},
    wire::OllamaErrorBody,
};

/// Writes the lines of an answer.
#[derive(Debug)]
pub(super) struct Lines {
    frame: Frame,
    parts: Parts,
    clock: Clock,
}

impl Lines {
    pub(super) fn new(ask: &Ask, job: JobId, clock: Clock) -> Self {
        Self { frame: Frame::new(ask.kind, &ask.model), parts: Parts::new(job), clock }
    }
}

fn put_part(frame: &Frame, part: &Part, out: &mut BytesMut) {
    let line = match part {
        Part::Content(text) => Line { content: text, ..Line::default() },
        Part::Thinking(text) => Line { thinking: text, ..Line::default() },
        Part::Call(call) => Line { calls: std::slice::from_ref(call), ..Line::default() },
    };
    put_line(frame, &line, out);
}

fn put_line(frame: &Frame, line: &Line<'_>, out: &mut BytesMut) {
    frame.put(line, out);
    out.put_u8(b'\n');
}

impl AnswerWriter for Lines {
    fn started(&mut self, started: &Started, _out: &mut BytesMut) {
        self.clock.started(started.queue_wait);
    }

    fn prompt(&mut self, metrics: &Metrics, _out: &mut BytesMut) {
        self.clock.measured(metrics);
    }

    fn delta(&mut self, delta: Delta, out: &mut BytesMut) {
        self.clock.token();
        let Self { frame, parts, .. } = self;
        parts.add(delta, |part| put_part(frame, &part, out));
    }

    fn logprobs(&mut self, logprobs: &Logprobs, out: &mut BytesMut) {
        // They belong to a token, and its text to no part alone.
        let line = Line { logprobs: std::slice::from_ref(logprobs), ..Line::default() };
        put_line(&self.frame, &line, out);
    }

    fn end(&mut self, end: AnswerEnd<'_>, out: &mut BytesMut) {
        let Self { frame, parts, clock } = self;
        parts.finish(|part| put_part(frame, &part, out));
        let end = Some((end.finish.as_str(), Some(clock.timings(end.usage))));
        put_line(frame, &Line { end, ..Line::default() }, out);
    }

    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        match serde_json::to_vec(&OllamaErrorBody::from(error)) {
            Ok(body) => {
                out.extend_from_slice(&body);
                out.put_u8(b'\n');
            }
            Err(cause) => tracing::warn!(%cause, "an error could not be written"),
        }
    }

    fn waiting(&mut self, _line: &str, out: &mut BytesMut) {
        // Clients parse each line as JSON, so a line of its own would break them. White space before the next object
        // does not.
        out.put_u8(b' ');
    }
}
