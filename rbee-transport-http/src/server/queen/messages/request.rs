//! Reads Anthropic's requests.

use rbee_core::{
    Request, Result,
    request::{CallableTool, Prompt, Task},
};

use super::{options, places::placed, rules, tools, turns::Turns};
use crate::server::queen::{field_rules::finish, fields::Fields};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An answer.
    Answer,
    /// The number of its tokens.
    Count,
}

/// A request, parsed and checked.
pub(super) struct Ask {
    /// The model, as requested.
    pub(super) model: String,
    pub(super) request: Request,
    /// The tools that the model may call.
    pub(super) tools: Vec<CallableTool>,
    pub(super) is_streamed: bool,
    /// False if blocks of thinking have no text.
    pub(super) shows_thinking: bool,
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`InvalidRequest`](rbee_core::ErrorKind::InvalidRequest) with the field.
    pub(super) fn read(body: &[u8], purpose: Purpose) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model: String = fields.require("model", "the name of a model")?;
        let is_streamed = fields.take("stream", "true or false")?.unwrap_or(false);
        let Turns { messages, places } = {
            let turns = Turns::take(&mut fields)?;
            if purpose == Purpose::Answer {
                turns.check_end()?;
            }
            turns
        };
        let mut request = messages.into_iter().fold(Request::chat(&model), Request::turn);
        request = tools::take(&mut fields, request)?;
        let thinking = options::thinking(&mut fields)?;
        if let Some(is_on) = thinking.is_on {
            request = request.thinking(is_on);
        }
        let mut sampling = options::sampling(&mut fields)?;
        sampling.grammar = options::grammar(&mut fields)?;
        options::check_context_management(&mut fields)?;
        finish(fields, &[rules::REQUEST])?;
        if purpose == Purpose::Answer && sampling.max_tokens.is_none() {
            return Err(options::no_length());
        }
        let request = request.sampling(|place| *place = sampling);
        let mut tools = Vec::new();
        if let Task::Generate { prompt: Prompt::Chat(chat), sampling } = request.task() {
            // The queen checks the same, but does not know the places in this request.
            chat.validate().map_err(|error| placed(error, &places))?;
            sampling.validate().map_err(|error| placed(error, &places))?;
            tools = chat.callable();
        }
        Ok(Self { model, request, tools, is_streamed, shows_thinking: thinking.is_shown })
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
