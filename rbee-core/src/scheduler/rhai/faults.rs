//! What is wrong with a policy, as people read it: the line, the column, the thing, and what may have been meant.

use std::{io, path::PathBuf, time::Duration};

use rhai::{EvalAltResult, Position};

use super::{
    Nothing,
    budget::MOST_OPERATIONS,
    session::{Over, Said},
};
use crate::{Error, ErrorKind};

/// Why there is no policy, or no decision.
#[derive(Debug)]
pub(super) enum Fault {
    Unreadable { path: PathBuf, cause: io::Error },
    TooLong { bytes: usize, most: usize },
    Script { at: At, message: String },
    Run { name: String, at: At, message: String },
}

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

/// `line 3, column 5: `, or nothing where it is not known.
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

/// A failure before any job has met the script.
pub(super) fn at_load(error: &EvalAltResult) -> Error {
    script(place(error), said(error, None))
}

/// A failure at a decision.
pub(super) fn at_run(name: &str, error: &EvalAltResult, limit: Duration) -> Error {
    let (at, message) = (place(error), said(error, Some(limit)));
    Fault::Run { name: name.to_owned(), at, message }.into()
}

/// The innermost place that is known.
fn place(error: &EvalAltResult) -> At {
    let inner = match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => place(inner),
        _ => At::default(),
    };
    if inner.line > 0 { inner } else { error.position().into() }
}

fn said(error: &EvalAltResult, limit: Option<Duration>) -> String {
    use EvalAltResult as E;
    match error.unwrap_inner() {
        E::ErrorTerminated(why, _) => over(why.clone().try_cast(), limit),
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
            "a closure uses the variable whose method it is given to; put what the closure needs \
                                 into a variable of its own before"
                .into()
        }
        E::ErrorParsing(what, _) => what.to_string(),
        E::ErrorRuntime(value, _) => {
            if let Some(Said(message)) = value.clone().try_cast() {
                return message.to_string();
            }
            if value.clone().try_cast::<Nothing>().is_some() {
                return "nothing was given back; end the function with ?? wait() or ?? builtin()"
                    .into();
            }
            if let Some(why) = value.clone().try_cast() {
                return over(Some(why), limit);
            }
            format!("the script throws {value}")
        }
        other => without_place(&other.to_string()),
    }
}

fn over(why: Option<Over>, limit: Option<Duration>) -> String {
    match (why, limit) {
        (Some(Over::Operations), _) => format!("it did more than {MOST_OPERATIONS} operations"),
        (_, Some(limit)) => format!("it took longer than {limit:?}"),
        (_, None) => "it takes too long".into(),
    }
}

/// `rbee_core::…::Workers` is what the host calls a type; scripts know it by another name.
fn readable(signature: &str) -> String {
    signature
        .replace(" (", "(")
        .replace("&str | ImmutableString | String", "text")
        .replace("i64", "int")
}

/// The message without the place that the language adds to it; ours stands before it.
fn without_place(message: &str) -> String {
    message.rsplit_once(" (line ").map_or(message, |(before, _)| before).to_owned()
}

/// The name that is so much like this one that it may have been meant.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let like = |other: &&str| strsim::damerau_levenshtein(name, other);
    let most = (name.chars().count() / 3).max(1);
    let near = known.into_iter().map(|other| (like(&other), other));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, other)| other)
}
