//! The events of a response.
//!
//! The events of one job are always the same, with the same sequence numbers, so a client that has lost the connection
//! can go on after the last one that it has received.

use bytes::BytesMut;
use rbee_core::{
    Error, ErrorKind,
    answer::Delta,
    event::{Logprobs, Started},
};
use serde_json::{Value, json};

use super::{
    object,
    output::{Change, ItemKind, Output, OutputItem},
    tools::custom_input,
};
use crate::{
    server::queen::{
        answer_stream::{AnswerEnd, AnswerWriter},
        bounds::FollowerPlace,
        json_escape::put_escaped,
    },
    wire::{
        OpenAiErrorBody,
        openai::ChatTokenLogprob,
        responses::{Response, ResponseStatus},
        sse,
    },
};

/// Writes the events of a response.
pub(super) struct Writer {
    response: Response,
    output: Output,
    events: Events,
    is_open: bool,
    /// True once a worker has begun.
    is_started: bool,
    /// The events before the start of a worker are sent at once.
    opens_at_once: bool,
    _place: Option<FollowerPlace>,
}

impl Writer {
    /// A writer for a response that has not begun.
    pub(super) fn new(response: Response, output: Output) -> Self {
        let has_summary = response.reasoning.summary.is_some();
        let opens_at_once = response.background;
        Self {
            response,
            output,
            events: Events { next: 0, after: None, has_summary },
            is_open: false,
            is_started: false,
            opens_at_once,
            _place: None,
        }
    }

    /// Writes the events of a job of an earlier request, only those after the one with this number.
    pub(super) fn replay(mut self, after: Option<u64>, place: FollowerPlace) -> Self {
        self.events.after = after;
        self.opens_at_once = true;
        self._place = Some(place);
        self
    }

    fn open(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_open, true) {
            return;
        }
        self.lifecycle("response.created", out);
        if self.response.background {
            self.lifecycle("response.queued", out);
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        self.open(out);
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.response.status = ResponseStatus::InProgress;
        self.lifecycle("response.in_progress", out);
    }

    /// Writes an event with the whole response.
    fn lifecycle(&mut self, name: &str, out: &mut BytesMut) {
        self.events.put(out, name, json!({"response": self.response}));
    }
}

impl AnswerWriter for Writer {
    fn opened(&mut self, out: &mut BytesMut) {
        if self.opens_at_once {
            self.open(out);
            if out.is_empty() {
                // The client has received these events. Whatever follows is an event too, also an error.
                sse::put_comment(out, "resumed");
            }
        }
    }

    fn started(&mut self, _started: &Started, out: &mut BytesMut) {
        self.start(out);
    }

    fn next_logprobs(&mut self, logprobs: &Logprobs) {
        self.output.next_logprobs(logprobs);
    }

    fn delta(&mut self, delta: Delta, out: &mut BytesMut) {
        let Self { output, events, .. } = self;
        output.push(delta, &mut |change| events.change(change, out));
    }

    fn end(&mut self, end: AnswerEnd<'_>, out: &mut BytesMut) {
        self.start(out);
        let Self { output, events, .. } = self;
        output.finish(Some(end.finish), &mut |change| events.change(change, out));
        self.response = object::ended(self.response.clone(), output, end.finish, end.usage);
        let name = match self.response.status {
            ResponseStatus::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.lifecycle(name, out);
    }

    fn error(&mut self, error: &Error, out: &mut BytesMut) {
        self.open(out);
        if error.kind() == ErrorKind::Interrupted {
            // The job goes on. This is none of its events, so it has no number of its own.
            let told = OpenAiErrorBody::from(error).error;
            let last = self.events.next.saturating_sub(1);
            let body = json!({
                "type": "error", "code": told.code, "message": told.message, "param": told.param,
                "sequence_number": last,
            });
            return put(out, "error", &body);
        }
        let Self { output, events, .. } = self;
        output.finish(None, &mut |change| events.change(change, out));
        self.response = object::failed(self.response.clone(), output, error);
        self.lifecycle("response.failed", out);
    }

    fn waiting(&mut self, line: &str, out: &mut BytesMut) {
        self.open(out);
        sse::put_comment(out, line);
    }
}

/// Numbers the events, and writes those that the client has not received.
struct Events {
    /// The number of the next event.
    next: u64,
    /// The number of the last event that the client has received.
    after: Option<u64>,
    /// Reasoning is given as a summary.
    has_summary: bool,
}

impl Events {
    /// The number of the next event, or `None` if the client has received it.
    fn number(&mut self) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        self.after.is_none_or(|after| number > after).then_some(number)
    }

    fn put(&mut self, out: &mut BytesMut, name: &str, mut body: Value) {
        let Some(number) = self.number() else { return };
        body["type"] = name.into();
        body["sequence_number"] = number.into();
        put(out, name, &body);
    }

    fn change(&mut self, change: Change<'_>, out: &mut BytesMut) {
        match change {
            Change::Added(index, item) => self.added(index, item, out),
            Change::Text(index, item, text, logprobs) => {
                self.text(index, item, (text, logprobs), out);
            }
            Change::Done(index, item) => self.done(index, item, out),
        }
    }

    fn added(&mut self, index: usize, item: &OutputItem, out: &mut BytesMut) {
        let whole = item.to_wire(self.has_summary);
        self.put(out, "response.output_item.added", json!({"output_index": index, "item": whole}));
        if let Some(part) = item.part(self.has_summary) {
            let (name, of_part) = self.part_names(&item.kind);
            let body = json!({"item_id": item.id, "output_index": index, of_part: 0, "part": part});
            self.put(out, &format!("{name}.added"), body);
        }
    }

    /// The name of the events of a part, and the field with its number.
    fn part_names(&self, kind: &ItemKind) -> (&'static str, &'static str) {
        if self.is_summary(kind) {
            ("response.reasoning_summary_part", "summary_index")
        } else {
            ("response.content_part", "content_index")
        }
    }

    fn is_summary(&self, kind: &ItemKind) -> bool {
        self.has_summary && *kind == ItemKind::Reasoning
    }

    /// The name of the events of a text, and the field with the number of its part.
    fn text_names(&self, kind: &ItemKind) -> (&'static str, &'static str) {
        match kind {
            ItemKind::Message => ("response.output_text", "content_index"),
            ItemKind::Reasoning if self.has_summary => {
                ("response.reasoning_summary_text", "summary_index")
            }
            ItemKind::Reasoning => ("response.reasoning_text", "content_index"),
            ItemKind::Call { is_custom: true, .. } => ("response.custom_tool_call_input", ""),
            ItemKind::Call { .. } => ("response.function_call_arguments", ""),
        }
    }

    /// Nearly all events are these: they are written directly.
    fn text(
        &mut self,
        index: usize,
        item: &OutputItem,
        (text, logprobs): (&str, &[ChatTokenLogprob]),
        out: &mut BytesMut,
    ) {
        // The input of a custom tool is a text within the arguments: it is sent as a whole.
        if matches!(item.kind, ItemKind::Call { is_custom: true, .. }) {
            return;
        }
        let Some(number) = self.number() else { return };
        let (name, of_part) = self.text_names(&item.kind);
        let part = if of_part.is_empty() { String::new() } else { format!("\"{of_part}\":0,") };
        let logprobs = match item.kind {
            ItemKind::Message if logprobs.is_empty() => "\"logprobs\":[],".into(),
            ItemKind::Message => format!("\"logprobs\":{},", json!(logprobs)),
            ItemKind::Reasoning | ItemKind::Call { .. } => String::new(),
        };
        let head = format!(
            "event: {name}.delta\ndata: {{\"type\":\"{name}.delta\",\"sequence_number\":{number},\"item_id\":\"{}\",\
             \"output_index\":{index},{part}{logprobs}\"delta\":\"",
            item.id
        );
        out.extend_from_slice(head.as_bytes());
        put_escaped(out, text);
        out.extend_from_slice(b"\"}\n\n");
    }

    fn done(&mut self, index: usize, item: &OutputItem, out: &mut BytesMut) {
        let (name, of_part) = self.text_names(&item.kind);
        let mut body = json!({"item_id": item.id, "output_index": index});
        match &item.kind {
            ItemKind::Message | ItemKind::Reasoning => {
                body[of_part] = 0.into();
                body["text"] = item.text.as_str().into();
                if item.kind == ItemKind::Message {
                    body["logprobs"] = json!(item.logprobs);
                }
            }
            ItemKind::Call { is_custom: true, .. } => {
                let input = custom_input(&item.text);
                let delta = json!({"item_id": item.id, "output_index": index, "delta": input});
                self.put(out, &format!("{name}.delta"), delta);
                body["input"] = input.into();
            }
            ItemKind::Call { name, .. } => {
                body["name"] = name.as_str().into();
                body["arguments"] = item.text.as_str().into();
            }
        }
        self.put(out, &format!("{name}.done"), body);
        if let Some(part) = item.part(self.has_summary) {
            let (name, of_part) = self.part_names(&item.kind);
            let body = json!({"item_id": item.id, "output_index": index, of_part: 0, "part": part});
            self.put(out, &format!("{name}.done"), body);
        }
        let whole = item.to_wire(self.has_summary);
        self.put(out, "response.output_item.done", json!({"output_index": index, "item": whole}));
    }
}

fn put(out: &mut BytesMut, name: &str, body: &Value) {
    match serde_json::to_vec(body) {
        Ok(json) => sse::put(out, None, name, &json),
        Err(cause) => tracing::warn!(%cause, event = name, "an event could not be written"),
    }
}
