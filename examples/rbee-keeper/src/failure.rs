//! Failures of commands, and the exit codes.

use std::{fmt, io, path::Path, time::Duration};

use rbee_core::ErrorKind;
use serde::Serialize;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok,
    /// Something failed.
    Failed,
    /// The command line is wrong, or requests something that is not allowed.
    Usage,
    /// The queen does not answer, or the connection broke.
    Unreachable,
    /// There is no such model, job, hive or worker.
    NotFound,
    /// The key is missing or wrong, or does not allow this, or the policy rejected the request.
    Refused,
    /// A limit is reached; a later try may succeed.
    Busy,
    /// Interrupted with Ctrl-C.
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
/// The connection broke in the middle of an answer.
pub(crate) const CONNECTION_LOST: &str = "CONNECTION_LOST";

/// The connection has no TLS that can be trusted, or only one side uses it.
pub(crate) const TLS: &str = "TLS";

const USAGE: &str = "USAGE";
const INTERRUPTED: &str = "INTERRUPTED";

/// The reason why a command failed.
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

    /// An error that the queen answered with. Codes of both of its formats map to their upper-case names.
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
                "the queen requires a key: set RBEE_API_KEY, or name a file with --token-file",
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
                "`rbee jobs ls` shows whether it still runs, and `rbee jobs events` follows it",
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

    /// Adds the file's name to a message that begins with a position in the file.
    pub fn in_file(mut self, file: &Path) -> Self {
        if self.0.message.starts_with("line ") {
            self.0.message = format!("{}: {}", file.display(), self.0.message);
        }
        self
    }

    /// An error of the command line that is only found at run time.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, USAGE, message)
    }

    /// Interrupted with Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, INTERRUPTED, "interrupted")
    }

    /// A failure to write standard output.
    pub fn output(cause: &io::Error) -> Self {
        let exit = if cause.kind() == io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failed };
        Self::new(exit, "OUTPUT", format!("standard output cannot be written: {cause}"))
    }

    /// Replaces the message.
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Sets the wrong parameter.
    pub fn with_param(mut self, param: Option<String>) -> Self {
        // Then the token that is refused is not the one that this program sends.
        if param.is_some() && self.0.code == ErrorKind::Unauthorized.code() {
            self.0.hints.clear();
        }
        self.0.param = param;
        self
    }

    /// Sets when a retry can succeed.
    pub fn with_retry_after(mut self, after: Option<u64>) -> Self {
        self.0.retry_after_ms = after;
        self
    }

    /// When a retry can succeed, or `None` if unknown.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after_ms.map(Duration::from_millis)
    }

    /// Sets the correlation id that finds the request in the logs.
    pub fn with_correlation_id(mut self, id: Option<String>) -> Self {
        self.0.correlation_id = self.0.correlation_id.or(id);
        self
    }

    /// Adds a hint on what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// The same without what to do next.
    pub(crate) fn without_hints(mut self) -> Self {
        self.0.hints.clear();
        self
    }

    /// The wrong parameter, if it is known.
    pub(crate) fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// The exit code of the program.
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The stable code of the error.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The error message for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// True if the reader of the output has closed it. Then nothing is printed.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.exit == Exit::Ok
    }

    /// True if no server listens at the address, so that a queen can be started.
    pub(crate) fn can_start_a_queen(&self) -> bool {
        self.0.code == UNREACHABLE
    }

    /// True if the key does not allow this. With a parameter it is that value which is not allowed.
    pub(crate) fn is_not_allowed(&self) -> bool {
        self.0.code == ErrorKind::PermissionDenied.code() && self.0.param.is_none()
    }

    /// True if the model takes bare text but no messages, because it has no chat template.
    pub(crate) fn has_no_chat_template(&self) -> bool {
        self.0.code == ErrorKind::Unsupported.code() && self.param() == Some("messages")
    }

    /// True if the connection broke, so that a retry may help.
    pub(crate) fn is_broken_connection(&self) -> bool {
        matches!(&*self.0.code, UNREACHABLE | CONNECTION_LOST)
    }
}

/// The lines on standard error, without color.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        // The messages of these two need no code.
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
    fn only_a_refused_key_of_the_program_itself_is_told_with_how_to_give_one() {
        let refused = || Failure::answered("UNAUTHORIZED", Some(401), "the token is wrong");
        assert!(refused().with_param(None).to_string().contains("RBEE_API_KEY"));
        let other = refused().with_param(Some("token".into())).to_string();
        assert!(!other.contains("RBEE_API_KEY"), "{other}");
        let denied = || Failure::answered("PERMISSION_DENIED", Some(403), "no");
        assert!(denied().is_not_allowed());
        assert!(!denied().with_param(Some("model".into())).is_not_allowed());
    }

    #[test]
    fn a_model_without_a_chat_template_is_told_by_code_and_parameter() {
        let of = |code, param: Option<&str>| {
            Failure::answered(code, Some(400), "no").with_param(param.map(Into::into))
        };
        assert!(of("unsupported", Some("messages")).has_no_chat_template());
        assert!(!of("unsupported", None).has_no_chat_template());
        assert!(!of("unsupported", Some("top_k")).has_no_chat_template());
        assert!(!of("invalid_request", Some("messages")).has_no_chat_template());
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
