//! Streamed answers, as the events of Anthropic's API.
//!
//! The parts of the answer are blocks with a number; one of them is open at a time.

use bytes::{BufMut, BytesMut};
use rbee_core::{
    CorrelationId, Error, JobId, Usage,
    answer::{Delta, call_id},
    event::Metrics,
};
use serde::Serialize;

use super::{About, answer::why_ended, tool_use_id};
use crate::{
    server::queen::{
        answer_stream::{AnswerEnd, AnswerWriter},
        json_escape::put_escaped,
        retry,
    },
    wire::{
        AnthropicErrorBody,
        messages::{
            AnswerBlock, BlockDelta, MessageAnswer, MessageEnd, MessageUsage, SIGNATURE,
            StreamEvent,
        },
        sse,
    },
};

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    Call(u32),
}

/// Writes the events of one answer.
#[derive(Debug)]
pub(super) struct EventWriter {
    job: JobId,
    /// The first event, until it is written.
    message: Option<Box<MessageAnswer>>,
    shows_thinking: bool,
    open: Option<Open>,
    /// The number of the block that is open, or of the next one.
    index: u32,
    /// The correlation id of the request.
    mark: CorrelationId,
}

impl EventWriter {
    pub(super) fn new(about: &About, mark: CorrelationId) -> Self {
        Self {
            job: about.job,
            message: Some(Box::new(about.empty_message())),
            shows_thinking: about.shows_thinking,
            open: None,
            index: 0,
            mark,
        }
    }

    /// Writes the first event, if it is not written yet.
    fn begin(&mut self, usage: Option<MessageUsage>, out: &mut BytesMut) {
        if let Some(mut message) = self.message.take() {
            message.usage = usage.unwrap_or(message.usage);
            put(out, "message_start", &StreamEvent::MessageStart { message: *message });
        }
    }

    /// Makes this block the open one.
    fn open(&mut self, block: Open, content: impl FnOnce() -> AnswerBlock, out: &mut BytesMut) {
        if self.open == Some(block) {
            return;
        }
        self.begin(None, out);
        self.close(out);
        self.open = Some(block);
        let event = StreamEvent::ContentBlockStart { index: self.index, content_block: content() };
        put(out, "content_block_start", &event);
    }

    /// Closes the open block, if there is one.
    fn close(&mut self, out: &mut BytesMut) {
        let Some(open) = self.open.take() else { return };
        let index = self.index;
        if open == Open::Thinking {
            let delta = BlockDelta::SignatureDelta { signature: SIGNATURE.into() };
            put(out, "content_block_delta", &StreamEvent::ContentBlockDelta { index, delta });
        }
        put(out, "content_block_stop", &StreamEvent::ContentBlockStop { index });
        self.index += 1;
    }

    /// Adds text to the open block. A token costs only its text, escaped into the buffer.
    fn add(&self, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
        out.put_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        sse::put_number(out, self.index.into());
        for part in [",\"delta\":{\"type\":\"", kind, "\",\"", field, "\":\""] {
            out.put_slice(part.as_bytes());
        }
        put_escaped(out, text);
        out.put_slice(b"\"}}\n\n");
    }
}

impl AnswerWriter for EventWriter {
    fn prompt(&mut self, metrics: &Metrics, out: &mut BytesMut) {
        let usage = Usage {
            prompt_tokens: metrics.prompt_tokens,
            completion_tokens: 0,
            cached_tokens: metrics.cached_tokens,
        };
        self.begin(Some(usage.into()), out);
    }

    fn delta(&mut self, delta: Delta, out: &mut BytesMut) {
        match delta {
            Delta::Content(text) => {
                self.open(Open::Text, || AnswerBlock::Text { text: String::new() }, out);
                self.add("text_delta", "text", &text, out);
            }
            Delta::Reasoning(text) => {
                let empty =
                    || AnswerBlock::Thinking { thinking: String::new(), signature: String::new() };
                self.open(Open::Thinking, empty, out);
                if self.shows_thinking {
                    self.add("thinking_delta", "thinking", &text, out);
                }
            }
            Delta::CallBegin { index, name } => {
                let id = tool_use_id(&call_id(self.job, index));
                let call = || AnswerBlock::ToolUse { id, name, input: serde_json::Map::new() };
                self.open(Open::Call(index), call, out);
            }
            Delta::CallArguments { json, .. } => {
                self.add("input_json_delta", "partial_json", &json, out);
            }
            Delta::CallEnd { .. } => self.close(out),
        }
    }

    fn end(&mut self, end: AnswerEnd<'_>, out: &mut BytesMut) {
        self.begin(Some(MessageUsage { output_tokens: 0, ..end.usage.into() }), out);
        self.close(out);
        let (stop_reason, stop_sequence) = why_ended(end.finish, end.has_calls, end.stop_text);
        let delta = MessageEnd { stop_reason, stop_sequence };
        put(out, "message_delta", &StreamEvent::MessageDelta { delta, usage: end.usage.into() });
        put(out, "message_stop", &StreamEvent::MessageStop);
    }

    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        let status = retry::status(error).as_u16();
        put(out, "error", &AnthropicErrorBody::new(error, status, Some(&self.mark)));
    }

    fn waiting(&mut self, line: &str, out: &mut BytesMut) {
        sse::put_comment(out, line);
        put(out, "ping", &StreamEvent::Ping);
    }
}

fn put(out: &mut BytesMut, event: &str, data: &impl Serialize) {
    match serde_json::to_vec(data) {
        Ok(data) => sse::put(out, None, event, &data),
        Err(cause) => tracing::warn!(%cause, "an event could not be written"),
    }
}
