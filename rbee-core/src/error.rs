//! The one error type of rbee and the one table of what each kind of error means.
//!
//! Every failure that crosses a public boundary is an [`Error`]: a [`ErrorKind`] that programs decide by,
//! a sentence for people that names the thing, the value and what is allowed, and the cause it came from.
//! What a kind implies (may it be tried again? does it speak against the worker? which HTTP status?) stands in
//! a single table in this file, so that no two places of the code can disagree about it.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// A `Result` whose error is [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Declares [`ErrorKind`] and its table in one place.
macro_rules! error_kinds {
    ($( $(#[$doc:meta])* $kind:ident = $code:literal, retryable: $retryable:literal, blames_worker: $blames:literal, status: $status:literal, openai: $openai:literal; )*) => {
        /// What sort of failure this is; programs branch on this and never on the message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ErrorKind { $( $(#[$doc])* #[serde(rename = $code)] $kind, )* }

        impl ErrorKind {
            /// Every kind there is, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind),*];

            /// The stable upper-case code by which the kind is known outside the process.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),* }
            }

            /// May the queen try the same job again, here or elsewhere?
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$kind => $retryable),* }
            }

            /// Does it count against the health of the worker that gave it?
            pub const fn blames_worker(self) -> bool {
                match self { $(Self::$kind => $blames),* }
            }

            /// The HTTP status an API answers with.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$kind => $status),* }
            }

            /// The `type` an OpenAI-compatible API calls it by.
            pub const fn openai_type(self) -> &'static str {
                match self { $(Self::$kind => $openai),* }
            }
        }
    };
}

error_kinds! {
    /// A value is malformed or out of range.
    InvalidRequest = "INVALID_REQUEST", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error";
    /// A well-formed wish that the worker or backend at hand cannot fulfil.
    Unsupported = "UNSUPPORTED", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error";
    /// The prompt does not fit into the context of the model.
    ContextExceeded = "CONTEXT_EXCEEDED", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error";
    /// No token, or not the right one.
    Unauthorized = "UNAUTHORIZED", retryable: false, blames_worker: false, status: 401, openai: "authentication_error";
    /// The token is right, but does not allow this.
    PermissionDenied = "PERMISSION_DENIED", retryable: false, blames_worker: false, status: 403, openai: "permission_error";
    /// A job, hive or worker of that name does not exist.
    NotFound = "NOT_FOUND", retryable: false, blames_worker: false, status: 404, openai: "not_found_error";
    /// The path exists, but not with this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", retryable: false, blames_worker: false, status: 405, openai: "invalid_request_error";
    /// Something of that name is there already and differs.
    Conflict = "CONFLICT", retryable: false, blames_worker: false, status: 409, openai: "conflict_error";
    /// The body, or a part of it, is larger than allowed.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", retryable: false, blames_worker: false, status: 413, openai: "invalid_request_error";
    /// The body is of a content type that is not read here.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", retryable: false, blames_worker: false, status: 415, openai: "invalid_request_error";
    /// The model is not known, or its files are not where they should be.
    ModelNotFound = "MODEL_NOT_FOUND", retryable: false, blames_worker: false, status: 404, openai: "not_found_error";
    /// The files are there, but damaged or of a kind that the worker does not know.
    ModelIncompatible = "MODEL_INCOMPATIBLE", retryable: false, blames_worker: false, status: 422, openai: "invalid_request_error";
    /// No device has enough free memory for the model.
    InsufficientVram = "INSUFFICIENT_VRAM", retryable: false, blames_worker: false, status: 503, openai: "server_error";
    /// The tenant's budget or number of concurrent jobs is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", retryable: false, blames_worker: false, status: 429, openai: "insufficient_quota";
    /// The tenant asks too often.
    RateLimited = "RATE_LIMITED", retryable: false, blames_worker: false, status: 429, openai: "rate_limit_error";
    /// The queue is at its limit and no worker is idle.
    SystemAtCapacity = "SYSTEM_AT_CAPACITY", retryable: false, blames_worker: false, status: 503, openai: "server_error";
    /// The scheduling policy refused the job.
    Rejected = "REJECTED", retryable: false, blames_worker: false, status: 403, openai: "permission_error";
    /// The job waited in the queue for as long as its priority allows.
    QueueTimeout = "QUEUE_TIMEOUT", retryable: false, blames_worker: false, status: 504, openai: "server_error";
    /// The job ran for as long as it may.
    JobTimeout = "JOB_TIMEOUT", retryable: false, blames_worker: false, status: 504, openai: "server_error";
    /// The deadline that the client set has passed or cannot be met.
    DeadlineExceeded = "DEADLINE_EXCEEDED", retryable: false, blames_worker: false, status: 504, openai: "server_error";
    /// The client asked for the end, or went away.
    Cancelled = "CANCELLED", retryable: false, blames_worker: false, status: 499, openai: "server_error";
    /// All slots of the worker were taken after all; costs the job nothing.
    WorkerBusy = "WORKER_BUSY", retryable: true, blames_worker: false, status: 503, openai: "server_error";
    /// The worker, or the way to it, is gone.
    WorkerLost = "WORKER_LOST", retryable: true, blames_worker: true, status: 502, openai: "server_error";
    /// The worker broke its contract: it failed, stalled, panicked or talked nonsense.
    WorkerFault = "WORKER_FAULT", retryable: true, blames_worker: true, status: 502, openai: "server_error";
    /// A model was not loaded in time.
    SpawnTimeout = "SPAWN_TIMEOUT", retryable: true, blames_worker: false, status: 504, openai: "server_error";
    /// The machine is not reachable.
    HiveUnreachable = "HIVE_UNREACHABLE", retryable: true, blames_worker: false, status: 502, openai: "server_error";
    /// The model hub did not answer, or not as a hub should.
    HubUnreachable = "HUB_UNREACHABLE", retryable: true, blames_worker: false, status: 502, openai: "server_error";
    /// The queen was restarted while the job ran, and the job may not be run again.
    QueenRestarted = "QUEEN_RESTARTED", retryable: false, blames_worker: false, status: 503, openai: "server_error";
    /// The queen is going down and takes no more jobs.
    ShuttingDown = "SHUTTING_DOWN", retryable: false, blames_worker: false, status: 503, openai: "server_error";
    /// The events of a job broke off before its end, because the queen goes down or the job is another queen's now. The job
    /// may go on: it is asked for by its id, or under its idempotency key.
    Interrupted = "JOB_INTERRUPTED", retryable: false, blames_worker: false, status: 503, openai: "server_error";
    /// The durable store failed; nothing was accepted.
    Storage = "STORAGE", retryable: false, blames_worker: false, status: 507, openai: "server_error";
    /// A hive's budget for models would do, but models that are in use or being fetched take too much of it.
    DiskInUse = "DISK_IN_USE", retryable: true, blames_worker: false, status: 507, openai: "server_error";
    /// Another queen owns the row that was to be written.
    Fenced = "FENCED", retryable: false, blames_worker: false, status: 409, openai: "conflict_error";
    /// A setting is unknown or out of range.
    Config = "CONFIG", retryable: false, blames_worker: false, status: 500, openai: "server_error";
    /// A defect in rbee or in code it was given (a policy that panicked, say).
    Internal = "INTERNAL", retryable: false, blames_worker: false, status: 500, openai: "server_error";
}

impl ErrorKind {
    /// The kind with this [`code`](Self::code), if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    short_bytes: Option<u64>,
    param: Option<Cow<'static, str>>,
    source: Option<Source>,
}

/// A failure: its kind, a sentence for people, when to try again (where that is known) and the cause.
///
/// Cloning is cheap; the same failure may be told to every reader of a job.
///
/// ```
/// use rbee_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::InvalidRequest, "temperature is -1; allowed is 0 to 2");
/// assert_eq!(error.kind().code(), "INVALID_REQUEST");
/// assert_eq!(error.to_string(), "temperature is -1; allowed is 0 to 2");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

impl Error {
    /// A failure of this kind. The message names the thing, the value and what is allowed.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            retry_after: None,
            short_bytes: None,
            param: None,
            source: None,
        }))
    }

    /// Keeps what caused the failure; shown by [`std::error::Error::source`].
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    /// Says when a new try can succeed.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(after);
        self
    }

    /// Says how many bytes would have to be free that are not.
    pub fn with_short_bytes(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.0).short_bytes = Some(bytes);
        self
    }

    /// Names the parameter of the request that is at fault.
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.0).param = Some(param.into());
        self
    }

    /// Puts what was being done before the message: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = format!("{context}: {}", inner.message).into();
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The parameter of the request that is at fault, where it is one.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// When a new try can succeed, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How many bytes would have to be free that are not, where that is the trouble and is known.
    pub fn short_bytes(&self) -> Option<u64> {
        self.0.short_bytes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, "; because: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Two failures are equal when a client could not tell them apart.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.message() == other.message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_lead_back_to_their_kind() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(ErrorKind::from_code("NO_SUCH_CODE"), None);
    }

    #[test]
    fn a_clients_error_is_never_retried_and_never_blames_the_worker() {
        for kind in ErrorKind::ALL.iter().filter(|kind| (400..500).contains(&kind.http_status())) {
            assert!(!kind.is_retryable() && !kind.blames_worker(), "{kind}");
        }
    }

    #[test]
    fn the_cause_is_kept() {
        let cause = std::io::Error::other("disk on fire");
        let error =
            Error::new(ErrorKind::Storage, "cannot write").with_source(cause).context("job 7");
        assert_eq!(error.to_string(), "job 7: cannot write");
        assert!(format!("{error:?}").contains("disk on fire"));
    }
}
