//! Streamed answers.
//!
//! The constant parts of a chunk are written once for each stream; a token costs only its text, escaped into the
//! output buffer. Tokens that are available together are sent together. No timer is set for a token: one timer ticks
//! slowly, and sends a comment only if nothing else was sent.

use std::{
    fmt::Write as _,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;
use rbee_core::{
    CorrelationId, Error, ErrorKind, JobHandle, Queen, Result,
    event::{EventRef, Logprobs, Started},
    request::CallableTool,
};

use super::{Origin, kind::Kind, logprobs, parts::Parts};
use crate::{
    server::queen::{
        answer_stream::{HEAD_TIMEOUT, MOST_TOGETHER, options},
        caller::Caller,
        json_escape::put_escaped,
        keep_alive::Waiting,
        sender::put_origin,
        stream_headers,
    },
    wire::{
        OpenAiErrorBody,
        openai::{DONE, PromptTokensDetails, StreamOptions, Usage},
        sse,
    },
};

/// Begins to stream. Dropping the body of the response cancels the jobs.
///
/// # Errors
/// The error of a job, if nothing was sent before it.
pub(super) async fn stream(
    queen: &Queen,
    handles: Vec<JobHandle>,
    origin: &Origin,
    options: StreamOptions,
) -> Result<Response> {
    let mut chunks = Chunks::new(queen, handles, origin, options);
    let begun = poll_fn(|cx| chunks.poll_fill(cx));
    // Nothing is lost if that takes too long: the output is in the buffer.
    let _ = tokio::time::timeout(HEAD_TIMEOUT, begun).await;
    if let Some(error) = chunks.failed.take() {
        return Err(error);
    }
    let started = chunks.started;
    let mut response = (stream_headers(), Body::from_stream(chunks)).into_response();
    put_origin(response.headers_mut(), &origin.caller, origin.job, started);
    Ok(response)
}

/// One of the answers.
struct Choice {
    handle: JobHandle,
    /// True if it begins a new prompt.
    new_prompt: bool,
    /// True once something of it was sent.
    begun: bool,
    over: bool,
    frame: Frame,
    /// The length of its tokens so far, in characters, if there are log probabilities.
    offset: u64,
    /// Its parts. `None` if its whole text is content.
    parts: Option<Parts>,
}

/// The constant parts of the chunks of one answer.
struct Frame {
    /// Up to the text of a token.
    token: Bytes,
    /// Up to the delta of a part.
    part: Bytes,
    /// Up to the reason of its end.
    end: Bytes,
    /// The whole of its first chunk; empty if none is needed.
    first: Bytes,
}

struct Chunks {
    choices: Vec<Choice>,
    /// From after the text of a token to the end of the chunk.
    token_end: Bytes,
    /// From after the delta of a part to the end of the chunk.
    part_end: Bytes,
    /// The same with log probabilities: up to them, and from after them.
    token_logprobs: [Bytes; 2],
    kind: Kind,
    /// From after the reason of an end to the end of the chunk.
    end_end: Bytes,
    /// The head of the chunk with the usage, if requested.
    usage_head: Option<Bytes>,
    usage: Usage,
    buffer: BytesMut,
    started: Option<Started>,
    /// True once the client has received something.
    sent: bool,
    failed: Option<Error>,
    over: bool,
    waiting: Waiting,
    /// The tools that the model may call, if it is a chat.
    tools: Option<Vec<CallableTool>>,
    caller: Caller,
    mark: CorrelationId,
}

impl Chunks {
    fn new(
        queen: &Queen,
        handles: Vec<JobHandle>,
        origin: &Origin,
        options: StreamOptions,
    ) -> Self {
        let usage = if options.include_usage { ",\"usage\":null" } else { "" };
        let choice = |(index, handle): (usize, JobHandle)| Choice {
            handle,
            new_prompt: origin.begins_prompt(index),
            begun: false,
            over: false,
            offset: 0,
            parts: None,
            frame: Frame::new(origin, index, usage),
        };
        let quote = match origin.kind {
            Kind::Chat => "\"}",
            Kind::Completion => "\"",
        };
        let usage_head = options.include_usage.then(|| {
            let mut head = head(origin);
            head.extend_from_slice(b"],\"usage\":");
            head.freeze()
        });
        Self {
            choices: handles.into_iter().enumerate().map(choice).collect(),
            token_end: format!("{quote},\"logprobs\":null,\"finish_reason\":null}}]{usage}}}\n\n")
                .into(),
            part_end: format!(",\"logprobs\":null,\"finish_reason\":null}}]{usage}}}\n\n").into(),
            token_logprobs: [
                format!("{quote},\"logprobs\":").into(),
                format!(",\"finish_reason\":null}}]{usage}}}\n\n").into(),
            ],
            kind: origin.kind,
            end_end: format!("\"}}]{usage}}}\n\n").into(),
            usage_head,
            usage: Usage::default(),
            buffer: BytesMut::with_capacity(1 << 10),
            started: None,
            sent: false,
            failed: None,
            over: false,
            waiting: Waiting::new(
                queen,
                origin.job,
                queen.models().resolve(&origin.model).ok(),
                origin.caller.clone(),
            ),
            tools: origin.tools.clone(),
            caller: origin.caller.clone(),
            mark: origin.mark.clone(),
        }
    }

    /// Takes the available events. Ready if there is something to send, or the stream is over.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for at in 0..self.choices.len() {
            self.take(at, cx);
        }
        if !self.over && self.choices.iter().all(|choice| choice.over) {
            self.finish();
        }
        if self.over || !self.buffer.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take(&mut self, at: usize, cx: &mut Context<'_>) {
        if self.over || self.choices[at].over {
            return;
        }
        let mut failed = None;
        let Self { choices, buffer, token_end, part_end, end_end, usage, started, waiting, .. } =
            self;
        let (kind, [before_logprobs, after_logprobs]) = (self.kind, &self.token_logprobs);
        let tools = &self.tools;
        let Choice { handle, frame, begun, over, new_prompt, offset, parts } = &mut choices[at];
        let job = handle.id();
        let _ = handle.poll_read(cx, |_, event| {
            match event {
                EventRef::Started(now) => {
                    started.get_or_insert(now);
                    waiting.begun();
                    let options = options(tools.as_ref(), now.format);
                    *parts = options.map(|options| Parts::new(job, options));
                }
                EventRef::Token { text, logprobs, .. } if let Some(parts) = parts => {
                    parts.push(text);
                    frame.put_parts(parts, begun, buffer, part_end);
                    if let Some(logprobs) = logprobs {
                        // They belong to the token, and its text to no part alone.
                        frame.begin(begun, buffer);
                        buffer.extend_from_slice(&frame.token);
                        buffer.extend_from_slice(before_logprobs);
                        put_logprobs(buffer, kind, logprobs, offset);
                        buffer.extend_from_slice(after_logprobs);
                    }
                }
                EventRef::Token { text, logprobs: Some(logprobs), .. } => {
                    frame.begin(begun, buffer);
                    buffer.extend_from_slice(&frame.token);
                    put_escaped(buffer, text);
                    buffer.extend_from_slice(before_logprobs);
                    put_logprobs(buffer, kind, logprobs, offset);
                    buffer.extend_from_slice(after_logprobs);
                }
                EventRef::Token { text, logprobs: None, .. } => {
                    if !text.is_empty() {
                        frame.begin(begun, buffer);
                        buffer.extend_from_slice(&frame.token);
                        put_escaped(buffer, text);
                        buffer.extend_from_slice(token_end);
                    }
                }
                EventRef::Vectors(_) | EventRef::Metrics(_) => {}
                EventRef::End { finish, usage: tokens, .. } => {
                    *over = true;
                    usage.add(tokens, *new_prompt);
                    let mut reason = finish.as_str();
                    if let Some(parts) = parts {
                        parts.finish(finish);
                        frame.put_parts(parts, begun, buffer, part_end);
                        reason = parts.finish_reason(finish);
                    }
                    frame.begin(begun, buffer);
                    buffer.extend_from_slice(&frame.end);
                    buffer.extend_from_slice(reason.as_bytes());
                    buffer.extend_from_slice(end_end);
                }
                EventRef::Error(error) => failed = Some(error.clone()),
            }
            if buffer.len() < MOST_TOGETHER {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if failed.is_none() && handle.is_done() && !*over {
            let why = handle.interruption().cloned();
            failed = Some(why.unwrap_or_else(|| {
                Error::new(ErrorKind::Internal, "the events of the job broke off")
            }));
        }
        if let Some(error) = failed {
            self.fail(error);
        }
    }

    /// Ends the stream after all answers have ended properly.
    fn finish(&mut self) {
        self.over = true;
        if let Some(head) = &self.usage_head {
            self.buffer.extend_from_slice(head);
            let usage = self.usage;
            // Writing to a growing buffer does not fail.
            let _ = write!(
                self.buffer,
                "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}",
                usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
            );
            if let Some(PromptTokensDetails { cached_tokens }) = usage.prompt_tokens_details {
                let _ = write!(
                    self.buffer,
                    ",\"prompt_tokens_details\":{{\"cached_tokens\":{cached_tokens}}}"
                );
            }
            self.buffer.extend_from_slice(b"}}\n\n");
        }
        sse::put(&mut self.buffer, None, "", DONE.as_bytes());
    }

    /// Ends the stream after one answer has failed: the others are cancelled.
    fn fail(&mut self, error: Error) {
        self.over = true;
        self.choices.clear();
        if !self.sent && self.buffer.is_empty() {
            self.failed = Some(error);
            return;
        }
        self.tell(&error);
    }

    fn tell(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Interrupted {
            // The event below is not the job's end. OpenAI's clients would take a stream that just ends for a
            // complete answer.
            sse::put_retry(&mut self.buffer, sse::RETRY);
        }
        // The client may get less detail.
        tracing::info!(correlation_id = %self.mark, error = error.for_log(), "a request failed while its answer was streamed");
        match serde_json::to_vec(&OpenAiErrorBody::from(&*self.caller.error(error))) {
            Ok(body) => sse::put(&mut self.buffer, None, "", &body),
            Err(cause) => tracing::warn!(%cause, "an error could not be written"),
        }
    }
}

impl Frame {
    /// Writes the first chunk, which goes before all others.
    fn begin(&self, begun: &mut bool, out: &mut BytesMut) {
        if !std::mem::replace(begun, true) {
            out.extend_from_slice(&self.first);
        }
    }

    /// Writes a chunk for each part that was found.
    fn put_parts(&self, parts: &mut Parts, begun: &mut bool, out: &mut BytesMut, end: &[u8]) {
        parts.write(|delta| {
            self.begin(begun, out);
            out.extend_from_slice(&self.part);
            out.extend_from_slice(delta);
            out.extend_from_slice(end);
        });
    }

    fn new(origin: &Origin, index: usize, usage: &str) -> Self {
        let mut head = head(origin);
        let _ = write!(head, "{{\"index\":{index},");
        let with = |rest: &str| {
            let mut whole = head.clone();
            whole.put_slice(rest.as_bytes());
            whole.freeze()
        };
        match origin.kind {
            Kind::Chat => Self {
                token: with("\"delta\":{\"content\":\""),
                part: with("\"delta\":"),
                end: with("\"delta\":{},\"logprobs\":null,\"finish_reason\":\""),
                first: with(&format!(
                    "\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}]{usage}}}\n\n"
                )),
            },
            Kind::Completion => Self {
                token: with("\"text\":\""),
                part: Bytes::new(),
                end: with("\"text\":\"\",\"logprobs\":null,\"finish_reason\":\""),
                first: Bytes::new(),
            },
        }
    }
}

/// Writes the log probabilities of a token, after tokens of `offset` characters.
fn put_logprobs(out: &mut BytesMut, kind: Kind, logprobs: &Logprobs, offset: &mut u64) {
    let json = match kind {
        Kind::Chat => serde_json::to_vec(&logprobs::of_chat([logprobs])),
        Kind::Completion => serde_json::to_vec(&logprobs::of_completion([logprobs], offset)),
    };
    // Numbers and text always become JSON.
    out.extend_from_slice(json.as_deref().unwrap_or(b"null"));
}

/// The beginning of every chunk, up to its answers.
fn head(origin: &Origin) -> BytesMut {
    let object = match origin.kind {
        Kind::Chat => "chat.completion.chunk",
        Kind::Completion => "text_completion",
    };
    let mut head = BytesMut::with_capacity(256);
    let _ = write!(
        head,
        "data: {{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},\"model\":\"",
        origin.id(),
        origin.created
    );
    put_escaped(&mut head, &origin.model);
    head.put_slice(b"\",\"choices\":[");
    head
}

impl Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.buffer.is_empty() {
            if this.over {
                return Poll::Ready(None);
            }
            let filled = this.poll_fill(cx);
            if let Some(error) = this.failed.take() {
                this.tell(&error);
            }
            if filled.is_pending() {
                match this.waiting.poll_comment(cx) {
                    Poll::Ready(comment) => sse::put_comment(&mut this.buffer, &comment),
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                this.waiting.heard();
            }
        }
        this.sent = true;
        Poll::Ready(Some(Ok(this.buffer.split().freeze())))
    }
}
