//! OpenAI's API, for its official clients.
//!
//! Every field of a request is honored or refused by name; none is silently ignored ([`rules`] has the table).
//!
//! The head of a stream is held back until there is something to send, or for [`HEAD_TIMEOUT`](stream::HEAD_TIMEOUT):
//! an error before that has its proper status. From then on the stream sends a comment every few seconds that says
//! what the job waits for, and an error is an event without `[DONE]` after it.

mod answer;
mod detached;
mod embed_request;
mod embeddings;
mod job_request;
mod kind;
mod logprobs;
mod messages;
mod models;
mod parts;
mod request;
mod response_format;
mod rules;
mod sampling;
mod stream;
pub(super) mod thinking;
mod tools;

use std::time::Duration;

use axum::extract::{Request, State};
use rbee_core::{
    CorrelationId, JobHandle, JobId, WorkerId, answer::AnswerFormat, event::Started,
    request::CallableTool,
};

pub(super) use detached::DetachedAsk;
#[cfg(feature = "openapi")]
pub(super) use embeddings::__path_embeddings;
pub(super) use embeddings::embeddings;
pub(super) use job_request::job;
pub(super) use logprobs::of_token;
#[cfg(feature = "openapi")]
pub(super) use models::{__path_model, __path_models};
pub(super) use models::{known, model, models, visible};
#[cfg(test)]
pub(super) use rules::TABLES;
pub(super) use sampling::{Clocks, top_logprobs};

use super::{Shared, caller::Caller, middleware::HandlerResult, sender::Sender};
use crate::wire::{
    OpenAiErrorBody,
    openai::{ChatCompletion, ChatRequest, Completion, CompletionRequest},
    queen::{CHAT, COMPLETIONS},
    sse::ServerSentEvent,
};
use kind::Kind;
use request::Ask;

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
    sender: Sender,
    request: Request,
) -> HandlerResult {
    generate(shared, Kind::Chat, sender, request).await
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
    sender: Sender,
    request: Request,
) -> HandlerResult {
    generate(shared, Kind::Completion, sender, request).await
}

async fn generate(shared: Shared, kind: Kind, sender: Sender, request: Request) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut ask = Ask::read(kind, body.bytes())?;
    let streamed = ask.stream.is_some();
    let requests = std::mem::take(&mut ask.requests);
    let requests = requests.into_iter().map(|request| request.streamed(streamed)).collect();
    let named = |error| shared.by_requested_name(&ask.model, error);
    let submitted = shared.submit(&sender, body.into_permit(), requests).await;
    let handles = submitted.map_err(named)?;
    let origin = Origin::new(&ask, &handles, sender.caller, sender.mark);
    Ok(match ask.stream {
        None => {
            let whole = answer::whole(handles, &origin).await;
            whole.map_err(named)?.into_response(&origin.caller)
        }
        Some(options) => {
            let begun = stream::stream(&shared.queen, handles, &origin, options).await;
            begun.map_err(named)?
        }
    })
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
    tools: Option<Vec<CallableTool>>,
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

fn started(worker: Option<WorkerId>, queue_wait: Duration) -> Started {
    Started { worker, queue_wait, format: AnswerFormat::default() }
}
