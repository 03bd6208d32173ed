//! Error messages about a policy: the line, the column, the thing, and what may have been meant.

use std::{io, path::PathBuf, time::Duration};

use rhai::{EvalAltResult, Position};

use super::{
    budget::MOST_OPERATIONS,
    error::{HelperError, LimitExceeded, NoDecision},
};
use crate::error::{Error, ErrorKind};

/// The reason that there is no policy, or no decision.
#[derive(Debug)]
pub(super) enum Fault {
    Unreadable { path: PathBuf, cause: io::Error },
    TooLong { bytes: usize, most: usize },
    Script { at: At, message: String },
    Run { name: String, at: At, message: String },
}

impl std::error::Error for Fault {}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable { path, cause } => {
                write!(f, "{}: cannot be read: {cause}", path.display())
            }
            Self::TooLong { bytes, most } => {
                write!(f, "the script has {bytes} bytes; allowed are {most}")
            }
            Self::Script { at, message } => write!(f, "{at}{message}"),
            Self::Run { name, at, message } => write!(f, "policy {name}: {at}{message}"),
        }
    }
}

/// The position in a script, as `line 3, column 5: `; empty if it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { line: 0, .. } => Ok(()),
            Self { line, column: 0 } => write!(f, "line {line}: "),
            Self { line, column } => write!(f, "line {line}, column {column}: "),
        }
    }
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self { line: position.line().unwrap_or(0), column: position.position().unwrap_or(0) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let message = fault.to_string();
        match fault {
            Fault::Unreadable { cause, .. } => {
                let kind = match cause.kind() {
                    io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::InvalidRequest,
                };
                Self::new(kind, message).with_source(cause)
            }
            Fault::TooLong { .. } => Self::new(ErrorKind::PayloadTooLarge, message),
            Fault::Script { .. } => Self::new(ErrorKind::InvalidRequest, message),
            Fault::Run { .. } => Self::new(ErrorKind::Internal, message),
        }
    }
}

pub(super) fn script(at: At, message: impl Into<String>) -> Error {
    Fault::Script { at, message: message.into() }.into()
}

/// A failure before the policy is in use.
pub(super) fn at_load(error: &EvalAltResult) -> Error {
    script(place(error), description(error, None))
}

/// A failure of a decision.
pub(super) fn at_run(name: &str, error: &EvalAltResult, limit: Duration) -> Error {
    let (at, message) = (place(error), description(error, Some(limit)));
    Fault::Run { name: name.to_owned(), at, message }.into()
}

/// The innermost position that is known.
fn place(error: &EvalAltResult) -> At {
    let inner = match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => place(inner),
        _ => At::default(),
    };
    if inner.line > 0 { inner } else { error.position().into() }
}

fn description(error: &EvalAltResult, limit: Option<Duration>) -> String {
    use EvalAltResult as E;
    match error.unwrap_inner() {
        E::ErrorTerminated(why, _) => exceeded(why.clone().try_cast(), limit),
        E::ErrorStackOverflow(_) => "functions call one another too deeply".into(),
        E::ErrorDataTooLarge(what, _) => format!("too large: {what}"),
        E::ErrorFunctionNotFound(signature, _) => {
            let name = signature.split(" (").next().unwrap_or(signature);
            match name.strip_prefix("get$") {
                Some(property) => format!("there is no property {property}"),
                None => format!("there is no {}", readable(signature)),
            }
        }
        E::ErrorVariableNotFound(name, _) => format!("there is no variable {name}"),
        E::ErrorDataRace(..) => {
            "a closure uses the variable whose method it is given to; copy what the closure needs \
                                 into another variable before"
                .into()
        }
        E::ErrorParsing(what, _) => what.to_string(),
        E::ErrorRuntime(value, _) => {
            if let Some(HelperError(message)) = value.clone().try_cast() {
                return message.to_string();
            }
            if value.clone().try_cast::<NoDecision>().is_some() {
                return "the function returned nothing; end it with ?? wait() or ?? builtin()"
                    .into();
            }
            if let Some(why) = value.clone().try_cast() {
                return exceeded(Some(why), limit);
            }
            format!("the script throws {value}")
        }
        other => without_place(&other.to_string()),
    }
}

fn exceeded(why: Option<LimitExceeded>, limit: Option<Duration>) -> String {
    match (why, limit) {
        (Some(LimitExceeded::Operations), _) => {
            format!("it did more than {MOST_OPERATIONS} operations")
        }
        (_, Some(limit)) => format!("it took longer than {limit:?}"),
        (_, None) => "it takes too long".into(),
    }
}

/// The signature with the names of types that scripts know, and not those of the host.
fn readable(signature: &str) -> String {
    signature
        .replace(" (", "(")
        .replace("&str | ImmutableString | String", "text")
        .replace("i64", "int")
}

/// The message without the position that the language appends; ours comes before it.
fn without_place(message: &str) -> String {
    message.rsplit_once(" (line ").map_or(message, |(before, _)| before).to_owned()
}
