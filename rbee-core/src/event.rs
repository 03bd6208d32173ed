//! What workers say about a run, and what readers of a job see.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{error::Error, id::WorkerId};

/// Why a run came to its proper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its answer, or a stop text was met.
    Stop,
    /// The answer is as long as it may be.
    Length,
}

impl Finish {
    /// The name OpenAI's API has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer, the end-of-text token included.
    pub completion_tokens: u32,
}

/// What a worker measured of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Tokens of the prompt, with those of an answer that is continued.
    pub prompt_tokens: u32,
    /// How long the prompt took to compute.
    pub prefill: Duration,
}

/// One item of the stream a [`Worker`](crate::Worker) answers with. It has no number: the job's log numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, where the engine tells. Without ids a stream cannot be continued elsewhere.
        id: Option<u32>,
        /// The text that it completes: whole characters only, so it may be empty.
        text: Box<str>,
    },
    /// The vectors of a [`Task::Embed`](crate::request::Task::Embed), one for each input.
    Vectors(Vec<Vec<f32>>),
    /// Measurements.
    Metrics(Metrics),
    /// The run goes on, although there is nothing to give yet: see
    /// [`Capabilities::heartbeats`](crate::worker::Capabilities::heartbeats). It has no place in the job's log, and no reader
    /// sees it.
    Heartbeat,
    /// The proper end; nothing follows. A stream that ends without it is a fault of the worker.
    End {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
    },
}

/// One event of a job, as its readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// The position: `started` is 0, token *k* is *k*, the end of *n* tokens is *n* + 1. Metrics have none.
    ///
    /// The numbers depend on the tokens alone, so that a restarted queen gives the same ones again.
    pub seq: Option<u64>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A worker began.
    Started(Started),
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, where the engine tells.
        id: Option<u32>,
        /// The text that it completes; may be empty.
        text: Box<str>,
    },
    /// The vectors asked for.
    Vectors(Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The proper end. Nothing follows.
    End {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
    },
    /// The job failed or was cancelled. Nothing follows.
    Error(Error),
}

impl EventKind {
    /// Is this the one event after which nothing follows?
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Error(_))
    }
}

/// What happened to a job, lent by its log: see [`JobEvents::poll_read`](crate::queen::JobEvents::poll_read).
#[derive(Clone, Copy, Debug)]
pub enum EventRef<'a> {
    /// A worker began.
    Started(Started),
    /// The next token.
    Token {
        /// Its id in the model's vocabulary, where the engine tells.
        id: Option<u32>,
        /// The text that it completes; may be empty.
        text: &'a str,
    },
    /// The vectors asked for.
    Vectors(&'a Arc<Vec<Vec<f32>>>),
    /// Measurements of the worker.
    Metrics(Metrics),
    /// The proper end. Nothing follows.
    End {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
    },
    /// The job failed or was cancelled. Nothing follows.
    Error(&'a Error),
}

impl EventRef<'_> {
    /// Is this the one event after which nothing follows?
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Error(_))
    }

    /// The same, to be kept.
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
    /// The worker that began; a later one may have continued. `None` where that is no longer known, because the queen
    /// was restarted.
    pub worker: Option<WorkerId>,
    /// How long the job had waited in the queue.
    pub queue_wait: Duration,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Properly.
    Complete {
        /// Why it ended.
        finish: Finish,
        /// Tokens counted.
        usage: Usage,
    },
    /// With an error.
    Failed(Error),
    /// By the client's wish, or because the client went away.
    Cancelled,
}
