//! Answers that are not streamed.

use axum::response::Response;
use http::StatusCode;
use rbee_core::{JobAnswer, JobHandle, Result};

use super::{Origin, logprobs, request::Kind, started, tell_origin};
use crate::{
    server::response,
    wire::openai::{ChatChoice, ChatCompletion, ChatMessage, Completion, CompletionChoice, Usage},
};

/// Waits for all answers. If one fails, the others are cancelled and its error is returned.
pub(super) async fn whole(mut handles: Vec<JobHandle>, origin: &Origin) -> Result<Response> {
    let answers = match (handles.pop(), handles.is_empty()) {
        (Some(only), true) => vec![only.answer().await?],
        (last, _) => {
            let all = handles.into_iter().chain(last).map(JobHandle::answer);
            futures_util::future::try_join_all(all).await?
        }
    };
    let first = answers.first().map(|answer| started(answer.worker, answer.queue_wait));
    let mut usage = Usage::default();
    for (index, answer) in answers.iter().enumerate() {
        usage.add(answer.usage, origin.begins_prompt(index));
    }
    let mut response = match origin.kind {
        Kind::Chat => response::json(StatusCode::OK, &chat(answers, usage, origin)),
        Kind::Completion => response::json(StatusCode::OK, &completion(answers, usage, origin)),
    };
    tell_origin(&mut response, &origin.caller, origin.job, first);
    Ok(response)
}

fn chat(answers: Vec<JobAnswer>, usage: Usage, origin: &Origin) -> ChatCompletion {
    let choice = |(answer, index): (JobAnswer, u32)| ChatChoice {
        index,
        message: ChatMessage { role: "assistant".into(), content: answer.text, refusal: () },
        logprobs: origin.logprobs.then(|| logprobs::of_chat(&answer.logprobs)),
        finish_reason: answer.finish.as_str().into(),
    };
    ChatCompletion {
        id: origin.id(),
        object: "chat.completion".into(),
        created: origin.created,
        model: origin.model.clone(),
        choices: answers.into_iter().zip(0..).map(choice).collect(),
        usage,
    }
}

fn completion(answers: Vec<JobAnswer>, usage: Usage, origin: &Origin) -> Completion {
    let choice = |(answer, index): (JobAnswer, u32)| CompletionChoice {
        index,
        text: answer.text,
        logprobs: origin.logprobs.then(|| logprobs::of_completion(&answer.logprobs, &mut 0)),
        finish_reason: Some(answer.finish.as_str().into()),
    };
    Completion {
        id: origin.id(),
        object: "text_completion".into(),
        created: origin.created,
        model: origin.model.clone(),
        choices: answers.into_iter().zip(0..).map(choice).collect(),
        usage: Some(usage),
    }
}
