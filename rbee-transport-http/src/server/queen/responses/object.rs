//! The response object.

use rbee_core::{
    Error, ErrorKind, Finish, JobId, Usage,
    request::{Chat, Prompt, Sampling, Task},
};

use super::{
    extras::{Extras, response_id},
    output::Output,
};
use crate::{
    server::queen::unix_seconds,
    wire::responses::{
        IncompleteDetails, ReasoningOptions, Response, ResponseError, ResponseStatus,
    },
};

/// The conversation and the sampling of a job, if it is a chat.
pub(super) fn chat_of(task: &Task) -> Option<(&Chat, &Sampling)> {
    match task {
        Task::Generate { prompt: Prompt::Chat(chat), sampling } => Some((chat, sampling)),
        Task::Generate { .. } | Task::Embed { .. } | Task::Rerank { .. } => None,
    }
}

/// A response that has not begun.
pub(super) fn begun(job: JobId, chat: &Chat, sampling: &Sampling, extras: &Extras) -> Response {
    let instructions = chat.messages.first().filter(|_| extras.has_instructions);
    let status =
        if extras.background { ResponseStatus::Queued } else { ResponseStatus::InProgress };
    Response {
        id: response_id(job),
        object: "response".into(),
        created_at: extras.created_at,
        completed_at: None,
        status,
        background: extras.background,
        error: None,
        incomplete_details: None,
        instructions: instructions.map(|message| message.content.clone()),
        max_output_tokens: sampling.max_tokens,
        max_tool_calls: (),
        metadata: extras.metadata.clone(),
        model: extras.model.clone(),
        output: Vec::new(),
        parallel_tool_calls: chat.parallel_tool_calls,
        previous_response_id: extras.previous.map(response_id),
        reasoning: ReasoningOptions {
            effort: extras.effort.clone(),
            summary: extras.summary.clone(),
        },
        service_tier: "default".into(),
        store: extras.store,
        temperature: sampling.temperature,
        text: extras.describe_text(sampling.grammar.as_ref()),
        tool_choice: extras.describe_choice(chat),
        tools: extras.describe_tools(chat),
        top_logprobs: sampling.logprobs.unwrap_or(0),
        top_p: sampling.top_p,
        truncation: "disabled".into(),
        usage: None,
    }
}

/// A response that has ended now.
pub(super) fn ended(
    mut response: Response,
    output: &Output,
    finish: Finish,
    usage: Usage,
) -> Response {
    response.status = match finish {
        Finish::Stop => ResponseStatus::Completed,
        Finish::Length => ResponseStatus::Incomplete,
    };
    response.incomplete_details = (finish == Finish::Length)
        .then(|| IncompleteDetails { reason: "max_output_tokens".into() });
    response.completed_at = Some(unix_seconds());
    response.output = output.to_wire();
    response.usage = Some(output.usage(usage));
    response
}

/// A response that has failed now, or was cancelled, with the error as its client may know it.
pub(super) fn failed(mut response: Response, output: &Output, error: &Error) -> Response {
    response.completed_at = Some(unix_seconds());
    response.output = output.to_wire();
    if error.kind() == ErrorKind::Cancelled {
        response.status = ResponseStatus::Cancelled;
    } else {
        response.status = ResponseStatus::Failed;
        response.error = Some(ResponseError {
            code: code(error.kind()).into(),
            message: error.message().to_owned(),
        });
    }
    response
}

/// The code of an error: one of the few that this API has.
fn code(kind: ErrorKind) -> &'static str {
    match kind {
        // Clients shorten the conversation if they read this code.
        ErrorKind::ContextExceeded => "context_length_exceeded",
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded => "rate_limit_exceeded",
        kind if (400..500).contains(&kind.http_status()) => "invalid_prompt",
        _ => "server_error",
    }
}
