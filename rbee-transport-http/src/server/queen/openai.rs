//! OpenAI's API, for its official clients.
//!
//! Every field of a request is honored or refused by name; none is silently ignored ([`rules`] has the table).
//!
//! The head of a stream is held back until there is something to send, or for [`HEAD_TIMEOUT`](stream::HEAD_TIMEOUT):
//! an error before that has its proper status. From then on the stream sends a comment every few seconds that says
//! what the job waits for, and an error is an event without `[DONE]` after it.

mod answer;
mod detached;
mod embeddings;
pub(super) mod fields;
mod logprobs;
mod messages;
mod models;
mod parts;
mod request;
mod response_format;
mod rules;
mod stream;
mod tools;

use std::time::Duration;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue};
use rbee_core::{
    CorrelationId, JobHandle, JobId, Queen, Result, WorkerId,
    answer::{AnswerFormat, AnswerOptions},
    event::Started,
};

pub(super) use detached::DetachedAsk;
#[cfg(feature = "openapi")]
pub(super) use embeddings::__path_embeddings;
pub(super) use embeddings::embeddings;
#[cfg(feature = "openapi")]
pub(super) use models::{__path_model, __path_models};
pub(super) use models::{model, models};
pub(super) use request::job;

use super::{
    Inner, Shared,
    caller::Caller,
    local_user::Locality,
    middleware::{HandlerResult, IdempotencyKey, RequestId},
};
use crate::wire::{
    JOB_ID, OpenAiErrorBody, QUEUE_MS, WORKER_ID,
    openai::{ChatCompletion, ChatRequest, Completion, CompletionRequest},
    queen::{CHAT, COMPLETIONS},
    sse::ServerSentEvent,
};
use request::{Ask, Kind};

/// Continue a conversation.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = CHAT,
        tag = "openai",
        request_body = ChatRequest,
        responses(
            (status = 200, description = "The answer, or with `stream` server-sent events of chunks, then `[DONE]`.", content((
                ChatCompletion = "application/json"),
                (ServerSentEvent = "text/event-stream"),
            )),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn chat(
    State(shared): State<Shared>,
    RequestId(mark): RequestId,
    key: IdempotencyKey,
    caller: Caller,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    generate(shared, Kind::Chat, mark, key, (caller, locality), request).await
}

/// Continue bare text.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = COMPLETIONS,
        tag = "openai",
        request_body = CompletionRequest,
        responses(
            (status = 200, description = "The answer, or with `stream` server-sent events of chunks, then `[DONE]`.", content((
                Completion = "application/json"),
                (ServerSentEvent = "text/event-stream"),
            )),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn completions(
    State(shared): State<Shared>,
    RequestId(mark): RequestId,
    key: IdempotencyKey,
    caller: Caller,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    generate(shared, Kind::Completion, mark, key, (caller, locality), request).await
}

async fn generate(
    shared: Shared,
    kind: Kind,
    mark: CorrelationId,
    key: IdempotencyKey,
    (caller, locality): (Caller, Locality),
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut ask = Ask::read(kind, body.bytes())?;
    // The requests hold what was read of the body; no other limit counts them before they are jobs.
    let permit = body.into_permit();
    shared.check_model_of(&caller, &locality, &ask.model).await?;
    let requests = std::mem::take(&mut ask.requests);
    let streamed = ask.stream.is_some();
    let requests = shared.marked(requests, &key, &caller, &mark).map(|it| it.streamed(streamed));
    let handles = submit(&shared.queen, requests).await?;
    drop(permit);
    let origin = Origin::new(&ask, &handles, caller, mark);
    Ok(match ask.stream {
        None => answer::whole(handles, &origin).await?.into_response(&origin.caller),
        Some(options) => stream::stream(&shared.queen, handles, &origin, options).await?,
    })
}

impl Inner {
    /// The jobs of one request of this caller, with its key and its correlation id.
    fn marked(
        &self,
        requests: Vec<rbee_core::Request>,
        key: &IdempotencyKey,
        caller: &Caller,
        mark: &CorrelationId,
    ) -> impl ExactSizeIterator<Item = rbee_core::Request> {
        let count = requests.len();
        requests.into_iter().enumerate().map(move |(at, request)| {
            let request = if self.raw_completions { request.raw() } else { request };
            key.mark(caller.mark(request), at, count).correlation_id(mark.clone())
        })
    }
}

/// Submits the jobs of a request, all or none.
async fn submit(
    queen: &Queen,
    mut requests: impl ExactSizeIterator<Item = rbee_core::Request>,
) -> Result<Vec<JobHandle>> {
    if requests.len() == 1
        && let Some(only) = requests.next()
    {
        return Ok(vec![queen.submit(only).await?]);
    }
    queen.submit_all(requests).await
}

/// What all chunks of an answer have in common.
struct Origin {
    kind: Kind,
    job: JobId,
    model: String,
    created: u64,
    /// The number of answers to each prompt.
    per_prompt: usize,
    /// True if log probabilities were requested.
    logprobs: bool,
    /// The tools that the model may call, if it is a chat.
    tools: Option<Vec<String>>,
    /// The caller.
    caller: Caller,
    /// The correlation id of the request.
    mark: CorrelationId,
}

impl Origin {
    fn new(ask: &Ask, handles: &[JobHandle], caller: Caller, mark: CorrelationId) -> Self {
        Self {
            kind: ask.kind,
            // A request without a job is refused when it is read.
            job: handles.first().map_or_else(JobId::random, JobHandle::id),
            model: ask.model.clone(),
            created: super::unix_seconds(),
            per_prompt: ask.per_prompt,
            logprobs: ask.logprobs,
            tools: ask.tools.clone(),
            caller,
            mark,
        }
    }

    fn id(&self) -> String {
        format!("{}-{}", self.kind.prefix(), self.job)
    }

    /// True if this answer is the first one to its prompt.
    fn begins_prompt(&self, index: usize) -> bool {
        index.is_multiple_of(self.per_prompt)
    }
}

/// What to look for in an answer with this format, if the model may call these tools. `None` if its whole text is
/// content.
fn options(tools: Option<&Vec<String>>, format: AnswerFormat) -> Option<AnswerOptions> {
    let options = format.options(tools?.clone());
    (options.format.is_some() || options.reasoning.is_some()).then_some(options)
}

/// Sets headers with the origin of an answer, as far as the caller may know it.
fn tell_origin(response: &mut Response, caller: &Caller, job: JobId, started: Option<Started>) {
    let headers = response.headers_mut();
    put(headers, JOB_ID, &job.to_string());
    let Some(started) = started else { return };
    put(headers, QUEUE_MS, &started.queue_wait.as_millis().to_string());
    if let Some(worker) = caller.worker(started.worker) {
        put(headers, WORKER_ID, &worker.to_string());
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn started(worker: Option<WorkerId>, queue_wait: Duration) -> Started {
    Started { worker, queue_wait, format: AnswerFormat::default() }
}
