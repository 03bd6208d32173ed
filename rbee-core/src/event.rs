//! The outputs of workers and the events that readers of a job see.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{error::Error, id::WorkerId};

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
}

/// Measurements of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Tokens of the prompt, including those of an answer that is continued.
    pub prompt_tokens: u32,
    /// The time to compute the prompt.
    pub prefill: Duration,
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
    },
    /// The vectors of a [`Task::Embed`](crate::request::Task::Embed), one for each input.
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
    },
    /// The requested vectors.
    Vectors(Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The normal end. Nothing follows.
    End {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
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
    },
    /// The requested vectors.
    Vectors(&'a Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The normal end. Nothing follows.
    End {
        /// The reason for the end.
        finish: Finish,
        /// Token counts.
        usage: Usage,
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
            Self::Token { id, text } => EventKind::Token { id, text: text.into() },
            Self::Vectors(vectors) => EventKind::Vectors(vectors.clone()),
            Self::Metrics(metrics) => EventKind::Metrics(metrics),
            Self::End { finish, usage } => EventKind::End { finish, usage },
            Self::Error(error) => EventKind::Error(error.clone()),
        }
    }
}

impl<'a> From<&'a EventKind> for EventRef<'a> {
    fn from(kind: &'a EventKind) -> Self {
        match kind {
            EventKind::Started(started) => Self::Started(*started),
            EventKind::Token { id, text } => Self::Token { id: *id, text },
            EventKind::Vectors(vectors) => Self::Vectors(vectors),
            EventKind::Metrics(metrics) => Self::Metrics(*metrics),
            EventKind::End { finish, usage } => Self::End { finish: *finish, usage: *usage },
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
    },
    /// Ended with an error.
    Failed(Error),
    /// Cancelled by the client, or because the client disconnected.
    Cancelled,
}
