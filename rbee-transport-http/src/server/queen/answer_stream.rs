//! The answer to one job as a stream, in the form of any API.
//!
//! [`stream`] reads the events of the job, finds the parts of the answer, and gives both to an [`AnswerWriter`], which
//! writes them as its API does. What is available together is sent together.

use std::{
    convert::Infallible,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderValue, header};
use rbee_core::{
    Error, ErrorKind, Finish, JobHandle, JobId, Result, Usage,
    answer::{AnswerFormat, AnswerOptions, AnswerParser, Delta},
    event::{EventRef, Logprobs, Metrics, Started},
    queen::JobEvents,
    request::CallableTool,
};

use super::{Inner, keep_alive::Waiting, sender::Sender, sender::put_origin, stream_headers};

/// How long the head of a stream is held back, so that an error has its proper status.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Output that is available together is sent together, up to this many bytes.
pub(super) const MOST_TOGETHER: usize = 16 << 10;

/// The end of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerEnd<'a> {
    pub(super) finish: Finish,
    /// The stop text that ended the answer, if the worker reports it.
    pub(super) stop_text: Option<&'a str>,
    /// The answer has tool calls, and all of them are complete.
    pub(super) has_calls: bool,
    pub(super) usage: Usage,
}

/// Writes an answer in the form of an API. Everything that it writes is sent.
pub(super) trait AnswerWriter: Send + Unpin + 'static {
    /// The stream begins. If this writes something, the head of the response is not held back.
    fn opened(&mut self, _out: &mut BytesMut) {}

    /// A worker has begun.
    fn started(&mut self, _started: &Started, _out: &mut BytesMut) {}

    /// The worker has read the prompt. Not every engine reports this.
    fn prompt(&mut self, _metrics: &Metrics, _out: &mut BytesMut) {}

    /// The next part of the answer.
    fn delta(&mut self, delta: Delta, out: &mut BytesMut);

    /// The log probabilities of the next token, before the parts that it completes.
    fn next_logprobs(&mut self, _logprobs: &Logprobs) {}

    /// The log probabilities of a token, after the parts that it completes.
    fn logprobs(&mut self, _logprobs: &Logprobs, _out: &mut BytesMut) {}

    /// The answer has ended.
    fn end(&mut self, end: AnswerEnd<'_>, out: &mut BytesMut);

    /// The stream ends with this error, as the client may know it. With [`ErrorKind::Interrupted`] the job goes on: the
    /// queen shuts down.
    fn error(&mut self, error: &Error, out: &mut BytesMut);

    /// Nothing was sent for a while: this line describes what the job waits for.
    fn waiting(&mut self, line: &str, out: &mut BytesMut);
}

/// The events to write.
#[derive(Debug)]
pub(super) enum Source {
    /// Of a job that was submitted for this request. Dropping it cancels the job, unless it goes on without a client.
    Job(JobHandle),
    /// Of a job of an earlier request.
    Events(JobId, JobEvents),
}

impl Source {
    pub(super) fn job(&self) -> JobId {
        match self {
            Self::Job(handle) => handle.id(),
            Self::Events(job, _) => *job,
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnMut(Option<u64>, EventRef<'_>) -> ControlFlow<()>,
    ) -> Poll<()> {
        match self {
            Self::Job(handle) => handle.poll_read(cx, read),
            Self::Events(_, events) => events.poll_read(cx, read),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Job(handle) => handle.is_done(),
            Self::Events(_, events) => events.is_done(),
        }
    }

    fn interruption(&self) -> Option<&Error> {
        match self {
            Self::Job(handle) => handle.interruption(),
            Self::Events(_, events) => events.interruption(),
        }
    }
}

/// What a stream is about.
pub(super) struct Subject<'a> {
    pub(super) source: Source,
    /// The model, as requested.
    pub(super) model: &'a str,
    /// The tools that the model may call; `None` if the prompt is no conversation.
    pub(super) tools: Option<Vec<CallableTool>>,
    pub(super) sender: &'a Sender,
}

/// What to look for in an answer with this format, if the model may call these tools. `None` if its whole text is
/// content.
pub(super) fn options(
    tools: Option<&Vec<CallableTool>>,
    format: AnswerFormat,
) -> Option<AnswerOptions> {
    let options = format.options(tools?.clone());
    (options.format.is_some() || options.reasoning.is_some()).then_some(options)
}

/// Begins to stream, with the content type `text/event-stream` or another one. Dropping the body of the response cancels
/// the job of a [`Source::Job`].
///
/// # Errors
/// The error of the job, if nothing was written before it.
pub(super) async fn stream(
    shared: &Inner,
    subject: Subject<'_>,
    writer: impl AnswerWriter,
    content_type: Option<&'static str>,
) -> Result<Response> {
    let Subject { source, model, tools, sender } = subject;
    let (job, caller) = (source.job(), sender.caller.clone());
    let model = shared.queen.models().resolve(model).ok();
    let mut stream = AnswerStream {
        source,
        writer,
        reader: Reader { tools, parser: None, found: Vec::new(), is_open: false },
        buffer: BytesMut::with_capacity(1 << 10),
        started: None,
        is_sent: false,
        failed: None,
        is_over: false,
        waiting: Waiting::new(&shared.queen, job, model, caller.clone()),
        sender: sender.clone(),
    };
    stream.writer.opened(&mut stream.buffer);
    let begun = poll_fn(|cx| stream.poll_fill(cx));
    // Nothing is lost if that takes too long: the output is in the buffer.
    let _ = tokio::time::timeout(HEAD_TIMEOUT, begun).await;
    if let Some(error) = stream.failed.take() {
        return Err(error);
    }
    let started = stream.started;
    let mut response = (stream_headers(), Body::from_stream(stream)).into_response();
    put_origin(response.headers_mut(), &caller, job, started);
    if let Some(content_type) = content_type {
        let value = HeaderValue::from_static(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    Ok(response)
}

/// Finds the parts of an answer.
#[derive(Debug)]
struct Reader {
    tools: Option<Vec<CallableTool>>,
    /// `None` if the whole text is content.
    parser: Option<AnswerParser>,
    found: Vec<Delta>,
    /// A call was cut off or is malformed, or is not complete yet.
    is_open: bool,
}

impl Reader {
    fn write(&mut self, writer: &mut impl AnswerWriter, out: &mut BytesMut) {
        for delta in self.found.drain(..) {
            match delta {
                Delta::CallBegin { .. } => self.is_open = true,
                Delta::CallEnd { .. } => self.is_open = false,
                _ => {}
            }
            writer.delta(delta, out);
        }
    }

    fn push(&mut self, text: &str, writer: &mut impl AnswerWriter, out: &mut BytesMut) {
        match &mut self.parser {
            Some(parser) => parser.push(text, &mut self.found),
            None if text.is_empty() => {}
            None => self.found.push(Delta::Content(text.to_owned())),
        }
        self.write(writer, out);
    }

    /// The text has ended. True if it has calls, and all of them are complete.
    fn finish(
        &mut self,
        finish: Finish,
        writer: &mut impl AnswerWriter,
        out: &mut BytesMut,
    ) -> bool {
        match (&mut self.parser, finish) {
            (Some(parser), Finish::Stop) => parser.finish(&mut self.found),
            (Some(parser), Finish::Length) => parser.cut_off(&mut self.found),
            (None, _) => {}
        }
        self.write(writer, out);
        self.parser.as_ref().is_some_and(|parser| parser.calls() > 0) && !self.is_open
    }
}

struct AnswerStream<W> {
    source: Source,
    writer: W,
    reader: Reader,
    buffer: BytesMut,
    started: Option<Started>,
    /// True once the client has received something.
    is_sent: bool,
    failed: Option<Error>,
    is_over: bool,
    waiting: Waiting,
    sender: Sender,
}

impl<W: AnswerWriter> AnswerStream<W> {
    /// Takes the available events. Ready if there is something to send, or the stream is over.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut failed = None;
        let Self { source, writer, reader, buffer, started, waiting, is_over, .. } = self;
        if !*is_over {
            let _ = source.poll_read(cx, |_, event| {
                match event {
                    EventRef::Started(now) => {
                        started.get_or_insert(now);
                        waiting.begun();
                        let options = options(reader.tools.as_ref(), now.format);
                        reader.parser = options.map(AnswerParser::new);
                        writer.started(&now, buffer);
                    }
                    EventRef::Token { text, logprobs, .. } => {
                        if let Some(logprobs) = logprobs {
                            writer.next_logprobs(logprobs);
                        }
                        reader.push(text, writer, buffer);
                        if let Some(logprobs) = logprobs {
                            writer.logprobs(logprobs, buffer);
                        }
                    }
                    EventRef::Metrics(metrics) => writer.prompt(&metrics, buffer),
                    EventRef::Vectors(_) => {}
                    EventRef::End { finish, usage, stop_text } => {
                        *is_over = true;
                        let has_calls = reader.finish(finish, writer, buffer);
                        writer.end(AnswerEnd { finish, has_calls, usage, stop_text }, buffer);
                    }
                    EventRef::Error(error) => failed = Some(error.clone()),
                }
                if buffer.len() < MOST_TOGETHER {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            if failed.is_none() && source.is_done() && !*is_over {
                let why = source.interruption().cloned();
                failed = Some(why.unwrap_or_else(|| {
                    Error::new(ErrorKind::Internal, "the events of the job broke off")
                }));
            }
        }
        if let Some(error) = failed {
            self.is_over = true;
            if self.is_sent || !self.buffer.is_empty() {
                self.tell(&error);
            } else {
                self.failed = Some(error);
            }
        }
        if self.is_over || !self.buffer.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn tell(&mut self, error: &Error) {
        // The client may get less detail.
        tracing::info!(correlation_id = %self.sender.mark, error = error.for_log(), "a request failed while its answer was streamed");
        self.writer.error(&self.sender.caller.error(error), &mut self.buffer);
    }
}

impl<W: AnswerWriter> Stream for AnswerStream<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.buffer.is_empty() {
            if this.is_over {
                return Poll::Ready(None);
            }
            let filled = this.poll_fill(cx);
            if let Some(error) = this.failed.take() {
                this.tell(&error);
            }
            if filled.is_ready() {
                this.waiting.heard();
                continue;
            }
            let line = std::task::ready!(this.waiting.poll_comment(cx));
            let Self { writer, buffer, .. } = this;
            writer.waiting(&line, buffer);
        }
        this.is_sent = true;
        Poll::Ready(Some(Ok(this.buffer.split().freeze())))
    }
}
