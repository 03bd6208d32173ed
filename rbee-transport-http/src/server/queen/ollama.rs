//! Ollama's API, for its official clients and the many applications that speak it.
//!
//! Every field of a request is honored or refused by its place; none that would change the answer is ignored ([`rules`]
//! has the table). What rbee does in another way than Ollama is in `docs/http-api.md`.
//!
//! A stream has one JSON object in each line. The last one has `done`, or `error` if the request failed after the first
//! line. While there is nothing to send, the stream gets a space every few seconds: it stands before the next object,
//! where it is no more than white space of JSON.

mod answer;
mod embed;
mod keep_alive;
mod line;
mod load;
mod messages;
mod models;
mod options;
mod parts;
mod pull;
mod refused;
mod request;
mod rules;
mod stream;

use axum::extract::{Request, State};

#[cfg(feature = "openapi")]
pub(super) use embed::{__path_embed, __path_embeddings};
pub(super) use embed::{embed, embeddings};
#[cfg(feature = "openapi")]
pub(super) use models::{__path_ps, __path_show, __path_tags, __path_version};
pub(super) use models::{ps, show, tags, version};
#[cfg(feature = "openapi")]
pub(super) use pull::{__path_delete, __path_pull};
pub(super) use pull::{delete, pull};
#[cfg(feature = "openapi")]
pub(super) use refused::{__path_blob, __path_copy, __path_create, __path_push};
pub(super) use refused::{blob, copy, create, push};
#[cfg(test)]
pub(super) use rules::TABLES;

use super::{
    Shared,
    answer_stream::{self, Source, Subject},
    middleware::HandlerResult,
    sender::Sender,
};
use crate::wire::{
    OllamaErrorBody,
    ollama::{
        CHAT, ChatRequest, ChatResponse, GENERATE, GenerateRequest, GenerateResponse, NDJSON,
    },
};
use line::Clock;
use request::{Ask, Kind};

/// Continue a conversation.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = CHAT,
        tag = "ollama",
        operation_id = "ollama_chat",
        request_body = ChatRequest,
        responses(
            (status = 200, description = "The answer: one object in each line, or one in all without `stream`.", content((
                ChatResponse = "application/json"),
                (ChatResponse = "application/x-ndjson"),
            )),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(super) async fn chat(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    respond(shared, Kind::Chat, sender, request).await
}

/// Answer one prompt.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = GENERATE,
        tag = "ollama",
        request_body = GenerateRequest,
        responses(
            (status = 200, description = "The answer: one object in each line, or one in all without `stream`.", content((
                GenerateResponse = "application/json"),
                (GenerateResponse = "application/x-ndjson"),
            )),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(super) async fn generate(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    respond(shared, Kind::Generate, sender, request).await
}

async fn respond(shared: Shared, kind: Kind, sender: Sender, request: Request) -> HandlerResult {
    let clock = Clock::begin();
    let body = shared.read_body(request).await?;
    let mut ask = Ask::read(kind, body.bytes())?;
    let Some(request) = ask.request.take() else {
        // A model may take long to load.
        drop(body);
        let who = (&sender.caller, &sender.locality);
        let reason = load::run(&shared, who, &ask.model, ask.keep_alive).await?;
        return Ok(answer::empty(&ask, reason));
    };
    let name = ask.model.clone();
    let named = |error| shared.by_requested_name(&name, error);
    let submitted = shared.submit_one(&sender, body.into_permit(), request).await;
    let handle = submitted.map_err(named)?;
    if !ask.is_streamed {
        return Ok(answer::whole(handle, &ask, &sender, clock).await.map_err(named)?);
    }
    let writer = stream::Lines::new(&ask, handle.id(), clock);
    let (source, model, tools) = (Source::Job(handle), &*ask.model, ask.tools);
    let subject = Subject { source, model, tools, sender: &sender };
    let begun = answer_stream::stream(&shared, subject, writer, Some(NDJSON)).await;
    Ok(begun.map_err(named)?)
}
