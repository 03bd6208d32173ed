//! Anthropic's Messages API, for its official clients and agents.
//!
//! Every field of a request is honored or refused by name; none is silently ignored ([`rules`] has the tables).

mod answer;
mod blocks;
mod options;
mod places;
mod request;
mod rules;
mod stream;
mod tools;
mod turns;

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{JobId, request::CallableTool};

#[cfg(test)]
pub(super) use rules::TABLES;

use super::{
    Shared,
    answer_stream::{self, Source, Subject},
    middleware::HandlerResult,
    sender::Sender,
};
use crate::{
    server::response,
    wire::{
        AnthropicErrorBody,
        messages::{
            COUNT_TOKENS, CountTokensRequest, MESSAGES, MessageAnswer, MessagesRequest, TokensCount,
        },
        sse::ServerSentEvent,
    },
};
use request::{Ask, Purpose};
use stream::EventWriter;

/// Continue a conversation, in the shape of Anthropic's API.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = MESSAGES,
        tag = "anthropic",
        operation_id = "create_message",
        request_body = MessagesRequest,
        responses(
            (status = 200, description = "The answer, or with `stream` server-sent events.", content((
                MessageAnswer = "application/json"),
                (ServerSentEvent = "text/event-stream"),
            )),
            (status = "default", description = "The error.", body = AnthropicErrorBody),
        ),
    )
)]
pub(super) async fn create(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let ask = Ask::read(body.bytes(), Purpose::Answer)?;
    let request = ask.request.streamed(ask.is_streamed);
    let model = ask.model.clone();
    let named = |error| places::renamed(shared.by_requested_name(&model, error));
    let submitted = shared.submit_one(&sender, body.into_permit(), request).await;
    let handle = submitted.map_err(named)?;
    let about = About {
        job: handle.id(),
        model: ask.model,
        tools: ask.tools,
        shows_thinking: ask.shows_thinking,
    };
    let response = if ask.is_streamed {
        let subject = Subject {
            source: Source::Job(handle),
            model: &about.model,
            tools: Some(about.tools.clone()),
            sender: &sender,
        };
        let writer = EventWriter::new(&about, sender.mark.clone());
        answer_stream::stream(&shared, subject, writer, None).await
    } else {
        answer::whole(handle, &about, &sender).await
    };
    Ok(response.map_err(named)?)
}

/// Count the tokens of a conversation, in the shape of Anthropic's API.
///
/// A ready worker of the model counts them. If there is none, the number is an estimate: one token for every four bytes
/// of text.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = COUNT_TOKENS,
        tag = "anthropic",
        operation_id = "count_message_tokens",
        request_body = CountTokensRequest,
        responses(
            (status = 200, description = "The number of tokens.", body = TokensCount),
            (status = "default", description = "The error.", body = AnthropicErrorBody),
        ),
    )
)]
pub(super) async fn count_tokens(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let ask = Ask::read(body.bytes(), Purpose::Count)?;
    // No other limit counts what it holds.
    let _permit = body.into_permit();
    shared.check_model_of(&sender.caller, &sender.locality, &ask.model).await?;
    let request = sender.caller.mark(ask.request);
    let counted = shared.queen.models().count_tokens(request).await.map_err(places::renamed)?;
    Ok(response::json(StatusCode::OK, &TokensCount { input_tokens: counted.tokens }))
}

/// What an answer is about.
struct About {
    job: JobId,
    /// The model, as requested.
    model: String,
    /// The tools that the model may call.
    tools: Vec<CallableTool>,
    /// False if blocks of thinking have no text.
    shows_thinking: bool,
}

impl About {
    fn id(&self) -> String {
        format!("msg_{}", self.job.to_string().replace('-', ""))
    }
}

/// The id of a call in Anthropic's API.
fn tool_use_id(call_id: &str) -> String {
    format!("toolu_{}", call_id.trim_start_matches("call_"))
}
