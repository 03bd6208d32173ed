//! Reads a streamed response in OpenAI's shape.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use http::{Response, header};
use rbee_core::{
    Error, ErrorKind, Finish, Output, Result, Usage, event::Logprobs, request::Sampling,
};
use serde::{Deserialize, Deserializer};

use super::{
    Body, Counted, Refusal, Slot, chain,
    logprobs::Received,
    parts::{CallPart, Parts},
    whole_number,
};
use crate::{client::answer::content_type, wire::sse};

/// The largest event, in bytes: a token, and the fields that a server puts around it.
const MOST_EVENT: usize = 1 << 20;

/// One event of the response: some text, or the end, or both.
#[derive(Debug, Default, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counted>,
    /// Tokens of the prompt that llama.cpp's server had cached.
    #[serde(default, rename = "timings", deserialize_with = "cache_n")]
    cached_tokens: Option<u32>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    text: Option<Box<str>>,
    #[serde(default)]
    finish_reason: Option<Box<str>>,
    /// vLLM's field: the stop text that ended the answer, or the id of the token that did.
    #[serde(default)]
    stop_reason: Option<serde_json::Value>,
    #[serde(default)]
    logprobs: Option<Received>,
}

fn cache_n<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    whole_number(from, "cache_n")
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Box<str>>,
    /// llama.cpp's and older vLLM's name for the reasoning.
    #[serde(default)]
    reasoning_content: Option<Box<str>>,
    /// Newer vLLM's name for it.
    #[serde(default)]
    reasoning: Option<Box<str>>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPart>>,
}

/// The outputs of a streamed response. Dropping it closes the connection, which tells the server to stop.
pub(super) struct Chunks {
    body: Body,
    parser: sse::Parser,
    server: Arc<str>,
    reader: Reader,
    done: bool,
    _slot: Slot,
}

impl Chunks {
    /// # Errors
    /// [`ErrorKind::WorkerFault`] if it is not a stream of events.
    pub(super) fn new(
        answer: Response<Body>,
        server: Arc<str>,
        sampling: &Sampling,
        needs_call: bool,
        slot: Slot,
    ) -> Result<Self> {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(sse::CONTENT_TYPE.as_bytes())) {
            let message = format!(
                "{server} answered with {}; expected was {}",
                content_type(kind),
                sse::CONTENT_TYPE
            );
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        Ok(Self {
            body: answer.into_body(),
            parser: sse::Parser::new(MOST_EVENT),
            server,
            reader: Reader {
                most: sampling.max_tokens,
                logprobs: sampling.logprobs,
                needs_call,
                stops: sampling.stop.clone(),
                ..Reader::default()
            },
            done: false,
            _slot: slot,
        })
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<Output>> {
        loop {
            if let Some(output) = self.reader.ready.pop_front() {
                return Poll::Ready(Ok(output));
            }
            if let Some(event) = self.parser.next_event()? {
                self.reader.take(&event.data)?;
                continue;
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.parser.push(&bytes),
                Some(Err(cause)) => {
                    let message = format!("the connection broke off: {}", chain(&cause));
                    return Poll::Ready(Err(lost(message).with_source(cause)));
                }
                // Some servers end without a final event.
                None => self.reader.end()?,
            }
        }
    }
}

impl Stream for Chunks {
    type Item = Result<Output>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let output = std::task::ready!(self.poll_output(cx));
        let output = output.map_err(|error| error.context(&self.server));
        self.done = matches!(output, Err(_) | Ok(Output::End { .. }));
        Poll::Ready(Some(output))
    }
}

/// Turns events into outputs.
#[derive(Debug, Default)]
struct Reader {
    ready: VecDeque<Output>,
    /// Tokens emitted so far.
    tokens: u32,
    /// The requested limit of tokens.
    most: Option<u32>,
    /// How many of the likeliest tokens get log probabilities, if they are requested.
    logprobs: Option<u8>,
    /// True once the server has sent log probabilities.
    has_logprobs: bool,
    /// The parts of a chat's answer.
    parts: Parts,
    /// The request requires a call.
    needs_call: bool,
    /// The stop texts of the request.
    stops: Vec<String>,
    /// The one that ended the answer.
    stop_text: Option<Box<str>>,
    finish: Option<Finish>,
    usage: Option<Counted>,
    /// The cached tokens according to an event outside of its usage.
    cached_tokens: Option<u32>,
}

impl Reader {
    fn take(&mut self, data: &[u8]) -> Result<()> {
        if data == b"[DONE]" {
            return self.end();
        }
        let chunk: Chunk = serde_json::from_slice(data).map_err(|cause| {
            let message = format!("an event is not understood: {cause}");
            Error::new(ErrorKind::WorkerFault, message).with_source(cause)
        })?;
        if chunk.error.is_some() {
            let message = format!("it failed in the middle: {}", Refusal::read(data).message());
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        self.usage = chunk.usage.or(self.usage);
        self.cached_tokens = chunk.cached_tokens.or(self.cached_tokens);
        // Only one choice was requested.
        let Some(mut choice) = chunk.choices.into_iter().next() else { return Ok(()) };
        // Some servers send an empty one in every event.
        choice.finish_reason = choice.finish_reason.filter(|reason| !reason.is_empty());
        let mut text = choice.text.map(String::from).unwrap_or_default();
        if let Some(delta) = choice.delta {
            self.put(&delta, &mut text)?;
        }
        let length = choice.finish_reason.as_deref() == Some("length");
        if choice.finish_reason.is_some() {
            self.parts.end(length, &mut text);
        }
        let text = Some(text.into_boxed_str()).filter(|text| !text.is_empty());
        let found = match (self.logprobs, choice.logprobs) {
            (Some(most), Some(received)) => received.into_tokens(most),
            _ => Vec::new(),
        };
        self.take_tokens(text, found)?;
        if choice.finish_reason.is_some() {
            self.finish = Some(if length { Finish::Length } else { Finish::Stop });
            // Other servers may give other reasons here.
            let reason = choice.stop_reason.as_ref().and_then(serde_json::Value::as_str);
            let text = reason.filter(|text| !length && self.stops.iter().any(|stop| stop == text));
            self.stop_text = text.map(Box::from);
        }
        Ok(())
    }

    /// Appends the parts of a delta.
    fn put(&mut self, delta: &Delta, text: &mut String) -> Result<()> {
        let reasoning = delta.reasoning_content.as_ref().or(delta.reasoning.as_ref());
        if let Some(reasoning) = reasoning {
            self.parts.reasoning(reasoning, text);
        }
        if let Some(content) = &delta.content {
            self.parts.content(content, text);
        }
        let calls = delta.tool_calls.iter().flatten();
        calls.into_iter().try_for_each(|part| self.parts.call(part, text))
    }

    /// Takes the text of an event, and the log probabilities of its tokens if they are requested.
    fn take_tokens(&mut self, text: Option<Box<str>>, mut found: Vec<Logprobs>) -> Result<()> {
        self.has_logprobs |= !found.is_empty();
        if self.logprobs.is_some() && text.is_some() && !self.has_logprobs {
            let message = "logprobs is not supported: the server of the model sends none";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_client_message("logprobs is not supported by this model")
                .with_param("logprobs"));
        }
        // A text that comes with the log probabilities of several tokens is that of the last one.
        let last = found.pop();
        for logprobs in found {
            self.token("".into(), Some(logprobs));
        }
        if text.is_some() || last.is_some() {
            self.token(text.unwrap_or_default(), last);
        }
        Ok(())
    }

    fn token(&mut self, text: Box<str>, logprobs: Option<Logprobs>) {
        self.tokens += 1;
        let logprobs = logprobs.map(Box::new);
        self.ready.push_back(Output::Token { id: None, text, logprobs });
    }

    /// Ends the answer.
    fn end(&mut self) -> Result<()> {
        let Some(finish) = self.finish else {
            return Err(lost("the stream broke off before its end".into()));
        };
        if self.needs_call && finish == Finish::Stop && !self.parts.has_calls() {
            let message = "tool_choice requires a call, and the server of the model ignored that";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_client_message("tool_choice \"required\" is not supported by this model")
                .with_param("tool_choice"));
        }
        let counted = self.usage.unwrap_or_default();
        // Tokens without a text of their own: the end of the answer, a part of a character, a part of a stop text.
        // They were generated, so they count, but never beyond the limit.
        let all = counted.completion_tokens.min(self.most.unwrap_or(u32::MAX));
        for _ in self.tokens..all.min(self.tokens.saturating_add(MOST_SILENT)) {
            self.token("".into(), None);
        }
        let prompt_tokens = counted.prompt_tokens;
        let cached = counted.cached_tokens.or(self.cached_tokens);
        let usage = Usage {
            prompt_tokens,
            completion_tokens: self.tokens,
            cached_tokens: cached.map(|tokens| tokens.min(prompt_tokens)),
        };
        let stop_text = self.stop_text.take();
        self.ready.push_back(Output::End { finish, usage, stop_text });
        Ok(())
    }
}

/// The most tokens without a text that are accepted.
const MOST_SILENT: u32 = 1 << 16;

fn lost(message: String) -> Error {
    Error::new(ErrorKind::WorkerLost, message)
}
