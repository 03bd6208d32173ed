//! How a verb can fail, and the exit codes.

use std::{fmt, io, path::Path, time::Duration};

use rbee_core::ErrorKind;
use serde::Serialize;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// Something failed.
    Failed,
    /// The command line is wrong, or asks for something that is not allowed.
    Usage,
    /// The queen does not answer, or went away.
    Unreachable,
    /// There is no such model, job, hive or worker.
    NotFound,
    /// The key is missing or wrong, or does not allow this, or the policy refused.
    Refused,
    /// A limit is reached; later it may work.
    Busy,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::Busy => 6,
            Self::Interrupted => 130,
        }
    }

    fn of(kind: ErrorKind) -> Self {
        use ErrorKind as K;
        match kind {
            K::InvalidRequest | K::Unsupported | K::ContextExceeded | K::PayloadTooLarge => {
                Self::Usage
            }
            K::NotFound | K::ModelNotFound => Self::NotFound,
            K::Unauthorized | K::PermissionDenied | K::Rejected => Self::Refused,
            K::QuotaExceeded
            | K::RateLimited
            | K::SystemAtCapacity
            | K::InsufficientVram
            | K::ShuttingDown => Self::Busy,
            K::Cancelled => Self::Interrupted,
            K::Interrupted => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

/// The queen cannot be connected to.
pub(crate) const UNREACHABLE: &str = "UNREACHABLE";
/// The queen went away in the middle of an answer.
pub(crate) const CONNECTION_LOST: &str = "CONNECTION_LOST";

const USAGE: &str = "USAGE";
const INTERRUPTED: &str = "INTERRUPTED";

/// Why a verb did not do what it was asked.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Failure(Box<Inner>);

#[derive(Clone, Debug, Serialize)]
struct Inner {
    #[serde(skip)]
    exit: Exit,
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

impl Failure {
    /// A failure of the program itself.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            exit,
            code: code.to_owned(),
            message: message.into(),
            param: None,
            retry_after_ms: None,
            correlation_id: None,
            hints: Vec::new(),
        }))
    }

    /// What the queen answered with. Codes of both her shapes are known here by their upper-case names.
    pub fn answered(code: &str, status: Option<u16>, message: impl Into<String>) -> Self {
        let code = code.to_ascii_uppercase();
        let kind = ErrorKind::from_code(&code);
        let exit = match (kind, status) {
            (Some(kind), _) => Exit::of(kind),
            (None, Some(401 | 403)) => Exit::Refused,
            (None, Some(404)) => Exit::NotFound,
            (None, Some(429)) => Exit::Busy,
            (None, _) => Exit::Failed,
        };
        let failure = Self::new(exit, &code, message);
        match kind {
            Some(ErrorKind::Unauthorized) => failure.with_hint(
                "the queen wants a key: set RBEE_API_KEY, or name a file with --token-file",
            ),
            Some(ErrorKind::SystemAtCapacity | ErrorKind::QuotaExceeded) => {
                failure.with_hint("`rbee jobs ls` shows what is queued and running")
            }
            Some(ErrorKind::InsufficientVram) => failure
                .with_hint("`rbee ps` shows what takes memory; `rbee unload MODEL` frees some"),
            Some(ErrorKind::HiveUnreachable) => {
                failure.with_hint("`rbee hive ls` and `rbee doctor` show which machine is down")
            }
            Some(ErrorKind::Interrupted) => failure.with_hint(
                "`rbee jobs ls` shows whether it goes on, and `rbee jobs events` follows it",
            ),
            Some(
                ErrorKind::WorkerLost
                | ErrorKind::WorkerUnreachable
                | ErrorKind::WorkerFault
                | ErrorKind::Internal,
            ) => failure.with_hint("`rbee logs --level warn` may show why"),
            _ => failure,
        }
    }

    /// The same, of this file: a message that names a place in it names the file too.
    pub fn in_file(mut self, file: &Path) -> Self {
        if self.0.message.starts_with("line ") {
            self.0.message = format!("{}: {}", file.display(), self.0.message);
        }
        self
    }

    /// The command line is wrong in a way that only shows while it runs.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, USAGE, message)
    }

    /// Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, INTERRUPTED, "interrupted")
    }

    /// Standard output could not be written.
    pub fn output(cause: &io::Error) -> Self {
        let exit = if cause.kind() == io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failed };
        Self::new(exit, "OUTPUT", format!("standard output cannot be written: {cause}"))
    }

    /// Names the parameter that is at fault.
    pub fn with_param(mut self, param: Option<String>) -> Self {
        self.0.param = param;
        self
    }

    /// Says when a new try can succeed.
    pub fn with_retry_after(mut self, after: Option<u64>) -> Self {
        self.0.retry_after_ms = after;
        self
    }

    /// When a new try can succeed, if that is known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after_ms.map(Duration::from_millis)
    }

    /// Adds the mark by which the request is found in the logs.
    pub fn with_correlation_id(mut self, id: Option<String>) -> Self {
        self.0.correlation_id = self.0.correlation_id.or(id);
        self
    }

    /// Adds what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The stable name of what went wrong.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Did whoever reads the output go away? Then nothing is to be said.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.exit == Exit::Ok
    }

    /// Nobody listens there: a queen can be started.
    pub(crate) fn can_start_a_queen(&self) -> bool {
        self.0.code == UNREACHABLE
    }

    /// The connection broke; trying again may help.
    pub(crate) fn is_broken_connection(&self) -> bool {
        matches!(&*self.0.code, UNREACHABLE | CONNECTION_LOST)
    }
}

/// The lines that stand on standard error, without colour.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        // Those two say it all themselves.
        if !matches!(&*self.0.code, USAGE | INTERRUPTED) {
            write!(f, " ({}", self.0.code)?;
            if let Some(param) = &self.0.param {
                write!(f, ", parameter {param}")?;
            }
            write!(f, ")")?;
        }
        if let Some(after) = self.0.retry_after_ms {
            let after = Duration::from_millis(after).as_secs_f64().ceil();
            write!(f, "\n  try again in {after} s")?;
        }
        for hint in &self.0.hints {
            write!(f, "\n  {hint}")?;
        }
        if let Some(id) = &self.0.correlation_id {
            write!(f, "\n  correlation id {id}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_an_exit_code_in_both_spellings() {
        for kind in ErrorKind::ALL {
            let upper = Failure::answered(kind.code(), Some(kind.http_status()), "x");
            let lower = Failure::answered(&kind.code().to_lowercase(), None, "x");
            assert_eq!(upper.exit(), lower.exit(), "{kind}");
            assert_ne!(upper.exit(), Exit::Ok);
            assert_eq!(lower.code(), kind.code());
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        assert_eq!(Failure::answered("brand_new", Some(404), "x").exit(), Exit::NotFound);
        assert_eq!(Failure::answered("brand_new", Some(500), "x").exit(), Exit::Failed);
    }

    #[test]
    fn a_failure_is_told_with_everything_that_helps() {
        let failure = Failure::answered("rate_limited", Some(429), "too fast")
            .with_param(Some("model".into()))
            .with_retry_after(Some(1_200))
            .with_correlation_id(Some("c-1".into()))
            .with_hint("slow down");
        assert_eq!(
            failure.to_string(),
            "too fast (RATE_LIMITED, parameter model)\n  try again in 2 s\n  slow down\n  correlation id c-1"
        );
    }
}
