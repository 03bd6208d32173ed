//! Answers that are not streamed.

use axum::response::Response;
use http::StatusCode;
use rbee_core::{
    Finish, JobAnswer, JobHandle, Result,
    answer::{AnswerFormat, ParsedAnswer},
    event::Started,
};

use super::{About, tool_use_id};
use crate::{
    server::{
        queen::{
            answer_stream::options,
            sender::{Sender, put_origin},
        },
        response,
    },
    wire::messages::{AnswerBlock, MessageAnswer, SIGNATURE, StopReason},
};

/// Waits for the answer.
pub(super) async fn whole(handle: JobHandle, about: &About, sender: &Sender) -> Result<Response> {
    let answer = handle.answer().await?;
    let mut response = response::json(StatusCode::OK, &message(&answer, about));
    let (worker, queue_wait) = (answer.worker, answer.queue_wait);
    let started = Started { worker, queue_wait, format: AnswerFormat::default() };
    put_origin(response.headers_mut(), &sender.caller, about.job, Some(started));
    Ok(response)
}

fn message(answer: &JobAnswer, about: &About) -> MessageAnswer {
    let parsed = match options(Some(&about.tools), answer.format) {
        Some(options) => {
            let is_cut_off = answer.finish == Finish::Length;
            ParsedAnswer::of(&answer.text, options, about.job, is_cut_off)
        }
        None => ParsedAnswer {
            content: answer.text.clone(),
            is_complete: true,
            ..ParsedAnswer::default()
        },
    };
    let mut content = Vec::new();
    if !parsed.reasoning.is_empty() {
        let thinking = if about.shows_thinking { parsed.reasoning } else { String::new() };
        content.push(AnswerBlock::Thinking { thinking, signature: SIGNATURE.into() });
    }
    if !parsed.content.is_empty() {
        content.push(AnswerBlock::Text { text: parsed.content });
    }
    let (calls, mut are_complete) =
        (parsed.tool_calls.len(), parsed.is_complete && !parsed.tool_calls.is_empty());
    for (at, call) in parsed.tool_calls.into_iter().enumerate() {
        // The arguments of a call that was cut off are no object, and a client must not execute it with others.
        let is_whole = parsed.is_complete || at + 1 < calls;
        match serde_json::from_str(&call.arguments) {
            Ok(input) if is_whole => {
                let id = tool_use_id(&call.id);
                content.push(AnswerBlock::ToolUse { id, name: call.name, input });
            }
            _ => are_complete = false,
        }
    }
    let stop_text = answer.stop_text.as_deref();
    let (stop_reason, stop_sequence) = why_ended(answer.finish, are_complete, stop_text);
    MessageAnswer {
        content,
        stop_reason: Some(stop_reason),
        stop_sequence,
        usage: answer.usage.into(),
        ..about.empty_message()
    }
}

impl About {
    /// The answer before its first part.
    pub(super) fn empty_message(&self) -> MessageAnswer {
        MessageAnswer {
            id: self.id(),
            kind: "message".into(),
            role: "assistant".into(),
            model: self.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: rbee_core::Usage::default().into(),
        }
    }
}

/// Why an answer ended, and the stop text if that is the reason. `has_calls`: it has calls, and all of them are
/// complete; a client has to execute them, whatever was written after them.
pub(super) fn why_ended(
    finish: Finish,
    has_calls: bool,
    stop_text: Option<&str>,
) -> (StopReason, Option<String>) {
    match (finish, stop_text) {
        (Finish::Length, _) => (StopReason::MaxTokens, None),
        (Finish::Stop, _) if has_calls => (StopReason::ToolUse, None),
        (Finish::Stop, Some(text)) => (StopReason::StopSequence, Some(text.to_owned())),
        (Finish::Stop, None) => (StopReason::EndTurn, None),
    }
}
