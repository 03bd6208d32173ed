//! The sender of a request for answers, and the submission of its jobs.

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderValue, request::Parts};
use rbee_core::{CorrelationId, JobHandle, JobId, Request, Result, event::Started};

use super::{
    Inner,
    bounds::BodyPermit,
    caller::Caller,
    local_user::Locality,
    middleware::{IdempotencyKey, Refused, RequestId},
};
use crate::wire::{JOB_ID, QUEUE_MS, WORKER_ID};

/// Who sends a request, and what its headers say about its jobs.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) caller: Caller,
    pub(super) locality: Locality,
    /// The correlation id of the request.
    pub(super) mark: CorrelationId,
    key: IdempotencyKey,
}

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Ok(caller) = Caller::from_request_parts(parts, state).await;
        let Ok(locality) = Locality::from_request_parts(parts, state).await;
        let Ok(RequestId(mark)) = RequestId::from_request_parts(parts, state).await;
        let key = IdempotencyKey::from_request_parts(parts, state).await?;
        Ok(Self { caller, locality, mark, key })
    }
}

impl Inner {
    /// Submits the jobs of a request, all or none. `permit` is for the body that they were read from: no other limit
    /// counts what they hold before they are jobs.
    ///
    /// # Errors
    /// If the sender may not use the model, and as [`Queen::submit_all`](rbee_core::Queen::submit_all).
    pub(super) async fn submit(
        &self,
        sender: &Sender,
        permit: BodyPermit,
        requests: Vec<Request>,
    ) -> Result<Vec<JobHandle>> {
        if let Some(first) = requests.first() {
            self.check_model_of(&sender.caller, &sender.locality, first.model()).await?;
        }
        let handles = self.submit_jobs(&sender.caller, &sender.key, &sender.mark, requests).await?;
        drop(permit);
        Ok(handles)
    }

    /// Submits the jobs of a request of this caller, all or none, with its key and its correlation id. Whether the caller
    /// may use the model was checked.
    ///
    /// # Errors
    /// As [`Queen::submit_all`](rbee_core::Queen::submit_all).
    pub(super) async fn submit_jobs(
        &self,
        caller: &Caller,
        key: &IdempotencyKey,
        mark: &CorrelationId,
        requests: Vec<Request>,
    ) -> Result<Vec<JobHandle>> {
        let count = requests.len();
        let mut requests = requests.into_iter().enumerate().map(|(at, request)| {
            let request = if self.raw_completions { request.raw() } else { request };
            key.mark(caller.mark(request), at, count).correlation_id(mark.clone())
        });
        match requests.next() {
            Some(only) if count == 1 => Ok(vec![self.queen.submit(only).await?]),
            first => {
                let all: Vec<Request> = first.into_iter().chain(requests).collect();
                self.queen.submit_all(all).await
            }
        }
    }

    /// The same for a request with one job.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(super) async fn submit_one(
        &self,
        sender: &Sender,
        permit: BodyPermit,
        request: Request,
    ) -> Result<JobHandle> {
        let mut handles = self.submit(sender, permit, vec![request]).await?;
        handles.pop().ok_or_else(|| {
            rbee_core::Error::new(rbee_core::ErrorKind::Internal, "a request became no job")
        })
    }
}

/// Sets headers with the origin of an answer, as far as the caller may know it.
pub(super) fn put_origin(
    headers: &mut HeaderMap,
    caller: &Caller,
    job: JobId,
    started: Option<Started>,
) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(JOB_ID, &job.to_string());
    let Some(started) = started else { return };
    put(QUEUE_MS, &started.queue_wait.as_millis().to_string());
    if let Some(worker) = caller.worker(started.worker) {
        put(WORKER_ID, &worker.to_string());
    }
}
