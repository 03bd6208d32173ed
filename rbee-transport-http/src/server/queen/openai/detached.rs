//! Requests without a connection: read from a body, submitted under a key, and turned into the body of the response that
//! the route would have sent.

use std::time::Duration;

use rbee_core::{CorrelationId, Error, ErrorKind, JobHandle, Priority, Request, Result};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    super::{Inner, caller::Caller, fields::not_allowed, middleware::IdempotencyKey},
    Origin, answer, embeddings,
    request::{Ask, EmbedAsk, Kind},
};
use crate::wire::batches::BatchEndpoint;

/// A request for an endpoint, parsed and checked.
pub(in crate::server::queen) struct DetachedAsk(Body);

enum Body {
    Text(Ask),
    Vectors(Box<EmbedAsk>),
}

impl DetachedAsk {
    /// Parses a body, as the endpoint does. A stream and the priority `interactive` are refused: no client waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn read(endpoint: BatchEndpoint, body: &[u8]) -> Result<Self> {
        let body = match endpoint {
            BatchEndpoint::ChatCompletions => Body::Text(Ask::read(Kind::Chat, body)?),
            BatchEndpoint::Completions => Body::Text(Ask::read(Kind::Completion, body)?),
            BatchEndpoint::Embeddings => Body::Vectors(Box::new(EmbedAsk::read(body)?)),
        };
        let clocks = match &body {
            Body::Text(ask) if ask.stream.is_some() => {
                return refuse("stream", "true", "false in a batch");
            }
            Body::Text(ask) => ask.clocks,
            Body::Vectors(ask) => ask.clocks,
        };
        match clocks.priority {
            Some(Priority::Interactive) => {
                refuse("priority", "\"interactive\"", "\"batch\" in a batch, or none")
            }
            Some(Priority::Batch) | None => Ok(Self(body)),
        }
    }

    /// The model, as requested.
    pub(in crate::server::queen) fn model(&self) -> &str {
        match &self.0 {
            Body::Text(ask) => &ask.model,
            Body::Vectors(ask) => &ask.model,
        }
    }

    /// The number of its jobs.
    pub(in crate::server::queen) fn jobs(&self) -> usize {
        match &self.0 {
            Body::Text(ask) => ask.requests.len(),
            Body::Vectors(_) => 1,
        }
    }

    /// Submits its jobs with the priority `batch` and at most this time for everything. The same request with the same
    /// key and the same time returns the same jobs.
    ///
    /// # Errors
    /// As [`Queen::submit`](rbee_core::Queen::submit).
    pub(in crate::server::queen) async fn submit(
        &self,
        server: &Inner,
        caller: &Caller,
        key: String,
        mark: &CorrelationId,
        time: Duration,
    ) -> Result<Vec<JobHandle>> {
        let (requests, clocks) = match &self.0 {
            Body::Text(ask) => (ask.requests.clone(), ask.clocks),
            Body::Vectors(ask) => (vec![ask.request.clone()], ask.clocks),
        };
        let deadline = clocks.deadline.map_or(time, |own| own.min(time));
        let key = IdempotencyKey::new(key);
        let requests = requests
            .into_iter()
            .map(|one| one.priority(Priority::Batch).deadline(deadline).streamed(false));
        server.submit_jobs(caller, &key, mark, requests.collect()).await
    }

    /// Waits for the answers of its jobs. The prompts or texts, which may be long, are not kept meanwhile.
    ///
    /// # Errors
    /// The error of a job; the others are then cancelled.
    pub(in crate::server::queen) async fn answer(
        self,
        mut handles: Vec<JobHandle>,
        caller: Caller,
        mark: CorrelationId,
    ) -> Result<Box<RawValue>> {
        let answer = match self.0 {
            Body::Text(ask) => {
                let origin = Origin::new(&ask, &handles, caller, mark);
                drop(ask);
                answer::whole(handles, &origin).await?
            }
            Body::Vectors(mut ask) => {
                ask.request = Request::embed("", [""; 0]);
                let handle = handles.pop().ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "a request for vectors has no job")
                })?;
                embeddings::vectors(handle, &ask).await?
            }
        };
        to_raw_value(&answer.body).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("an answer cannot be written: {cause}"))
        })
    }
}

fn refuse<T>(name: &str, value: &'static str, allowed: &str) -> Result<T> {
    let raw = RawValue::from_string(value.to_owned()).map_err(|cause| {
        Error::new(ErrorKind::Internal, format!("{value} is not JSON: {cause}"))
    })?;
    Err(not_allowed(&raw, name, allowed))
}
