//! A whole answer in its parts: [`ParsedAnswer`].

use super::{AnswerOptions, AnswerParser, Delta};
use crate::{chat::ToolCall, id::JobId};

/// A whole answer in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedAnswer {
    /// The text for the user.
    pub content: String,
    /// The reasoning; empty if there is none.
    pub reasoning: String,
    /// The calls, in their order. One that was cut off has only the beginning of its arguments.
    pub tool_calls: Vec<ToolCall>,
    /// False if the last call was cut off or is malformed.
    pub is_complete: bool,
}

impl ParsedAnswer {
    /// The parts of the text of this job's answer. `is_cut_off`: it has ended with
    /// [`Finish::Length`](crate::Finish::Length).
    pub fn of(text: &str, options: AnswerOptions, job: JobId, is_cut_off: bool) -> Self {
        let mut parser = AnswerParser::new(options);
        let mut deltas = Vec::new();
        parser.push(text, &mut deltas);
        match is_cut_off {
            true => parser.cut_off(&mut deltas),
            false => parser.finish(&mut deltas),
        }
        let mut parsed = Self { is_complete: true, ..Self::default() };
        deltas.into_iter().for_each(|delta| parsed.add(delta, job));
        parsed
    }

    fn add(&mut self, delta: Delta, job: JobId) {
        match delta {
            Delta::Content(text) => self.content.push_str(&text),
            Delta::Reasoning(text) => self.reasoning.push_str(&text),
            Delta::CallBegin { index, name } => {
                self.is_complete = false;
                let id = call_id(job, index);
                self.tool_calls.push(ToolCall { id, name, arguments: String::new() });
            }
            Delta::CallArguments { json, .. } => {
                if let Some(call) = self.tool_calls.last_mut() {
                    call.arguments.push_str(&json);
                }
            }
            Delta::CallEnd { .. } => self.is_complete = true,
        }
    }
}

/// The id of a call of a job's answer. It is the same whenever the answer is read.
pub fn call_id(job: JobId, index: u32) -> String {
    format!("call_{}_{index}", job.to_string().replace('-', ""))
}
