//! The one error type of rbee and the one table of what each kind of error means.
//!
//! Every failure that crosses a public boundary is an [`Error`]: an [`ErrorKind`] that programs branch on, a sentence
//! for people that names the thing, the value and what is allowed, and the cause. One table in this file defines what a
//! kind implies (whether the job may be retried, whether the worker is at fault, the HTTP status, the sentence for a
//! tenant), so that no two places in the code can disagree about it.
//!
//! A message is for the operator: it may name machines, devices and paths. A tenant reads [`Error::redacted`], which
//! has the fixed sentence of the kind, unless the code that made the error wrote a message for the client too.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

mod plain;

/// A `Result` whose error is [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Declares [`ErrorKind`] and its table in one place.
macro_rules! error_kinds {
    ($( $(#[$doc:meta])* $kind:ident = $code:literal, retryable: $retryable:literal, blames_worker: $blames:literal, status: $status:literal, openai: $openai:literal, summary: $summary:literal; )*) => {
        /// The kind of a failure. Programs branch on it and never on the message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ErrorKind { $( $(#[$doc])* #[serde(rename = $code)] $kind, )* }

        impl ErrorKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind),*];

            /// The stable upper-case code of the kind outside the process.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),* }
            }

            /// True if the queen may retry the same job, on this worker or another.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$kind => $retryable),* }
            }

            /// True if the failure counts against the health of the worker that returned it.
            pub const fn blames_worker(self) -> bool {
                match self { $(Self::$kind => $blames),* }
            }

            /// The HTTP status that an API answers with.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$kind => $status),* }
            }

            /// The `type` of the error in an OpenAI-compatible API.
            pub const fn openai_type(self) -> &'static str {
                match self { $(Self::$kind => $openai),* }
            }

            /// The sentence that a tenant reads instead of the message for the operator.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$kind => $summary),* }
            }
        }
    };
}

error_kinds! {
    /// A value is malformed or out of range.
    InvalidRequest = "INVALID_REQUEST", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error", summary: "the request has a value that is malformed or not allowed";
    /// A well-formed request that the worker or backend cannot fulfil.
    Unsupported = "UNSUPPORTED", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error", summary: "the model cannot do what the request asks for";
    /// The prompt does not fit into the context of the model.
    ContextExceeded = "CONTEXT_EXCEEDED", retryable: false, blames_worker: false, status: 400, openai: "invalid_request_error", summary: "the prompt is longer than the context of the model";
    /// No token, or a wrong one.
    Unauthorized = "UNAUTHORIZED", retryable: false, blames_worker: false, status: 401, openai: "authentication_error", summary: "access is refused";
    /// The token is valid, but does not allow this.
    PermissionDenied = "PERMISSION_DENIED", retryable: false, blames_worker: false, status: 403, openai: "permission_error", summary: "this is not allowed";
    /// A job, hive or worker of that name does not exist.
    NotFound = "NOT_FOUND", retryable: false, blames_worker: false, status: 404, openai: "not_found_error", summary: "what was asked for does not exist";
    /// The path exists, but does not accept this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", retryable: false, blames_worker: false, status: 405, openai: "invalid_request_error", summary: "the path does not take this method";
    /// A thing of that name exists already and differs.
    Conflict = "CONFLICT", retryable: false, blames_worker: false, status: 409, openai: "conflict_error", summary: "something of that name exists already and differs";
    /// The body, or a part of it, is larger than allowed.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", retryable: false, blames_worker: false, status: 413, openai: "invalid_request_error", summary: "the request is larger than allowed";
    /// The content type of the body is not accepted.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", retryable: false, blames_worker: false, status: 415, openai: "invalid_request_error", summary: "the content type is not read here; allowed is application/json";
    /// The model is not known, or its files are missing.
    ModelNotFound = "MODEL_NOT_FOUND", retryable: false, blames_worker: false, status: 404, openai: "not_found_error", summary: "the model is not known here, or its files cannot be found";
    /// The files exist, but are damaged or of a kind that the worker does not support.
    ModelIncompatible = "MODEL_INCOMPATIBLE", retryable: false, blames_worker: false, status: 422, openai: "invalid_request_error", summary: "the files of the model are damaged, or of a kind that cannot be loaded";
    /// No device has enough free memory for the model.
    InsufficientVram = "INSUFFICIENT_VRAM", retryable: false, blames_worker: false, status: 507, openai: "server_error", summary: "there is not enough free memory for the model";
    /// The tenant's budget or number of concurrent jobs is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", retryable: false, blames_worker: false, status: 429, openai: "insufficient_quota", summary: "the quota is used up";
    /// The tenant sends requests too often.
    RateLimited = "RATE_LIMITED", retryable: false, blames_worker: false, status: 429, openai: "rate_limit_error", summary: "the requests come too fast";
    /// The queue is at its limit and no worker is idle.
    SystemAtCapacity = "SYSTEM_AT_CAPACITY", retryable: false, blames_worker: false, status: 503, openai: "server_error", summary: "the queue is full; try again later";
    /// The scheduling policy refused the job.
    Rejected = "REJECTED", retryable: false, blames_worker: false, status: 403, openai: "permission_error", summary: "the scheduling policy refused the job";
    /// The job waited in the queue for as long as its priority allows.
    QueueTimeout = "QUEUE_TIMEOUT", retryable: false, blames_worker: false, status: 504, openai: "server_error", summary: "the job waited in the queue for too long";
    /// The job ran for as long as it is allowed to.
    JobTimeout = "JOB_TIMEOUT", retryable: false, blames_worker: false, status: 504, openai: "server_error", summary: "the job ran for too long";
    /// The deadline that the client set has passed or cannot be met.
    DeadlineExceeded = "DEADLINE_EXCEEDED", retryable: false, blames_worker: false, status: 504, openai: "server_error", summary: "the job cannot be done by its deadline";
    /// The client cancelled the job, or disconnected.
    Cancelled = "CANCELLED", retryable: false, blames_worker: false, status: 499, openai: "server_error", summary: "the job was cancelled";
    /// All slots of the worker were taken in the meantime. Does not use up an attempt of the job.
    WorkerBusy = "WORKER_BUSY", retryable: true, blames_worker: false, status: 503, openai: "server_error", summary: "the service is busy; try again";
    /// The worker, or the connection to it, is gone.
    WorkerLost = "WORKER_LOST", retryable: true, blames_worker: true, status: 502, openai: "server_error", summary: "the service failed while it ran the job";
    /// An attempt could not begin on the worker, or ended there for a reason that the job cannot have caused: nothing
    /// listens, the worker was stopped on purpose, or it was lost with its machine. Does not use up an attempt of the
    /// job.
    WorkerUnreachable = "WORKER_UNREACHABLE", retryable: true, blames_worker: true, status: 502, openai: "server_error", summary: "a part of the service cannot be reached";
    /// The worker broke its contract: it failed, stalled, panicked or sent invalid data.
    WorkerFault = "WORKER_FAULT", retryable: true, blames_worker: true, status: 502, openai: "server_error", summary: "the service failed while it ran the job";
    /// A model was not loaded in time.
    SpawnTimeout = "SPAWN_TIMEOUT", retryable: true, blames_worker: false, status: 504, openai: "server_error", summary: "the model was not loaded in time";
    /// The machine cannot be reached.
    HiveUnreachable = "HIVE_UNREACHABLE", retryable: true, blames_worker: false, status: 502, openai: "server_error", summary: "a part of the service cannot be reached";
    /// The model hub did not answer, or its answer was not valid.
    HubUnreachable = "HUB_UNREACHABLE", retryable: true, blames_worker: false, status: 502, openai: "server_error", summary: "the model cannot be fetched at the moment";
    /// The queen was restarted while the job ran, and the job must not be run again.
    QueenRestarted = "QUEEN_RESTARTED", retryable: false, blames_worker: false, status: 500, openai: "server_error", summary: "the service was restarted while the job ran, and the job cannot be run again";
    /// The queen is shutting down and accepts no more jobs.
    ShuttingDown = "SHUTTING_DOWN", retryable: false, blames_worker: false, status: 503, openai: "server_error", summary: "the service is going down and takes no more jobs";
    /// The events of a job stopped before its end, because the queen is shutting down or another queen now owns the
    /// job. The job may go on: request it by its id, or with its idempotency key.
    Interrupted = "JOB_INTERRUPTED", retryable: false, blames_worker: false, status: 503, openai: "server_error", summary: "the events of the job broke off before its end; ask for the job again";
    /// The durable store cannot be written or read; nothing was accepted.
    Storage = "STORAGE", retryable: false, blames_worker: false, status: 503, openai: "server_error", summary: "the service cannot store what it needs to; nothing was accepted";
    /// A hive's budget for models is large enough, but models that are in use or being downloaded take too much of it.
    DiskInUse = "DISK_IN_USE", retryable: true, blames_worker: false, status: 507, openai: "server_error", summary: "there is no room for the model at the moment";
    /// Another queen owns the row that was to be written.
    Fenced = "FENCED", retryable: false, blames_worker: false, status: 409, openai: "conflict_error", summary: "another instance of the service is responsible for this";
    /// A setting is unknown or out of range.
    Config = "CONFIG", retryable: false, blames_worker: false, status: 500, openai: "server_error", summary: "the service is not configured for this";
    /// A defect in rbee or in code that it was given (for example a policy that panicked).
    Internal = "INTERNAL", retryable: false, blames_worker: false, status: 500, openai: "server_error", summary: "the service failed";
}

impl ErrorKind {
    /// The kind with this [`code`](Self::code); `None` if there is none.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// True if an attempt that ends with this kind uses up one of the job's attempts: only if the job can be the cause.
    pub const fn costs_a_try(self) -> bool {
        !matches!(self, Self::WorkerBusy | Self::WorkerUnreachable | Self::HiveUnreachable)
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
    client_message: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    short_bytes: Option<u64>,
    param: Option<Cow<'static, str>>,
    source: Option<Source>,
}

/// The longest text of an error, in bytes: it is stored, sent and logged, and may come from another program.
const MAX_TEXT: usize = 8 << 10;

/// The text, up to this number of bytes and with `…` at its end if it is longer.
pub(crate) fn cut(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..end]))
}

/// A failure: its kind, a sentence for people, the time of the next retry (if known) and the cause.
///
/// Cloning is cheap: every reader of a job can receive the same failure.
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
    /// A failure of this kind. The message names the thing, the value and what is allowed. It is for the operator and
    /// may name machines and paths: a tenant reads the [summary](ErrorKind::summary) of the kind instead.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: cut(message.into(), MAX_TEXT),
            client_message: None,
            retry_after: None,
            short_bytes: None,
            param: None,
            source: None,
        }))
    }

    /// A failure of this kind whose message is only about the client's own request and limits. Everyone may read it, so
    /// it must not name a machine, a device, a worker, or a path that the client did not send.
    ///
    /// ```
    /// use rbee_core::{Error, ErrorKind};
    ///
    /// let error = Error::for_client(ErrorKind::InvalidRequest, "temperature is -1; allowed is 0 to 2");
    /// assert_eq!(error.redacted().message(), "temperature is -1; allowed is 0 to 2");
    /// let error = Error::new(ErrorKind::ModelNotFound, "/models/bee on hive attic does not exist");
    /// assert_eq!(error.redacted().message(), ErrorKind::ModelNotFound.summary());
    /// ```
    pub fn for_client(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self::new(kind, message.clone()).with_client_message(message)
    }

    /// Sets the text that a client reads instead of the message. The rules of [`for_client`](Self::for_client) apply.
    pub fn with_client_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.0).client_message = Some(cut(message.into(), MAX_TEXT));
        self
    }

    /// Stores the cause of the failure; [`std::error::Error::source`] returns it.
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
        Arc::make_mut(&mut self.0).param = Some(cut(param.into(), MAX_TEXT));
        self
    }

    /// Adds the operation in front of the message: `context: message`. The client's message stays as it is.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = cut(format!("{context}: {}", inner.message).into(), MAX_TEXT);
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence for people who operate the service.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message that was written for the client, if there is one.
    pub fn client_message(&self) -> Option<&str> {
        self.0.client_message.as_deref()
    }

    /// The error as a tenant may read it: the kind, the time of the next retry, and the message for the client, or else
    /// the [summary](ErrorKind::summary) of the kind. It has a parameter only together with a message for the client.
    /// This is the only function that decides which parts of an error a tenant reads.
    pub fn redacted(&self) -> Self {
        let own = self.0.client_message.clone();
        let has_own = own.is_some();
        Self(Arc::new(Inner {
            kind: self.0.kind,
            message: own.clone().unwrap_or(Cow::Borrowed(self.0.kind.summary())),
            client_message: own,
            retry_after: self.0.retry_after,
            short_bytes: None,
            param: self.0.param.clone().filter(|_| has_own),
            source: None,
        }))
    }

    /// The message of any error, followed by those of its causes that it does not contain yet: `cannot write: disk
    /// full`.
    pub fn with_causes(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let whole = error.to_string();
            let mut more = whole.as_str();
            // A cause often begins with what its effect says already: `cannot listen: address in use`.
            while let Some((said, rest)) = more.split_once(": ")
                && text.contains(said)
            {
                more = rest;
            }
            if !text.contains(more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    }

    /// The error as a log may have it: with its message and causes, unless they may quote the request. The log of an
    /// error about the request has the summary of its kind instead.
    pub fn for_log(&self) -> String {
        let may_quote = matches!(
            self.kind(),
            ErrorKind::InvalidRequest
                | ErrorKind::Unsupported
                | ErrorKind::ContextExceeded
                | ErrorKind::ModelIncompatible
        );
        if !may_quote {
            return format!("{self:?}");
        }
        let (kind, summary) = (self.kind(), self.kind().summary());
        match self.param() {
            Some(param) => format!("{kind}: {summary} ({param})"),
            None => format!("{kind}: {summary}"),
        }
    }

    /// The parameter of the request that is at fault, if any.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// The time after which a retry can succeed, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The missing free bytes, if a lack of memory or disk space is the cause and the number is known.
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
        write!(f, "{}: {}", self.0.kind, Self::with_causes(self))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Two failures are equal if they are of one kind and have the same message.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.message() == other.message()
    }
}

/// A request that cannot be carried out as it is; the client reads the message.
pub(crate) fn invalid(message: String) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message)
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".into())
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
    fn a_tenant_reads_the_summary_of_every_kind_and_nothing_of_a_message_for_the_operator() {
        let secret = "/srv/models/bee on hive attic, device NVIDIA H200";
        for kind in ErrorKind::ALL {
            let after = Duration::from_secs(3);
            let error = Error::new(*kind, secret)
                .with_param(secret)
                .with_retry_after(after)
                .with_short_bytes(5)
                .with_source(std::io::Error::other(secret))
                .context(secret);
            let told = error.redacted();
            assert_eq!((told.kind(), told.message()), (*kind, kind.summary()));
            assert_eq!(
                (told.retry_after(), told.short_bytes(), told.param()),
                (Some(after), None, None)
            );
            assert!(!format!("{told:?}").contains("attic") && error.message().contains("attic"));
        }
    }

    #[test]
    fn a_message_for_the_client_is_kept_apart_from_what_is_put_before_the_other() {
        let error = Error::for_client(ErrorKind::ContextExceeded, "600 tokens; allowed are 512")
            .with_param("messages")
            .context("worker 7 on hive attic");
        assert_eq!(error.message(), "worker 7 on hive attic: 600 tokens; allowed are 512");
        let told = error.redacted();
        assert_eq!(told.message(), "600 tokens; allowed are 512");
        assert_eq!(told.param(), Some("messages"));
        assert_eq!(told.redacted().message(), told.message());
    }

    #[test]
    fn no_text_of_an_error_is_long_wherever_it_comes_from() {
        let long = "é".repeat(1 << 20);
        let error = Error::new(ErrorKind::WorkerFault, long.clone())
            .with_client_message(long.clone())
            .with_param(long.clone())
            .context("worker 7");
        let client = error.client_message().unwrap_or_default();
        for text in [error.message(), client, error.param().unwrap_or_default()] {
            assert!(text.len() <= 8 << 10 && text.ends_with("é…"), "{}", text.len());
        }
        assert!(error.message().starts_with("worker 7: éé"));
        let recorded = serde_json::json!({ "kind": "WORKER_FAULT", "message": long });
        let back: Error = serde_json::from_value(recorded).unwrap();
        assert!(back.message().len() <= 8 << 10);
        let short = "x".repeat(8 << 10);
        assert_eq!(Error::new(ErrorKind::Internal, short.clone()).message(), short);
    }

    #[test]
    fn a_log_has_no_message_that_may_quote_the_request() {
        let error = Error::for_client(ErrorKind::InvalidRequest, "bad: my secret prompt")
            .with_param("messages")
            .with_source(std::io::Error::other("my secret prompt"));
        assert_eq!(
            error.for_log(),
            "INVALID_REQUEST: the request has a value that is malformed or not allowed (messages)"
        );
        let error = Error::new(ErrorKind::WorkerFault, "the device is lost")
            .with_source(std::io::Error::other("bus error"));
        assert_eq!(error.for_log(), "WORKER_FAULT: the device is lost: bus error");
    }

    #[test]
    fn a_summary_names_no_part_of_the_fleet() {
        for kind in ErrorKind::ALL {
            let summary = kind.summary();
            let words = ["hive", "worker", "device", "queen", "/"];
            let named = words.iter().find(|word| summary.contains(**word));
            assert!(!summary.is_empty());
            assert!(named.is_none() || *kind == ErrorKind::UnsupportedMediaType, "{summary}");
        }
    }

    #[test]
    fn only_what_may_be_tried_again_can_cost_no_try() {
        let free = ErrorKind::ALL.iter().filter(|kind| !kind.costs_a_try());
        assert_eq!(free.clone().count(), 3);
        assert!(free.into_iter().all(|kind| kind.is_retryable()));
    }

    #[test]
    fn the_cause_is_kept() {
        let cause = std::io::Error::other("disk on fire");
        let error =
            Error::new(ErrorKind::Storage, "cannot write").with_source(cause).context("job 7");
        assert_eq!(error.to_string(), "job 7: cannot write");
        assert!(format!("{error:?}").contains("disk on fire"));
    }

    #[test]
    fn a_cause_that_the_message_names_is_not_repeated() {
        let root = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Storage, "cannot write: disk on fire").with_source(root);
        let outer = Error::new(ErrorKind::Internal, "job 7").with_source(error);
        assert_eq!(Error::with_causes(&outer), "job 7: cannot write: disk on fire");
        assert_eq!(format!("{outer:?}"), "INTERNAL: job 7: cannot write: disk on fire");
        let root = std::io::Error::other("cannot listen on 1.2.3.4:5: in use");
        let error =
            Error::new(ErrorKind::Conflict, "cannot listen on 1.2.3.4:5: a queen listens there");
        assert_eq!(
            Error::with_causes(&error.with_source(root)),
            "cannot listen on 1.2.3.4:5: a queen listens there: in use"
        );
    }
}
