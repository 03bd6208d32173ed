//! The stored form of a job's outcome: one column for each part.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{fault::Fault, ops::json};
use crate::{
    error::{Error, ErrorKind},
    event::{Finish, Outcome, Usage},
    job::JobState,
};

/// The columns of an outcome that are written. All are null while a job is live.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) finish: Option<&'static str>,
    pub(super) prompt_tokens: Option<u32>,
    pub(super) cached_tokens: Option<u32>,
    /// Tokens of the answer.
    pub(super) answer: Option<u32>,
    pub(super) code: Option<&'static str>,
    pub(super) message: Option<&'a str>,
    pub(super) details: Option<String>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(outcome: &'a Outcome) -> Result<Self, Fault> {
        let none = Self::default();
        Ok(match outcome {
            Outcome::Complete { finish, usage, stop_text } => Self {
                finish: Some(finish.as_str()),
                prompt_tokens: Some(usage.prompt_tokens),
                cached_tokens: usage.cached_tokens,
                answer: Some(usage.completion_tokens),
                details: Details { stop_text: stop_text.clone(), ..Details::default() }.encode()?,
                ..none
            },
            Outcome::Failed(error) => Self {
                code: Some(error.kind().code()),
                message: Some(error.message()),
                details: Details::of(error).encode()?,
                ..none
            },
            Outcome::Cancelled => none,
        })
    }
}

/// The columns of an outcome that are read.
pub(super) struct Stored {
    pub(super) finish: Option<String>,
    pub(super) prompt_tokens: Option<u32>,
    pub(super) cached_tokens: Option<u32>,
    /// Tokens of the answer.
    pub(super) answer: u32,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) details: Option<String>,
}

impl Stored {
    /// The outcome of a job in this state, if it has ended.
    pub(super) fn outcome(self, state: JobState) -> Option<Outcome> {
        match state {
            JobState::Queued | JobState::Running => None,
            JobState::Complete => Some(Outcome::Complete {
                finish: match self.finish.as_deref() {
                    Some("length") => Finish::Length,
                    _ => Finish::Stop,
                },
                usage: Usage {
                    prompt_tokens: self.prompt_tokens.unwrap_or_default(),
                    completion_tokens: self.answer,
                    cached_tokens: self.cached_tokens,
                },
                stop_text: Details::read(self.details.as_deref()).stop_text,
            }),
            JobState::Failed => {
                // A code that this build does not know comes from another version; its message still describes the
                // error.
                let kind = self.code.as_deref().and_then(ErrorKind::from_code);
                let kind = kind.unwrap_or(ErrorKind::Internal);
                let error = Error::new(kind, self.message.unwrap_or_default());
                let details = Details::read(self.details.as_deref());
                Some(Outcome::Failed(details.applied_to(error)))
            }
            JobState::Cancelled => Some(Outcome::Cancelled),
        }
    }
}

/// The parts of an outcome without a column of their own: of an error, other than its code and its message, so that the
/// error read back equals the original, and the stop text of an answer.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    /// The text that a client reads instead of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_text: Option<Box<str>>,
}

impl Details {
    fn of(error: &Error) -> Self {
        let millis = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self {
            client_message: error.client_message().map(ToOwned::to_owned),
            param: error.param().map(ToOwned::to_owned),
            retry_after_ms: error.retry_after().map(millis),
            short_bytes: error.short_bytes(),
            stop_text: None,
        }
    }

    /// The details as JSON; nothing if there are none.
    fn encode(&self) -> Result<Option<String>, Fault> {
        (*self != Self::default()).then(|| json(self)).transpose()
    }

    /// Details that cannot be read are left out: the other columns remain.
    fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The error with these details.
    fn applied_to(self, mut error: Error) -> Error {
        if let Some(message) = self.client_message {
            error = error.with_client_message(message);
        }
        if let Some(param) = self.param {
            error = error.with_param(param);
        }
        if let Some(after) = self.retry_after_ms {
            error = error.with_retry_after(Duration::from_millis(after));
        }
        if let Some(bytes) = self.short_bytes {
            error = error.with_short_bytes(bytes);
        }
        error
    }
}
