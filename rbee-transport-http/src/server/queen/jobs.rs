//! Jobs: submitted without a reader, listed, followed, cancelled.

mod events;

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::{Request, State},
    response::IntoResponse,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rbee_core::{
    Error, ErrorKind, JobId, JobState, ModelRef, Outcome, Queen, Result,
    job::JobStatus,
    registry::{JobFilter, JobRecord},
};

use super::{
    Inner, Shared,
    caller::Caller,
    keep_alive::Waiting,
    loading,
    middleware::{HandlerResult, Name, Params},
    openai,
    sender::Sender,
};
use crate::{
    server::response,
    wire::{
        ErrorBody, JOB_ID, LAST_EVENT_ID,
        queen::{JOBS, JobList, JobQuery, JobRequest, JobView},
        sse::ServerSentEvent,
    },
};

/// How long the response to a cancellation waits for the end of the job.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The jobs of a page by default.
const PAGE: usize = 100;
const MOST_OF_A_PAGE: usize = 1_000;

/// Submit a job that runs without a reader.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = JOBS,
        tag = "jobs",
        request_body = JobRequest,
        params(
            ("idempotency-key" = Option<String>, Header, description = "A repeated request with the same key returns the job of the first one."),
        ),
        responses(
            (status = 202, description = "The job is recorded, and waits or runs. `Location` is its path.", body = JobView),
            (status = "default", description = "The job was not accepted.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn submit(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let request = openai::job(body.bytes())?;
    let job = shared.submit_one(&sender, body.into_permit(), request).await?.detach();
    let mut response =
        response::json(StatusCode::ACCEPTED, &shared.view(&sender.caller, job).await?);
    let headers = response.headers_mut();
    let name = job.to_string();
    if let (Ok(id), Ok(place)) =
        (HeaderValue::from_str(&name), HeaderValue::try_from(format!("{JOBS}/{name}")))
    {
        headers.insert(JOB_ID, id);
        headers.insert(header::LOCATION, place);
    }
    Ok(response)
}

/// List jobs, the newest first.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = JOBS,
        tag = "jobs",
        params(JobQuery),
        responses(
            (status = 200, description = "A page of jobs.", body = JobList),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Params(query): Params<JobQuery>,
) -> HandlerResult {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MOST_OF_A_PAGE).contains(&limit) {
        let message = format!("limit is {limit}; allowed is 1 to {MOST_OF_A_PAGE}");
        return Err(Error::for_client(ErrorKind::InvalidRequest, message)
            .with_param("limit")
            .into());
    }
    let filter = JobFilter {
        tenant: caller.tenant().cloned(),
        states: states(query.state.as_deref())?,
        before: match query.before {
            Some(job) => Some(shared.order_of(&caller, job).await?),
            None => None,
        },
        // One more job shows whether there is another page.
        limit: (limit + 1).min(MOST_OF_A_PAGE),
        ..JobFilter::default()
    };
    let mut records = shared.queen.jobs(&filter).await?;
    let has_more = records.len() > limit || (limit == MOST_OF_A_PAGE && records.len() == limit);
    records.truncate(limit);
    // Not the order, which counts the jobs of all tenants.
    let next = records.last().filter(|_| has_more).map(|record| record.id);
    let mut data = Vec::with_capacity(records.len());
    // Most jobs are for the same few models.
    let mut names: BTreeMap<&ModelRef, String> = BTreeMap::new();
    for record in &records {
        let name = names
            .entry(&record.model)
            .or_insert_with(|| shared.name_of_model(&caller, &record.model))
            .clone();
        data.push(shared.describe(&caller, record, name).await?);
    }
    Ok(response::json(StatusCode::OK, &JobList { data, next }))
}

/// Get a job.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::JOB,
        tag = "jobs",
        params(("id" = String, Path, description = "The id of the job.")),
        responses(
            (status = 200, description = "The job.", body = JobView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> HandlerResult {
    let job = job_id(&name)?;
    shared.check_owner(&caller, job).await?;
    Ok(response::json(StatusCode::OK, &shared.view(&caller, job).await?))
}

/// Cancel a job. A job that has already ended stays unchanged.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = crate::wire::queen::JOB,
        tag = "jobs",
        params(("id" = String, Path, description = "The id of the job.")),
        responses(
            (status = 200, description = "The job, which has ended.", body = JobView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> HandlerResult {
    let job = job_id(&name)?;
    shared.check_owner(&caller, job).await?;
    // Distinguishes a job that never existed from one that has ended.
    let record = shared.queen.job(job).await?;
    if record.status.state().is_live() {
        end(&shared.queen, job).await?;
    }
    Ok(response::json(StatusCode::OK, &shared.view(&caller, job).await?))
}

async fn end(queen: &Queen, job: JobId) -> Result<()> {
    // A reader that has seen everything only gets the end.
    let mut reader = queen.attach(job, Some(u64::MAX)).await?;
    queen.cancel(job);
    let ended = async { while reader.next().await.is_some() {} };
    if tokio::time::timeout(CANCEL_TIMEOUT, ended).await.is_err() {
        tracing::warn!(%job, "the job has not ended within {CANCEL_TIMEOUT:?} of its cancellation");
    }
    Ok(())
}

/// Follow a job: a stream of its events, from the first or after `Last-Event-ID`. `started`, `token`, `vectors`,
/// `end` and `error` carry their position as id; the last two end the stream. Works while the job runs and for as
/// long as its events are kept. A stream that ends with neither, but with a `retry` field, should be resumed: the
/// queen shuts down, and the job continues.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::JOB_EVENTS,
        tag = "jobs",
        params(
            ("id" = String, Path, description = "The id of the job."),
            ("last-event-id" = Option<u64>, Header, description = "The position of the last event that was received."),
        ),
        responses(
            (status = 200, description = "Its events.", content_type = "text/event-stream", body = ServerSentEvent),
            (status = 204, description = "The event at this position is the end; nothing follows."),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
    headers: HeaderMap,
) -> HandlerResult {
    let job = job_id(&name)?;
    shared.check_owner(&caller, job).await?;
    let after = last_event_id(&headers)?;
    let place = shared.bounds.follow(&caller, job)?;
    let reader = shared.queen.attach(job, after).await?;
    let record = shared.queen.job(job).await.ok();
    let (model, mark) = record.map(|record| (record.model, record.correlation_id)).unzip();
    let waiting = Waiting::new(&shared.queen, job, model, caller.clone());
    Ok(match events::stream(job, mark, caller, waiting, reader, place) {
        Some(response) => response,
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    // A reader that has not received any event sends an empty value.
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(after) => Ok(Some(after)),
        None => {
            let message =
                format!("{LAST_EVENT_ID} is {value:?}; allowed is the id of an event, a number");
            Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(LAST_EVENT_ID))
        }
    }
}

/// Parses the id of a job; one that is not a UUID does not exist.
pub(super) fn job_id(name: &str) -> Result<JobId> {
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(60).collect();
        Error::for_client(ErrorKind::NotFound, format!("job {shown:?} does not exist"))
    })
}

fn states(names: Option<&str>) -> Result<Vec<JobState>> {
    let names = names.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    names
        .map(|name| {
            JobState::from_name(name).ok_or_else(|| {
                let all = JobState::ALL.map(JobState::as_str).join(", ");
                let shown: String = name.chars().take(60).collect();
                let message = format!("state is {shown:?}; allowed are {all}");
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("state")
            })
        })
        .collect()
}

impl Inner {
    /// The position of a job of the caller in the list of all jobs.
    async fn order_of(&self, caller: &Caller, job: JobId) -> Result<u64> {
        let tenant = caller.tenant().cloned();
        let filter = JobFilter { tenant, with_text: false, ..JobFilter::one(job) };
        let found = self.queen.jobs(&filter).await?.pop();
        found.map(|record| record.order).ok_or_else(|| {
            let message = format!(
                "before is job {job}, which does not exist or is no longer kept; allowed is the next of a page; begin \
                 with the first page again"
            );
            Error::for_client(ErrorKind::InvalidRequest, message).with_param("before")
        })
    }

    /// Checks that the caller may see the job: a tenant sees only its own jobs.
    pub(super) async fn check_owner(&self, caller: &Caller, job: JobId) -> Result<()> {
        if caller.tenant().is_none() {
            return Ok(());
        }
        let filter = JobFilter { with_text: false, ..JobFilter::one(job) };
        match self.queen.jobs(&filter).await?.first() {
            Some(record) => caller.may_see(record),
            None => Err(super::caller::missing(job)),
        }
    }

    async fn view(&self, caller: &Caller, job: JobId) -> Result<JobView> {
        let record = self.queen.job(job).await?;
        let name = self.name_of_model(caller, &record.model);
        let mut view = self.describe(caller, &record, name).await?;
        if record.output_kept || record.chunks.len() == record.tokens_generated as usize {
            view.text = Some(record.chunks.iter().map(|chunk| &*chunk.text).collect());
        }
        Ok(view)
    }

    fn name_of_model(&self, caller: &Caller, model: &ModelRef) -> String {
        match caller {
            Caller::Operator => model.to_string(),
            Caller::Tenant(_) => caller.model(&self.queen, model).into_owned(),
        }
    }

    async fn describe(
        &self,
        caller: &Caller,
        record: &JobRecord,
        model: String,
    ) -> Result<JobView> {
        let state = record.status.state();
        let (mut position, mut load) = (None, None);
        if state == JobState::Queued {
            // A queen that shuts down has no queue; the rest of the job is still valid.
            position = self.queen.position(record.id).await.ok().flatten();
            load = loading::of(&self.queen, &record.model, caller);
        }
        let (completed_at, error) = match &record.status {
            JobStatus::Live(_) => (None, None),
            JobStatus::Ended(ended) => {
                let error = match &ended.outcome {
                    Outcome::Failed(error) => {
                        let mark = Some(&record.correlation_id);
                        Some(ErrorBody::new(&caller.error(error), mark).error)
                    }
                    Outcome::Complete { .. } | Outcome::Cancelled => None,
                };
                (Some(ended.completed_at), error)
            }
        };
        Ok(JobView {
            id: record.id,
            model,
            state: state.as_str().into(),
            priority: record.priority.as_str().into(),
            position,
            loading: load,
            tenant: record.tenant.as_ref().map(ToString::to_string),
            worker: caller.worker(record.status.worker()),
            submitted_at_ms: record.submitted_at.as_millis(),
            started_at_ms: record.status.started_at().map(|at| at.as_millis()),
            completed_at_ms: completed_at.map(|at| at.as_millis()),
            attempts: record.attempts,
            tokens: record.tokens_generated,
            text: None,
            error,
            correlation_id: record.correlation_id.to_string(),
        })
    }
}
