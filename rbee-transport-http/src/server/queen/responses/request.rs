//! Reads a request to create a response.

use std::collections::BTreeMap;

use rbee_core::{
    Error, ErrorKind, JobId, Request, Result,
    request::{Grammar, Sampling},
};
use serde_json::value::RawValue;

use super::{
    extras::{Extras, SchemaInfo, job_of},
    input::{self, Conversation, Items},
    rules,
    tools::Tools,
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, not_allowed, parse},
    openai::{Clocks, thinking, top_logprobs},
    unix_seconds,
};

const BOOL: &str = "true or false";
const TOKENS: &str = "a whole number, 1 or more";
/// The most texts of the client, and the longest keys and values, in characters: as in OpenAI's API.
const MOST_METADATA: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 512;

/// What a client includes to get log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";
/// What a client can ask to include. rbee has nothing of it but log probabilities.
const INCLUDABLE: [&str; 8] = [
    LOGPROBS,
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
];

/// A request to create a response, parsed and checked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) items: Items,
    /// The response whose conversation goes on: its id as it was sent, and its job.
    pub(super) previous: Option<(String, JobId)>,
    pub(super) stream: bool,
    pub(super) extras: Extras,
    instructions: Option<String>,
    tools: Tools,
    sampling: Sampling,
    thinking: Option<bool>,
    pub(super) clocks: Clocks,
}

/// Where the parts of a job come from, to name their places in errors.
#[derive(Debug, Default)]
pub(super) struct Places {
    messages: Vec<String>,
    tools: Vec<String>,
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model = fields.require("model", "the name of a model")?;
        let previous = previous(&mut fields)?;
        let items = match fields.take_raw("input") {
            Some(value) => input::read(value)?,
            None if previous.is_some() => Vec::new(),
            None => return Err(missing("input", "a text, or a list of items")),
        };
        let instructions = instructions(&mut fields)?;
        let mut extras = Extras {
            model,
            created_at: unix_seconds(),
            has_instructions: instructions.is_some(),
            previous: previous.as_ref().map(|(_, job)| *job),
            store: fields.take("store", BOOL)?.unwrap_or(true),
            metadata: metadata(&mut fields)?,
            ..Extras::default()
        };
        extras.background = background(&mut fields, extras.store)?;
        let stream = stream(&mut fields)?;
        let logprobs = logprobs(&mut fields)?;
        let tools = Tools::take(&mut fields)?;
        extras.tools.clone_from(&tools.infos);
        let thinking = reasoning(&mut fields, &mut extras)?;
        let mut sampling = Sampling {
            grammar: text(&mut fields, &mut extras)?,
            max_tokens: fields.take_whole("max_output_tokens", TOKENS)?,
            logprobs,
            ..Sampling::default()
        };
        let numbers = [("temperature", &mut sampling.temperature), ("top_p", &mut sampling.top_p)];
        for (name, place) in numbers {
            if let Some(number) = fields.take(name, "a number")? {
                *place = number;
            }
        }
        let clocks = Clocks::take(&mut fields)?;
        finish(fields, &[rules::REQUEST])?;
        Ok(Self {
            items,
            previous,
            stream,
            extras,
            instructions,
            tools,
            sampling,
            thinking,
            clocks,
        })
    }

    /// The request for its job: the instructions, the messages of `before`, and the items.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place.
    pub(super) fn into_request(self, before: Conversation) -> Result<(Request, Places, Extras)> {
        let Self { items, stream, extras, instructions, tools, sampling, thinking, clocks, .. } =
            self;
        let mut all = Conversation::default();
        if let Some(text) = instructions {
            let message = rbee_core::Message::new(rbee_core::Role::System, text);
            all.extend(&[message], "instructions");
        }
        all.extend(&before.messages, "previous_response_id");
        for (place, item) in items {
            all.add(item, &place)?;
        }
        let Conversation { messages, places, .. } = all;
        let request = messages.into_iter().fold(Request::chat(&*extras.model), Request::turn);
        let request = tools.tools.into_iter().fold(request, Request::tool);
        let request = request
            .tool_choice(tools.choice)
            .parallel_tool_calls(tools.parallel)
            .sampling(|all| *all = sampling)
            .streamed(stream)
            .stored(extras.store)
            .metadata(extras.to_text()?);
        let request = thinking.into_iter().fold(request, Request::thinking);
        let request = if extras.background { request.detached() } else { request };
        let places = Places { messages: places, tools: tools.places };
        Ok((clocks.apply(request), places, extras))
    }
}

impl Places {
    /// An error about a job, with the place in the request that the client has sent.
    pub(super) fn rename(&self, error: Error) -> Error {
        let Some(place) = error.param().and_then(|param| Some((param, self.place(param)?))) else {
            return error;
        };
        let (param, place) = place;
        let translated = |message: &str| message.replacen(param, &place, 1);
        let mut renamed = Error::new(error.kind(), translated(error.message()));
        if let Some(message) = error.client_message() {
            renamed = renamed.with_client_message(translated(message));
        }
        let renamed = renamed.with_param(place.clone()).with_source(error.clone());
        match error.retry_after() {
            Some(after) => renamed.with_retry_after(after),
            None => renamed,
        }
    }

    fn place(&self, param: &str) -> Option<String> {
        let numbered = |list: &str, places: &[String]| {
            let (number, rest) = param.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
            let place = places.get(number.parse::<usize>().ok()?)?;
            Some(match rest.rsplit_once('.') {
                Some((_, field)) => format!("{place}.{field}"),
                None => place.clone(),
            })
        };
        match param {
            "messages" => Some("input".into()),
            "response_format" => Some("text.format".into()),
            "max_tokens" => Some("max_output_tokens".into()),
            "logprobs" => Some("top_logprobs".into()),
            _ => numbered("messages", &self.messages).or_else(|| numbered("tools", &self.tools)),
        }
    }
}

fn previous(fields: &mut Fields<'_>) -> Result<Option<(String, JobId)>> {
    const NAME: &str = "previous_response_id";
    let Some(id) = fields.take::<String>(NAME, "the id of a response")? else { return Ok(None) };
    match job_of(&id) {
        Some(job) => Ok(Some((id, job))),
        None => Err(no_previous(&id)),
    }
}

/// The error for a response whose conversation cannot go on.
pub(super) fn no_previous(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    let message = format!(
        "Previous response with id '{shown}' not found: previous_response_id is the id of a stored response that was \
         completed"
    );
    Error::for_client(ErrorKind::InvalidRequest, message).with_param("previous_response_id")
}

fn instructions(fields: &mut Fields<'_>) -> Result<Option<String>> {
    let text: Option<String> = fields.take("instructions", "a text")?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn background(fields: &mut Fields<'_>, store: bool) -> Result<bool> {
    let Some(value) = fields.take_raw("background") else { return Ok(false) };
    let background = parse(value, "background", BOOL)?;
    if background && !store {
        let allowed = "false if store is false: a response in the background is read later";
        return Err(not_allowed(value, "background", allowed));
    }
    Ok(background)
}

fn stream(fields: &mut Fields<'_>) -> Result<bool> {
    let stream = fields.take("stream", BOOL)?.unwrap_or(false);
    if let Some(options) = fields.take_raw("stream_options") {
        finish(Fields::of(options, "stream_options")?, &[rules::STREAM_OPTIONS])?;
        if !stream {
            return Err(not_allowed(options, "stream_options", "none if stream is not true"));
        }
    }
    Ok(stream)
}

/// Reads how many of the likeliest tokens get log probabilities, if they are requested: by including them, or by a number
/// of them.
fn logprobs(fields: &mut Fields<'_>) -> Result<Option<u8>> {
    const NAME: &str = "top_logprobs";
    let top = fields.take_raw(NAME).map(|value| top_logprobs(value, NAME)).transpose()?;
    let is_included = includes(fields, LOGPROBS)?;
    let is_wanted = is_included || top.is_some_and(|top| top > 0);
    Ok(is_wanted.then_some(top.unwrap_or(0)))
}

/// Reads what to include. Returns true if it has this.
fn includes(fields: &mut Fields<'_>, wanted: &str) -> Result<bool> {
    let mut is_included = false;
    let Some(value) = fields.take_raw("include") else { return Ok(false) };
    let items: Vec<&RawValue> = parse(value, "include", "a list of texts")?;
    for (at, item) in items.into_iter().enumerate() {
        let place = format!("include[{at}]");
        let name: String = parse(item, &place, "a text")?;
        if !INCLUDABLE.contains(&name.as_str()) {
            return Err(not_allowed(item, &place, &INCLUDABLE.join(", ")));
        }
        is_included |= name == wanted;
    }
    Ok(is_included)
}

fn metadata(fields: &mut Fields<'_>) -> Result<BTreeMap<String, String>> {
    const METADATA: &str =
        "an object of up to 16 texts, with keys of up to 64 and values of up to 512 characters";
    let Some(value) = fields.take_raw("metadata") else { return Ok(BTreeMap::new()) };
    let texts: BTreeMap<String, String> = parse(value, "metadata", METADATA)?;
    let is_long = |(key, value): (&String, &String)| {
        key.chars().count() > LONGEST_KEY || value.chars().count() > LONGEST_VALUE
    };
    if texts.len() > MOST_METADATA || texts.iter().any(is_long) {
        return Err(not_allowed(value, "metadata", METADATA));
    }
    Ok(texts)
}

/// Reads whether the model thinks, and how the client gets its reasoning.
fn reasoning(fields: &mut Fields<'_>, extras: &mut Extras) -> Result<Option<bool>> {
    const SUMMARIES: &str = "\"auto\", \"concise\" or \"detailed\"";
    let Some(value) = fields.take_raw("reasoning") else { return Ok(None) };
    let mut reasoning = Fields::of(value, "reasoning")?;
    let mut again = Fields::of(value, "reasoning")?;
    let thinking = thinking::effort(&mut reasoning, "effort")?;
    extras.effort = again.take("effort", "a text")?;
    for name in ["generate_summary", "summary"] {
        let place = reasoning.name(name);
        let Some(value) = reasoning.take_raw(name) else { continue };
        let summary: String = parse(value, &place, SUMMARIES)?;
        match summary.as_str() {
            "auto" | "concise" | "detailed" => extras.summary = Some(summary),
            // Some clients send it for "no summary".
            "none" => {}
            _ => return Err(not_allowed(value, &place, SUMMARIES)),
        }
    }
    finish(reasoning, &[rules::REASONING])?;
    Ok(thinking)
}

/// Reads what the text of the answer must look like.
fn text(fields: &mut Fields<'_>, extras: &mut Extras) -> Result<Option<Grammar>> {
    const TYPES: &str = "\"text\", \"json_object\" or \"json_schema\"";
    let Some(value) = fields.take_raw("text") else { return Ok(None) };
    let mut text = Fields::of(value, "text")?;
    extras.verbosity = Fields::of(value, "text")?.take("verbosity", "a text")?;
    let format = text.take_raw("format");
    finish(text, &[rules::TEXT])?;
    let Some(value) = format else { return Ok(None) };
    let mut format = Fields::of(value, "text.format")?;
    let kind: String = format.require("type", TYPES)?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Grammar::JsonObject),
        "json_schema" => {
            let schema: &RawValue = format.require("schema", "a JSON schema")?;
            extras.schema = Some(SchemaInfo {
                name: format.require("name", "the name of the schema")?,
                description: format.take("description", "a text")?,
                strict: format.take("strict", BOOL)?,
            });
            Some(Grammar::JsonSchema(schema.get().to_owned()))
        }
        other => {
            let place = "text.format.type";
            let shown: String = other.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {TYPES}");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
        }
    };
    finish(format, &[])?;
    Ok(grammar)
}
