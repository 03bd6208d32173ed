//! Reads requests for text.

use rbee_core::{
    Error, ErrorKind, Request, Result,
    request::{CallableTool, Prompt as CorePrompt, Task},
};
use serde_json::value::RawValue;

use super::{
    keep_alive::{self, KeepAlive},
    messages, options, rules,
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, not_allowed, parse},
};

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Generate,
}

/// A request for text, parsed and checked.
pub(super) struct Ask {
    pub(super) kind: Kind,
    /// The model, as requested.
    pub(super) model: String,
    /// The job. `None` if there is no prompt: the model is to be loaded or unloaded.
    pub(super) request: Option<Request>,
    pub(super) keep_alive: Option<KeepAlive>,
    /// True if the answer is to be streamed.
    pub(super) is_streamed: bool,
    /// The tools that the model may call; `None` if the prompt is no conversation.
    pub(super) tools: Option<Vec<CallableTool>>,
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place.
    pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model = model(&mut fields)?;
        let is_streamed = fields.take("stream", "true or false")?.unwrap_or(true);
        let keep_alive = keep_alive::take(&mut fields)?;
        let (sampling, seed) = options::take(&mut fields)?;
        let thinking = thinking(&mut fields)?;
        let (request, tools) = match kind {
            Kind::Chat => chat(&mut fields, &model)?,
            Kind::Generate => prompt(&mut fields, &model, thinking)?,
        };
        let own = match kind {
            Kind::Chat => rules::CHAT,
            Kind::Generate => rules::GENERATE,
        };
        finish(fields, &[own, rules::COMMON])?;
        let request = request.map(|request| {
            let request = thinking.into_iter().fold(request, Request::thinking);
            let request = seed.into_iter().fold(request, Request::seed);
            request.sampling(|place| *place = sampling).streamed(is_streamed)
        });
        Ok(Self { kind, model, request, keep_alive, is_streamed, tools })
    }
}

/// Reads the name of the model.
pub(super) fn model(fields: &mut Fields<'_>) -> Result<String> {
    fields.require("model", "the name of a model")
}

/// A request, and the tools that the model may call in it.
type Prompt = (Option<Request>, Option<Vec<CallableTool>>);

fn chat(fields: &mut Fields<'_>, model: &str) -> Result<Prompt> {
    let turns = fields.take_raw("messages").map_or_else(|| Ok(Vec::new()), messages::read)?;
    let tools = messages::tools(fields)?;
    if turns.is_empty() {
        return Ok((None, None));
    }
    let request = turns.into_iter().fold(Request::chat(model), Request::turn);
    let request = tools.into_iter().fold(request, Request::tool);
    let callable = match request.task() {
        Task::Generate { prompt: CorePrompt::Chat(chat), .. } => {
            // The schemas are bounded before they are read.
            if !chat.tools.is_empty() {
                chat.validate()?;
            }
            chat.callable()
        }
        _ => Vec::new(),
    };
    Ok((Some(request), Some(callable)))
}

fn prompt(fields: &mut Fields<'_>, model: &str, thinking: Option<bool>) -> Result<Prompt> {
    const TEXT: &str = "a text";
    let prompt: String = fields.take("prompt", TEXT)?.unwrap_or_default();
    let system: Option<String> = fields.take("system", TEXT)?;
    let system = system.filter(|system| !system.is_empty());
    let is_raw = fields.take("raw", "true or false")?.unwrap_or(false);
    let suffix: Option<String> = fields.take("suffix", TEXT)?;
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    let beside = |field: &str, other: &str, why: &str| {
        let message = format!("{field} cannot be used together with {other}: {why}");
        Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(field.to_owned()))
    };
    for (field, is_there) in [("system", system.is_some()), ("think", thinking == Some(true))] {
        if is_raw && is_there {
            return beside(field, "raw", "a raw prompt goes to the model as it is");
        }
        if suffix.is_some() && is_there {
            return beside(
                field,
                "suffix",
                "the model gets only the text before and after the gap",
            );
        }
    }
    if let Some(suffix) = suffix {
        if is_raw {
            return beside("suffix", "raw", "a raw prompt goes to the model as it is");
        }
        // A gap at the beginning of a file has an empty prompt.
        return Ok((Some(Request::infill(model, prompt, suffix)), None));
    }
    if prompt.is_empty() {
        return Ok((None, None));
    }
    if is_raw {
        return Ok((Some(Request::completion(model, prompt)), None));
    }
    let request = system.into_iter().fold(Request::chat(model), Request::system);
    Ok((Some(request.user(prompt)), Some(Vec::new())))
}

/// Reads whether the model thinks. How much it thinks is up to the model.
fn thinking(fields: &mut Fields<'_>) -> Result<Option<bool>> {
    const EFFORTS: [&str; 4] = ["low", "medium", "high", "max"];
    const ALLOWED: &str = "true, false, \"low\", \"medium\", \"high\" or \"max\"";
    let Some(value) = fields.take_raw("think") else { return Ok(None) };
    read_thinking(value, &EFFORTS).ok_or_else(|| not_allowed(value, "think", ALLOWED)).map(Some)
}

fn read_thinking(value: &RawValue, efforts: &[&str]) -> Option<bool> {
    if let Ok(thinks) = parse(value, "think", "") {
        return Some(thinks);
    }
    let effort: String = parse(value, "think", "").ok()?;
    efforts.contains(&effort.as_str()).then_some(true)
}
