//! OpenAI's Responses API.
//!
//! A response is a job: its id is the id of the job, and a stored response is the record of the job, with what the API
//! needs besides in the metadata of the job ([`extras`]). A conversation is continued from the record of the job
//! before. Events are made of the events of the job, always in the same way, so that a stream can be resumed.

mod detached;
mod extras;
mod input;
mod items;
mod object;
mod output;
mod request;
mod rules;
mod stored;
mod stream;
mod tools;

use std::time::Duration;

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{
    Error, ErrorKind, Finish, JobHandle, JobId, Result, Usage,
    answer::AnswerFormat,
    event::{EventKind, Logprobs, Started},
    request::{Chat, Sampling},
    settings::KeepRequests,
};

#[cfg(test)]
pub(super) use rules::TABLES;

use super::{
    Inner, Shared,
    answer_stream::{self, Source, Subject, options},
    caller::Caller,
    middleware::{HandlerResult, Name, Params},
    sender::{Sender, put_origin},
};
use crate::{
    server::response,
    wire::{
        OpenAiErrorBody,
        responses::{
            DeletedResponse, ItemList, ItemQuery, RESPONSE, RESPONSE_CANCEL, RESPONSE_INPUT_ITEMS,
            RESPONSES, Response, ResponseRequest, RetrieveQuery,
        },
        sse::ServerSentEvent,
    },
};
pub(super) use detached::{DetachedResponse, PreparedResponse};
use extras::Extras;
use output::Output;
use request::{Ask, Places};
use stored::{Stored, not_found};
use stream::Writer;

/// How long the response to a cancellation waits for the end of the job.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Create a response.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = RESPONSES,
        tag = "openai",
        request_body = ResponseRequest,
        responses(
            (status = 200, description = "The response, or with `stream` its events as server-sent events.", content((
                Response = "application/json"),
                (ServerSentEvent = "text/event-stream"),
            )),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn create(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut ask = Ask::read(body.bytes())?;
    if shared.queen.settings().keep_requests == KeepRequests::Never {
        ask.extras.store = false;
        if ask.extras.background {
            let message = "background is true; this queen keeps no requests, so it has no responses in the background";
            return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                .with_param("background")
                .into());
        }
    }
    let is_streamed = ask.stream;
    let (request, places, draft) = shared.prepare_response(&sender.caller, ask).await?;
    let model = draft.extras.model.clone();
    let named = |error| places.rename(shared.by_requested_name(&model, error));
    let submitted = shared.submit_one(&sender, body.into_permit(), request).await;
    let mut handle = submitted.map_err(named)?;
    let job = handle.id();
    if is_streamed {
        let streamed = draft.stream(&shared, Source::Job(handle), &sender, |writer| writer).await;
        return Ok(streamed.map_err(named)?);
    }
    if draft.extras.background {
        handle.detach();
        return Ok(draft.background(job));
    }
    let whole = draft.whole(handle, &sender.caller).await;
    Ok(whole.map_err(named)?)
}

/// A response whose job is known, or will be soon.
struct Draft {
    chat: Chat,
    sampling: Sampling,
    extras: Extras,
}

impl Draft {
    fn of(request: &rbee_core::Request, extras: Extras) -> Result<Self> {
        let Some((chat, sampling)) = object::chat_of(request.task()) else {
            return Err(Error::new(ErrorKind::Internal, "a response is no conversation"));
        };
        // The response repeats the instructions alone.
        let messages = chat.messages.iter().take(usize::from(extras.has_instructions));
        let messages = messages.cloned().collect();
        let chat = Chat {
            messages,
            tools: chat.tools.clone(),
            tool_choice: chat.tool_choice.clone(),
            parallel_tool_calls: chat.parallel_tool_calls,
            thinking: chat.thinking,
        };
        Ok(Self { chat, sampling: sampling.clone(), extras })
    }

    fn begun(&self, job: JobId) -> Response {
        object::begun(job, &self.chat, &self.sampling, &self.extras)
    }

    async fn stream(
        &self,
        shared: &Inner,
        source: Source,
        sender: &Sender,
        set: impl FnOnce(Writer) -> Writer,
    ) -> Result<axum::response::Response> {
        let job = source.job();
        let output = Output::new(job, &self.chat, &self.extras);
        let writer = set(Writer::new(self.begun(job), output));
        let tools = Some(self.chat.callable());
        let subject = Subject { source, model: &self.extras.model, tools, sender };
        answer_stream::stream(shared, subject, writer, None).await
    }

    fn background(&self, job: JobId) -> axum::response::Response {
        let mut response = response::json(StatusCode::OK, &self.begun(job));
        // Its worker is not known yet.
        put_origin(response.headers_mut(), &Caller::Operator, job, None);
        response
    }

    async fn whole(&self, handle: JobHandle, caller: &Caller) -> Result<axum::response::Response> {
        let job = handle.id();
        let (whole, started) = self.answer(handle).await?;
        let mut response = response::json(StatusCode::OK, &whole);
        put_origin(response.headers_mut(), caller, job, Some(started));
        Ok(response)
    }

    /// Waits for the answer.
    async fn answer(&self, handle: JobHandle) -> Result<(Response, Started)> {
        let output = Output::new(handle.id(), &self.chat, &self.extras);
        let begun = self.begun(handle.id());
        let tools = self.chat.callable();
        if self.sampling.logprobs.is_none() {
            let answer = handle.answer().await?;
            let options = options(Some(&tools), answer.format);
            let output = output.of_tokens([(&*answer.text, None)], options, Some(answer.finish));
            let (worker, queue_wait) = (answer.worker, answer.queue_wait);
            let started = Started { worker, queue_wait, format: answer.format };
            return Ok((object::ended(begun, &output, answer.finish, answer.usage), started));
        }
        let Tokens { started, tokens, finish, usage } = Tokens::read(handle).await?;
        let options = options(Some(&tools), started.format);
        let tokens = tokens.iter().map(|(text, logprobs)| (&**text, logprobs.as_deref()));
        let output = output.of_tokens(tokens, options, Some(finish));
        Ok((object::ended(begun, &output, finish, usage), started))
    }
}

/// The tokens of a whole answer, each with its log probabilities.
struct Tokens {
    started: Started,
    tokens: Vec<(Box<str>, Option<Box<Logprobs>>)>,
    finish: Finish,
    usage: Usage,
}

impl Tokens {
    async fn read(mut handle: JobHandle) -> Result<Self> {
        let (mut started, mut tokens) = (None, Vec::new());
        while let Some(event) = handle.next().await {
            match event.kind {
                EventKind::Started(now) => drop(started.get_or_insert(now)),
                EventKind::Token { text, logprobs, .. } => tokens.push((text, logprobs)),
                EventKind::Vectors(_) | EventKind::Metrics(_) => {}
                EventKind::End { finish, usage, .. } => {
                    let queue_wait = Duration::ZERO;
                    let format = AnswerFormat::default();
                    let unknown = Started { worker: None, queue_wait, format };
                    return Ok(Self { started: started.unwrap_or(unknown), tokens, finish, usage });
                }
                EventKind::Error(error) => return Err(error),
            }
        }
        Err(handle
            .interruption()
            .cloned()
            .unwrap_or_else(|| Error::new(ErrorKind::Internal, "the events of the job broke off")))
    }
}

/// Get a stored response. With `stream`, its events: those so far, and those to come.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = RESPONSE,
        tag = "openai",
        params(("id" = String, Path, description = "The id of the response."), RetrieveQuery),
        responses(
            (status = 200, description = "The response, or its events.", content((
                Response = "application/json"),
                (ServerSentEvent = "text/event-stream"),
            )),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn retrieve(
    State(shared): State<Shared>,
    sender: Sender,
    Name(id): Name,
    Params(query): Params<RetrieveQuery>,
) -> HandlerResult {
    let stored = shared.stored_response(&sender.caller, &id).await?;
    if !query.stream {
        if query.starting_after.is_some() {
            let message = "starting_after is set; allowed is it only if stream is true";
            return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                .with_param("starting_after")
                .into());
        }
        return Ok(response::json(StatusCode::OK, &stored.response(&sender.caller)?));
    }
    let job = stored.record.id;
    let place = shared.bounds.follow(&sender.caller, job)?;
    let events = shared.queen.attach(job, None).await?;
    let (chat, sampling) = stored.chat().ok_or_else(|| not_found(&id))?;
    let draft =
        Draft { chat: chat.clone(), sampling: sampling.clone(), extras: stored.extras.clone() };
    let source = Source::Events(job, events);
    let after = query.starting_after;
    Ok(draft.stream(&shared, source, &sender, |writer| writer.replay(after, place)).await?)
}

/// Delete a stored response: its request and its answer. One that runs is cancelled first.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = RESPONSE,
        tag = "openai",
        params(("id" = String, Path, description = "The id of the response.")),
        responses(
            (status = 200, description = "It is deleted.", body = DeletedResponse),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn delete(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let stored = shared.stored_response(&caller, &id).await?;
    shared.end_response(&stored).await?;
    shared.queen.erase(stored.record.id).await?;
    let deleted = DeletedResponse { id: stored.id(), object: "response".into(), deleted: true };
    Ok(response::json(StatusCode::OK, &deleted))
}

/// Cancel a response that runs in the background. One that has ended stays unchanged.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = RESPONSE_CANCEL,
        tag = "openai",
        params(("id" = String, Path, description = "The id of the response.")),
        responses(
            (status = 200, description = "The response, which has ended.", body = Response),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn cancel(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let stored = shared.stored_response(&caller, &id).await?;
    if !stored.extras.background {
        let message = "Cannot cancel a synchronous response: close its connection instead.";
        return Err(Error::for_client(ErrorKind::InvalidRequest, message).into());
    }
    shared.end_response(&stored).await?;
    let stored = shared.stored_response(&caller, &id).await?;
    Ok(response::json(StatusCode::OK, &stored.response(&caller)?))
}

/// List the items that the model read for a stored response, with those of the responses that it continues, and
/// without the instructions.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = RESPONSE_INPUT_ITEMS,
        tag = "openai",
        params(("id" = String, Path, description = "The id of the response."), ItemQuery),
        responses(
            (status = 200, description = "A page of items.", body = ItemList),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn input_items(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
    Params(query): Params<ItemQuery>,
) -> HandlerResult {
    let stored = shared.stored_response(&caller, &id).await?;
    let (chat, _) = stored.chat().ok_or_else(|| not_found(&id))?;
    let all = items::items(stored.record.id, chat, &stored.extras);
    Ok(response::json(StatusCode::OK, &items::page(all, &query)?))
}

impl Inner {
    /// The request for the job of a response, and what is known of the response before it has an answer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place.
    async fn prepare_response(
        &self,
        caller: &Caller,
        mut ask: Ask,
    ) -> Result<(rbee_core::Request, Places, Draft)> {
        let before = self.conversation_before(caller, ask.previous.as_ref()).await?;
        ask.items = self.resolve(caller, std::mem::take(&mut ask.items)).await?;
        let (request, places, extras) = ask.into_request(before)?;
        let draft = Draft::of(&request, extras)?;
        Ok((request, places, draft))
    }

    /// Cancels a response that has not ended, and waits for its end.
    async fn end_response(&self, stored: &Stored) -> Result<()> {
        if !stored.is_live() {
            return Ok(());
        }
        let job = stored.record.id;
        // A reader that has seen everything only gets the end.
        let mut reader = self.queen.attach(job, Some(u64::MAX)).await?;
        self.queen.cancel(job);
        let ended = async { while reader.next().await.is_some() {} };
        if tokio::time::timeout(CANCEL_TIMEOUT, ended).await.is_err() {
            tracing::warn!(%job, "the job has not ended within {CANCEL_TIMEOUT:?} of its cancellation");
        }
        Ok(())
    }
}
