//! The request of a line, for any of the endpoints.

use rbee_core::{
    CorrelationId, Error, ErrorKind, JobHandle, Priority, Request, Result, time::WallTime,
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    server::queen::{
        Inner,
        caller::Caller,
        fields::not_allowed,
        middleware::IdempotencyKey,
        openai::DetachedAsk,
        responses::{DetachedResponse, PreparedResponse},
    },
    wire::batches::BatchEndpoint,
};

/// A request for an endpoint, parsed and checked.
pub(super) enum LineAsk {
    OpenAi(Box<DetachedAsk>),
    Response(Box<DetachedResponse>),
}

/// The same, with everything that its jobs need.
pub(super) enum PreparedLine {
    OpenAi(Box<DetachedAsk>),
    Response(Box<PreparedResponse>),
}

impl LineAsk {
    /// Parses a body, as the endpoint does. What needs a client that waits is refused: a stream, a response in the
    /// background, and the priority `interactive`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(endpoint: BatchEndpoint, body: &[u8]) -> Result<Self> {
        let read = match endpoint {
            BatchEndpoint::ChatCompletions => DetachedAsk::chat,
            BatchEndpoint::Completions => DetachedAsk::completion,
            BatchEndpoint::Embeddings => DetachedAsk::vectors,
            BatchEndpoint::Responses => {
                let ask = DetachedResponse::read(body)?;
                check_priority(ask.priority())?;
                return Ok(Self::Response(Box::new(ask)));
            }
        };
        let ask = read(body)?;
        if ask.is_streamed() {
            return refuse("stream", "true", "false in a batch");
        }
        check_priority(ask.priority())?;
        Ok(Self::OpenAi(Box::new(ask)))
    }

    /// The model, as requested.
    pub(super) fn model(&self) -> &str {
        match self {
            Self::OpenAi(ask) => ask.model(),
            Self::Response(ask) => ask.model(),
        }
    }

    /// The number of its jobs.
    pub(super) fn jobs(&self) -> usize {
        match self {
            Self::OpenAi(ask) => ask.jobs(),
            Self::Response(_) => 1,
        }
    }

    /// Reads what it continues.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place, and the error of the store.
    pub(super) async fn prepare(self, server: &Inner, caller: &Caller) -> Result<PreparedLine> {
        Ok(match self {
            Self::OpenAi(ask) => PreparedLine::OpenAi(ask),
            Self::Response(ask) => {
                PreparedLine::Response(Box::new(ask.prepare(server, caller).await?))
            }
        })
    }
}

impl PreparedLine {
    /// Submits its jobs with the priority `batch`, to be ended by this time. The same request with the same key and the
    /// same time returns the same jobs.
    ///
    /// # Errors
    /// As [`Queen::submit`](rbee_core::Queen::submit).
    pub(super) async fn submit(
        &self,
        server: &Inner,
        caller: &Caller,
        key: String,
        mark: &CorrelationId,
        end_by: WallTime,
    ) -> Result<Vec<JobHandle>> {
        let requests = match self {
            Self::OpenAi(ask) => ask.requests(),
            Self::Response(ask) => vec![ask.request.clone()],
        };
        let requests = requests
            .into_iter()
            .map(|one| one.priority(Priority::Batch).end_by(end_by).streamed(false));
        let key = IdempotencyKey::new(key);
        let submitted = server.submit_jobs(caller, &key, mark, requests.collect()).await;
        submitted.map_err(|error| match self {
            Self::OpenAi(ask) => server.by_requested_name(ask.model(), error),
            Self::Response(ask) => ask.rename(server, error),
        })
    }

    /// Waits for the answers of its jobs. The prompts or texts, which may be long, are not kept meanwhile.
    ///
    /// # Errors
    /// The error of a job; the others are then cancelled.
    pub(super) async fn answer(
        self,
        server: &Inner,
        mut handles: Vec<JobHandle>,
        caller: Caller,
        mark: CorrelationId,
    ) -> Result<Box<RawValue>> {
        let mut ask = match self {
            Self::OpenAi(ask) => return ask.answer(server, handles, caller, mark).await,
            Self::Response(ask) => ask,
        };
        ask.request = Request::embed("", [""; 0]);
        let handle = handles.pop().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a request for a response has no job")
        })?;
        to_raw_value(&ask.answer(server, handle).await?).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("an answer cannot be written: {cause}"))
        })
    }
}

fn check_priority(priority: Option<Priority>) -> Result<()> {
    match priority {
        Some(Priority::Interactive) => {
            refuse("priority", "\"interactive\"", "\"batch\" in a batch, or none")
        }
        Some(Priority::Batch) | None => Ok(()),
    }
}

fn refuse<T>(name: &str, value: &'static str, allowed: &str) -> Result<T> {
    let raw = RawValue::from_string(value.to_owned()).map_err(|cause| {
        Error::new(ErrorKind::Internal, format!("{value} is not JSON: {cause}"))
    })?;
    Err(not_allowed(&raw, name, allowed))
}
