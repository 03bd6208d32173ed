//! Answers that are not streamed.

use axum::response::Response;
use http::StatusCode;
use rbee_core::{
    Finish, JobAnswer, JobHandle, JobId, Result, answer::ParsedAnswer, event::Started,
    request::ToolCall,
};
use serde::Serialize;

use super::{Origin, kind::Kind, logprobs, parts::finish_reason, started};
use crate::{
    server::{
        queen::{answer_stream::options, caller::Caller, sender::put_origin},
        response,
    },
    wire::openai::{
        CalledFunction, ChatChoice, ChatCompletion, ChatMessage, ChatToolCall, Completion,
        CompletionChoice, EmbeddingList, Usage,
    },
};

/// The body of a response that is not streamed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum AnswerBody {
    Chat(ChatCompletion),
    Completion(Completion),
    Vectors(EmbeddingList),
}

/// An answer that is not streamed.
#[derive(Debug)]
pub(super) struct WholeAnswer {
    pub(super) body: AnswerBody,
    /// Its (first) job.
    pub(super) job: JobId,
    /// The start of that job.
    pub(super) started: Option<Started>,
}

impl WholeAnswer {
    /// The response, with the headers that this caller may read.
    pub(super) fn into_response(self, caller: &Caller) -> Response {
        let mut response = response::json(StatusCode::OK, &self.body);
        put_origin(response.headers_mut(), caller, self.job, self.started);
        response
    }
}

/// Waits for all answers. If one fails, the others are cancelled and its error is returned.
pub(super) async fn whole(mut handles: Vec<JobHandle>, origin: &Origin) -> Result<WholeAnswer> {
    let jobs: Vec<JobId> = handles.iter().map(JobHandle::id).collect();
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
    let body = match origin.kind {
        Kind::Chat => {
            AnswerBody::Chat(chat(jobs.into_iter().zip(answers).collect(), usage, origin))
        }
        Kind::Completion => AnswerBody::Completion(completion(answers, usage, origin)),
    };
    Ok(WholeAnswer { body, job: origin.job, started: first })
}

fn chat(answers: Vec<(JobId, JobAnswer)>, usage: Usage, origin: &Origin) -> ChatCompletion {
    let choice = |((job, answer), index): ((JobId, JobAnswer), u32)| {
        let (message, has_calls) = message(job, &answer, origin);
        ChatChoice {
            index,
            message,
            logprobs: origin.logprobs.then(|| logprobs::of_chat(&answer.logprobs)),
            finish_reason: finish_reason(answer.finish, has_calls).into(),
        }
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

/// The message of an answer, and whether all of its calls are complete, if it has any.
fn message(job: JobId, answer: &JobAnswer, origin: &Origin) -> (ChatMessage, bool) {
    let parsed = match options(origin.tools.as_ref(), answer.format) {
        Some(options) => {
            let is_cut_off = answer.finish == Finish::Length;
            ParsedAnswer::of(&answer.text, options, job, is_cut_off)
        }
        None => ParsedAnswer { content: answer.text.clone(), ..ParsedAnswer::default() },
    };
    let has_calls = !parsed.tool_calls.is_empty();
    let call = |call: ToolCall| ChatToolCall {
        id: call.id,
        kind: "function".into(),
        function: CalledFunction { name: call.name, arguments: call.arguments },
    };
    let message = ChatMessage {
        role: "assistant".into(),
        content: (!parsed.content.is_empty() || !has_calls).then_some(parsed.content),
        reasoning_content: (!parsed.reasoning.is_empty()).then_some(parsed.reasoning),
        tool_calls: parsed.tool_calls.into_iter().map(call).collect(),
        refusal: (),
    };
    (message, has_calls && parsed.is_complete)
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
