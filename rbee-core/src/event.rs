//! The outputs of workers and the events that readers of a job see.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{answer::AnswerFormat, error::Error, id::WorkerId};

/// The reason why a run ended normally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its answer, or generated a stop text.
    Stop,
    /// The answer reached its maximum length.
    Length,
}

impl Finish {
    /// The name in OpenAI's API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, including the end-of-text token.
    pub completion_tokens: u32,
    /// Tokens of the prompt that the worker did not compute, because it had them in its cache; `None` if its engine does
    /// not report them. They depend on the runs before this one, so equal runs may differ in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
}

/// Measurements of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Tokens of the prompt, including those of an answer that is continued.
    pub prompt_tokens: u32,
    /// The time to compute the prompt.
    pub prefill: Duration,
    /// Tokens among them that were not computed ([`Usage::cached_tokens`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
}

/// The log probability of a token, as it follows from the model's own logits: before any penalty, bias or temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The id of the token in the model's vocabulary, if the engine reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The text of the token. U+FFFD stands for bytes that are no whole character.
    pub text: Box<str>,
    /// The bytes of the token, if they are not those of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Box<[u8]>>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

impl TokenLogprob {
    /// The bytes of the token.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    /// The memory it takes beside itself, in bytes.
    fn heap_bytes(&self) -> usize {
        self.text.len() + self.bytes.as_ref().map_or(0, |bytes| bytes.len())
    }
}

/// The log probabilities at one position of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logprobs {
    /// That of the token of the answer.
    pub chosen: TokenLogprob,
    /// Those of the likeliest tokens, the likeliest first; of equally likely ones the lower id first. The token of the
    /// answer is among them only if it is one of the likeliest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenLogprob>,
}

impl Logprobs {
    /// The memory it takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let top = self.top.iter().map(|token| size_of::<TokenLogprob>() + token.heap_bytes());
        size_of::<Self>() + self.chosen.heap_bytes() + top.sum::<usize>()
    }
}

/// One item of the stream that a [`Worker`](crate::Worker) returns. It has no number: the job's event log assigns it.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, if the engine reports it. Without ids a stream cannot be continued
        /// elsewhere.
        id: Option<u32>,
        /// The text that it completes: whole characters only, so it may be empty.
        text: Box<str>,
        /// Its log probabilities, if the job [asks](crate::request::Sampling::logprobs) for them.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The vectors of a [`Task::Embed`](crate::request::Task::Embed), one for each input. For a
    /// [`Task::Rerank`](crate::request::Task::Rerank), one vector of scores: a number for each document, in the order of
    /// the documents, and a higher one for a more relevant document.
    Vectors(Vec<Vec<f32>>),
    /// Measurements.
    Metrics(Metrics),
    /// The run goes on, although there is no output yet: see
    /// [`Capabilities::heartbeats`](crate::worker::Capabilities::heartbeats). It is not stored in the job's event log,
    /// and no reader sees it.
    Heartbeat,
    /// The normal end; nothing follows. A stream that ends without it is a fault of the worker.
    End {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
        /// The stop text that ended the answer, if one did and the worker reports it. It is no part of the text.
        stop_text: Option<Box<str>>,
    },
}

/// One event of a job, as its readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// The position: `started` is 0, token *k* is *k*, the end of *n* tokens is *n* + 1. `None` for metrics.
    ///
    /// The numbers depend only on the tokens, so that a restarted queen assigns the same ones again.
    pub seq: Option<u64>,
    /// The event.
    pub kind: EventKind,
}

/// The kind of an event of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A worker began.
    Started(Started),
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, if the engine reports it.
        id: Option<u32>,
        /// The text that it completes; may be empty.
        text: Box<str>,
        /// Its log probabilities, if the job [asks](crate::request::Sampling::logprobs) for them.
        logprobs: Option<Box<Logprobs>>,
    },
    /// The requested vectors; for a rerank, one vector of scores, in the order of the documents.
    Vectors(Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The normal end. Nothing follows.
    End {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
        /// The stop text that ended the answer, if one did and the worker reports it. It is no part of the text.
        stop_text: Option<Box<str>>,
    },
    /// The job failed or was cancelled. Nothing follows.
    Error(Error),
}

impl EventKind {
    /// True if this is the last event of the job.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Error(_))
    }
}

/// An event of a job, borrowed from its event log: see [`JobEvents::poll_read`](crate::queen::JobEvents::poll_read).
#[derive(Clone, Copy, Debug)]
pub enum EventRef<'a> {
    /// A worker began.
    Started(Started),
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, if the engine reports it.
        id: Option<u32>,
        /// The text that it completes; may be empty.
        text: &'a str,
        /// Its log probabilities, if the job [asks](crate::request::Sampling::logprobs) for them.
        logprobs: Option<&'a Logprobs>,
    },
    /// The requested vectors; for a rerank, one vector of scores, in the order of the documents.
    Vectors(&'a Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The normal end. Nothing follows.
    End {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
        /// The stop text that ended the answer, if one did and the worker reports it. It is no part of the text.
        stop_text: Option<&'a str>,
    },
    /// The job failed or was cancelled. Nothing follows.
    Error(&'a Error),
}

impl EventRef<'_> {
    /// True if this is the last event of the job.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Error(_))
    }

    /// The same event, owned.
    pub fn to_kind(&self) -> EventKind {
        match *self {
            Self::Started(started) => EventKind::Started(started),
            Self::Token { id, text, logprobs } => {
                let logprobs = logprobs.map(|logprobs| Box::new(logprobs.clone()));
                EventKind::Token { id, text: text.into(), logprobs }
            }
            Self::Vectors(vectors) => EventKind::Vectors(vectors.clone()),
            Self::Metrics(metrics) => EventKind::Metrics(metrics),
            Self::End { finish, usage, stop_text } => {
                EventKind::End { finish, usage, stop_text: stop_text.map(Box::from) }
            }
            Self::Error(error) => EventKind::Error(error.clone()),
        }
    }
}

impl<'a> From<&'a EventKind> for EventRef<'a> {
    fn from(kind: &'a EventKind) -> Self {
        match kind {
            EventKind::Started(started) => Self::Started(*started),
            EventKind::Token { id, text, logprobs } => {
                Self::Token { id: *id, text, logprobs: logprobs.as_deref() }
            }
            EventKind::Vectors(vectors) => Self::Vectors(vectors),
            EventKind::Metrics(metrics) => Self::Metrics(*metrics),
            EventKind::End { finish, usage, stop_text } => {
                Self::End { finish: *finish, usage: *usage, stop_text: stop_text.as_deref() }
            }
            EventKind::Error(error) => Self::Error(error),
        }
    }
}

/// Where and when a job began to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The worker that began; another one may have continued. `None` if unknown, because the queen was restarted.
    pub worker: Option<WorkerId>,
    /// How long the job had waited in the queue.
    pub queue_wait: Duration,
    /// The syntax of the parts of the answer: see [`AnswerParser`](crate::answer::AnswerParser).
    #[serde(default)]
    pub format: AnswerFormat,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Ended normally.
    Complete {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
        /// The stop text that ended the answer, if one did and the worker reports it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_text: Option<Box<str>>,
    },
    /// Ended with an error.
    Failed(Error),
    /// Cancelled by the client, or because the client disconnected.
    Cancelled,
}

impl Outcome {
    /// The same without text of the answer.
    pub(crate) fn without_text(self) -> Self {
        match self {
            Self::Complete { finish, usage, .. } => {
                Self::Complete { finish, usage, stop_text: None }
            }
            other => other,
        }
    }
}
