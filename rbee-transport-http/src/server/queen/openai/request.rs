//! Reads OpenAI's requests.

use rbee_core::{
    Error, ErrorKind, Request, Result,
    request::{CallableTool, Prompt, Task},
};
use serde_json::value::RawValue;

use super::{
    kind::Kind,
    messages, rules,
    sampling::{Clocks, Terms},
    thinking, tools,
};
use crate::{
    server::queen::{
        field_rules::finish,
        fields::{Fields, missing, not_allowed, parse, whole},
    },
    wire::openai::StreamOptions,
};

/// What the field `model` has.
pub(super) const MODEL: &str = "the name of a model";
/// The most answers of one request.
pub(super) const MOST_CHOICES: u32 = 8;

/// A request for text, parsed and checked.
pub(super) struct Ask {
    pub(super) kind: Kind,
    /// The model, as requested.
    pub(super) model: String,
    /// A request for each answer: prompt by prompt, and the same number for each.
    pub(super) requests: Vec<Request>,
    pub(super) per_prompt: usize,
    /// How to stream, if that was requested.
    pub(super) stream: Option<StreamOptions>,
    /// True if log probabilities were requested.
    pub(super) logprobs: bool,
    /// The tools that the model may call, if it is a chat.
    pub(super) tools: Option<Vec<CallableTool>>,
    /// The priority and the time limits, which the requests have already.
    pub(super) clocks: Clocks,
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model: String = fields.require("model", MODEL)?;
        let stream = stream(&mut fields)?;
        let n = choices(&mut fields)?;
        let prompts = match kind {
            Kind::Chat => vec![chat(&mut fields, &model)?],
            Kind::Completion => completion(&mut fields, &model, n)?,
        };
        let terms = Terms::take(&mut fields, kind)?;
        finish(fields, &kind.rules())?;
        let logprobs = terms.sampling.logprobs.is_some();
        let tools = match prompts.first().map(Request::task) {
            Some(Task::Generate { prompt: Prompt::Chat(chat), .. }) => {
                // The schemas are bounded before they are read.
                if !chat.tools.is_empty() {
                    chat.validate()?;
                }
                Some(chat.callable())
            }
            _ => None,
        };
        let requests = prompts
            .into_iter()
            .flat_map(|prompt| (0..n).map(move |_| prompt.clone()))
            .enumerate()
            .map(|(at, request)| terms.apply(request, at as u64))
            .collect();
        let (per_prompt, clocks) = (n as usize, terms.clocks);
        Ok(Self { kind, model, requests, per_prompt, stream, logprobs, tools, clocks })
    }
}

fn stream(fields: &mut Fields<'_>) -> Result<Option<StreamOptions>> {
    let wanted = fields.take("stream", "true or false")?.unwrap_or(false);
    let Some(options) = fields.take_raw("stream_options") else {
        return Ok(wanted.then(StreamOptions::default));
    };
    let mut read = Fields::of(options, "stream_options")?;
    let include_usage = read.take("include_usage", "true or false")?.unwrap_or(false);
    finish(read, &[rules::STREAM_OPTIONS])?;
    if include_usage && !wanted {
        return Err(not_allowed(options, "stream_options", "none if stream is not true"));
    }
    Ok(wanted.then_some(StreamOptions { include_usage }))
}

fn choices(fields: &mut Fields<'_>) -> Result<u32> {
    let allowed = format!("1 to {MOST_CHOICES}");
    let Some(value) = fields.take_raw("n") else { return Ok(1) };
    match whole(value, "n", &allowed)? {
        n @ 1..=MOST_CHOICES => Ok(n),
        _ => Err(not_allowed(value, "n", &allowed)),
    }
}

fn chat(fields: &mut Fields<'_>, model: &str) -> Result<Request> {
    let turns = fields.take_raw("messages");
    let turns = turns.ok_or_else(|| missing("messages", "a list of messages"))?;
    conversation(fields, model, turns)
}

pub(super) fn conversation(
    fields: &mut Fields<'_>,
    model: &str,
    turns: &RawValue,
) -> Result<Request> {
    let turns = messages::read(turns)?;
    let request = turns.into_iter().fold(Request::chat(model), Request::turn);
    let request = tools::take(fields, request)?;
    Ok(match thinking::take(fields)? {
        Some(thinking) => request.thinking(thinking),
        None => request,
    })
}

/// A request for each prompt.
fn completion(fields: &mut Fields<'_>, model: &str, n: u32) -> Result<Vec<Request>> {
    let prompts = fields.take_raw("prompt");
    let prompts = texts(prompts.ok_or_else(|| missing("prompt", TEXTS))?, "prompt")?;
    let wanted = prompts.len().saturating_mul(n as usize);
    if !(1..=MOST_CHOICES as usize).contains(&wanted) {
        let message = format!(
            "prompt has {} texts and n is {n}, which makes {wanted} answers; allowed are 1 to {MOST_CHOICES}",
            prompts.len()
        );
        return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("prompt"));
    }
    if let Some(value) = fields.take_raw("best_of")
        && whole::<u32>(value, "best_of", "the value of n")? != n
    {
        let allowed = format!("the value of n, {n}: rbee does not choose among answers");
        return Err(not_allowed(value, "best_of", &allowed));
    }
    let suffix = fields.take("suffix", "a text")?.filter(|suffix: &String| !suffix.is_empty());
    let request = |prompt: String| match &suffix {
        Some(suffix) => Request::infill(model, prompt, suffix),
        None => Request::completion(model, prompt),
    };
    Ok(prompts.into_iter().map(request).collect())
}

const TEXTS: &str = "a text or a list of texts; lists of tokens are read for embeddings only";

/// One text or several.
fn texts(value: &RawValue, name: &str) -> Result<Vec<String>> {
    match value.get().as_bytes().first() {
        Some(b'"') => Ok(vec![parse(value, name, TEXTS)?]),
        _ => parse(value, name, TEXTS),
    }
}
