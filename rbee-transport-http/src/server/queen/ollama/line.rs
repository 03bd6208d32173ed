//! One object of an answer as JSON: a line of a stream, or a whole answer.

use bytes::{BufMut, Bytes, BytesMut};
use rbee_core::{
    Usage,
    event::{Logprobs, Metrics},
};
use tokio::time::{Duration, Instant};

use super::{parts::Call, request::Kind};
use crate::{
    server::queen::{json_escape::put_escaped, rfc3339::rfc3339, unix_seconds},
    wire::ollama::{LogprobOf, Timings},
};

/// The constant beginning of the objects of one answer.
#[derive(Debug)]
pub(super) struct Frame {
    kind: Kind,
    /// Up to the message.
    head: Bytes,
}

/// What an object says.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) content: &'a str,
    pub(super) thinking: &'a str,
    pub(super) calls: &'a [Call],
    pub(super) logprobs: &'a [Logprobs],
    /// The reason of the end, with the counts and times if there are any.
    pub(super) end: Option<(&'static str, Option<Timings>)>,
}

impl Frame {
    pub(super) fn new(kind: Kind, model: &str) -> Self {
        let mut head = BytesMut::with_capacity(128);
        head.put_slice(b"{\"model\":\"");
        put_escaped(&mut head, model);
        head.put_slice(b"\",\"created_at\":\"");
        head.put_slice(rfc3339(unix_seconds()).as_bytes());
        head.put_slice(match kind {
            Kind::Chat => b"\",\"message\":{\"role\":\"assistant\",\"content\":\"",
            Kind::Generate => b"\",\"response\":\"",
        });
        Self { kind, head: head.freeze() }
    }

    /// Appends an object, without a line break.
    pub(super) fn put(&self, line: &Line<'_>, out: &mut BytesMut) {
        out.extend_from_slice(&self.head);
        put_escaped(out, line.content);
        out.put_u8(b'"');
        if !line.thinking.is_empty() {
            out.put_slice(b",\"thinking\":\"");
            put_escaped(out, line.thinking);
            out.put_u8(b'"');
        }
        if !line.calls.is_empty() {
            put_list(out, "tool_calls", line.calls, put_call);
        }
        if self.kind == Kind::Chat {
            out.put_u8(b'}');
        }
        if !line.logprobs.is_empty() {
            put_list(out, "logprobs", line.logprobs, |out, logprobs| {
                put_json(out, &LogprobOf::from(logprobs));
            });
        }
        let Some((reason, timings)) = &line.end else {
            out.put_slice(b",\"done\":false}");
            return;
        };
        out.put_slice(b",\"done\":true,\"done_reason\":\"");
        out.put_slice(reason.as_bytes());
        out.put_u8(b'"');
        if let Some(timings) = timings {
            // The fields of the object, without the bracket that opens it.
            let mut fields = BytesMut::new();
            put_json(&mut fields, timings);
            out.put_u8(b',');
            out.extend_from_slice(fields.get(1..).unwrap_or_default());
        } else {
            out.put_u8(b'}');
        }
    }
}

fn put_list<T>(out: &mut BytesMut, name: &str, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    out.put_slice(b",\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\":[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        put(out, item);
    }
    out.put_u8(b']');
}

fn put_call(out: &mut BytesMut, call: &Call) {
    out.put_slice(b"{\"id\":\"");
    put_escaped(out, &call.id);
    out.put_slice(b"\",\"function\":{\"index\":");
    out.put_slice(call.index.to_string().as_bytes());
    out.put_slice(b",\"name\":\"");
    put_escaped(out, &call.name);
    out.put_slice(b"\",\"arguments\":");
    out.put_slice(call.arguments.as_bytes());
    out.put_slice(b"}}");
}

fn put_json(out: &mut BytesMut, value: &impl serde::Serialize) {
    // Numbers and texts always become JSON.
    out.extend_from_slice(serde_json::to_vec(value).as_deref().unwrap_or(b"null"));
}

/// Measures an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
    /// How long the job waited, and when it was read that a worker began.
    started: Option<(Duration, Instant)>,
    prefill: Option<Duration>,
}

impl Clock {
    /// The request has arrived.
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), started: None, prefill: None }
    }

    /// A worker has begun.
    pub(super) fn started(&mut self, queue_wait: Duration) {
        self.started.get_or_insert((queue_wait, Instant::now()));
    }

    /// The worker has measured the prompt.
    pub(super) fn measured(&mut self, metrics: &Metrics) {
        self.prefill = Some(metrics.prefill);
    }

    /// A token was read. If the worker measures nothing, the prompt counts until the first one.
    pub(super) fn token(&mut self) {
        if self.prefill.is_none() {
            self.prefill = self.started.map(|(_, at)| at.elapsed());
        }
    }

    /// The answer has ended.
    pub(super) fn timings(&self, usage: Usage) -> Timings {
        let total = self.began.elapsed();
        let load = self.started.map_or(Duration::ZERO, |(waited, _)| waited).min(total);
        let prefill = self.prefill.unwrap_or_default().min(total - load);
        let eval = total - load - prefill;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Timings {
            total_duration: nanos(total),
            load_duration: nanos(load),
            prompt_eval_count: usage.prompt_tokens.into(),
            prompt_eval_duration: nanos(prefill),
            eval_count: usage.completion_tokens.into(),
            // Clients divide by it.
            eval_duration: nanos(eval).max(1),
        }
    }
}
