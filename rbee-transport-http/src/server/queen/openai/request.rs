//! Reads OpenAI's requests.

use std::time::Duration;

use rbee_core::{Error, ErrorKind, Priority, Request, Result, request::Sampling};
use serde_json::value::RawValue;

use super::{
    fields::{Fields, missing, not_allowed, parse},
    messages,
    rules::{self, Rule, check},
};
use crate::wire::openai::{EncodingFormat, StreamOptions};

/// The most answers of one request.
pub(super) const MOST_CHOICES: u32 = 8;
/// The longest answer to bare text by default, in tokens: the same as OpenAI's.
const COMPLETION_TOKENS: u32 = 16;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

impl Kind {
    /// The prefix of the ids of its answers.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Completion => "cmpl",
        }
    }

    /// The rules for the fields that are not read.
    const fn rules(self) -> &'static [(&'static str, Rule)] {
        match self {
            Self::Chat => rules::CHAT,
            Self::Completion => rules::COMPLETION,
        }
    }
}

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
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model = model(&mut fields)?;
        let stream = stream(&mut fields)?;
        let n = choices(&mut fields)?;
        let prompts = match kind {
            Kind::Chat => vec![chat(&mut fields, &model)?],
            Kind::Completion => completion(&mut fields, &model, n)?,
        };
        let terms = Terms::take(&mut fields, kind)?;
        finish(fields, &[kind.rules()])?;
        let requests = prompts
            .into_iter()
            .flat_map(|prompt| (0..n).map(move |_| prompt.clone()))
            .enumerate()
            .map(|(at, request)| terms.apply(request, at as u64))
            .collect();
        Ok(Self { kind, model, requests, per_prompt: n as usize, stream })
    }
}

/// A request for vectors.
pub(super) struct EmbedAsk {
    pub(super) model: String,
    pub(super) request: Request,
    /// The number of texts.
    pub(super) inputs: usize,
    pub(super) format: EncodingFormat,
}

impl EmbedAsk {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model = model(&mut fields)?;
        let inputs = fields.take_raw("input").ok_or_else(|| missing("input", TEXTS))?;
        let texts = texts(inputs, "input")?;
        let inputs = texts.len();
        let request = Request::embed(&model, texts);
        let format = fields.take("encoding_format", "\"float\" or \"base64\"")?.unwrap_or_default();
        let request = Clocks::take(&mut fields)?.apply(request);
        finish(fields, &[rules::EMBEDDING])?;
        Ok(Self { model, request, inputs, format })
    }
}

/// Parses the body of a job that runs without a reader: a chat, a completion or vectors, without the fields about the
/// response over HTTP.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub(in crate::server::queen) fn job(body: &[u8]) -> Result<Request> {
    let mut fields = Fields::of_body(body)?;
    let model = model(&mut fields)?;
    let [messages, prompt, input] =
        ["messages", "prompt", "input"].map(|name| fields.take_raw(name));
    let (kind, request) = match (messages, prompt, input) {
        (Some(turns), None, None) => (Kind::Chat, conversation(&model, turns)?),
        (None, Some(text), None) => {
            let text: String = parse(text, "prompt", "a text")?;
            (Kind::Completion, Request::completion(&model, text))
        }
        (None, None, Some(inputs)) => {
            let request = Request::embed(&model, texts(inputs, "input")?);
            let request = Clocks::take(&mut fields)?.apply(request);
            finish(fields, &[rules::EMBEDDING, rules::JOB])?;
            return Ok(request.detached());
        }
        _ => {
            let message = "a job needs one of messages, prompt and input";
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("messages")
            );
        }
    };
    let terms = Terms::take(&mut fields, kind)?;
    finish(fields, &[kind.rules(), rules::JOB])?;
    Ok(terms.apply(request, 0).detached())
}

fn model(fields: &mut Fields<'_>) -> Result<String> {
    fields.require("model", "the name of a model")
}

fn stream(fields: &mut Fields<'_>) -> Result<Option<StreamOptions>> {
    let wanted = fields.take("stream", "true or false")?.unwrap_or(false);
    let Some(options) = fields.take_raw("stream_options") else {
        return Ok(wanted.then(StreamOptions::default));
    };
    if !wanted {
        return Err(not_allowed(options, "stream_options", "none if stream is not true"));
    }
    let mut options = Fields::of(options, "stream_options")?;
    let include_usage = options.take("include_usage", "true or false")?.unwrap_or(false);
    finish(options, &[rules::STREAM_OPTIONS])?;
    Ok(Some(StreamOptions { include_usage }))
}

fn choices(fields: &mut Fields<'_>) -> Result<u32> {
    let allowed = format!("1 to {MOST_CHOICES}");
    let Some(value) = fields.take_raw("n") else { return Ok(1) };
    match parse(value, "n", &allowed)? {
        n @ 1..=MOST_CHOICES => Ok(n),
        _ => Err(not_allowed(value, "n", &allowed)),
    }
}

fn chat(fields: &mut Fields<'_>, model: &str) -> Result<Request> {
    let turns = fields.take_raw("messages");
    conversation(model, turns.ok_or_else(|| missing("messages", "a list of messages"))?)
}

fn conversation(model: &str, turns: &RawValue) -> Result<Request> {
    let turns = messages::read(turns)?;
    Ok(turns
        .into_iter()
        .fold(Request::chat(model), |chat, turn| chat.message(turn.role, turn.content)))
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
        && parse::<u32>(value, "best_of", "the value of n")? != n
    {
        let allowed = format!("the value of n, {n}: rbee does not choose among answers");
        return Err(not_allowed(value, "best_of", &allowed));
    }
    Ok(prompts.into_iter().map(|prompt| Request::completion(model, prompt)).collect())
}

const TEXTS: &str = "a text or a list of texts (lists of tokens are not read)";

/// One text or several.
fn texts(value: &RawValue, name: &str) -> Result<Vec<String>> {
    match value.get().as_bytes().first() {
        Some(b'"') => Ok(vec![parse(value, name, TEXTS)?]),
        _ => parse(value, name, TEXTS),
    }
}

/// Checks that the remaining fields are known and request nothing.
fn finish(fields: Fields<'_>, tables: &[&[(&str, Rule)]]) -> Result<()> {
    let path = fields.name("");
    fields.finish(|field, value| {
        let name = format!("{path}{field}");
        tables.iter().find_map(|table| check(table, field, &name, value))
    })
}

/// The priority and the time limits.
struct Clocks {
    priority: Priority,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
}

impl Clocks {
    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        const MILLISECONDS: &str = "a whole number of milliseconds";
        let millis = |value: Option<u64>| value.map(Duration::from_millis);
        Ok(Self {
            priority: fields.take("priority", "\"interactive\" or \"batch\"")?.unwrap_or_default(),
            timeout: millis(fields.take("timeout_ms", MILLISECONDS)?),
            deadline: millis(fields.take("deadline_ms", MILLISECONDS)?),
        })
    }

    fn apply(&self, mut request: Request) -> Request {
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if let Some(deadline) = self.deadline {
            request = request.deadline(deadline);
        }
        request.priority(self.priority)
    }
}

/// The sampling parameters.
struct Terms {
    sampling: Sampling,
    seed: Option<u64>,
    clocks: Clocks,
}

impl Terms {
    fn take(fields: &mut Fields<'_>, kind: Kind) -> Result<Self> {
        const NUMBER: &str = "a number";
        let mut sampling =
            Sampling { max_tokens: max_tokens(fields, kind)?, ..Sampling::default() };
        let numbers = [
            ("temperature", &mut sampling.temperature),
            ("top_p", &mut sampling.top_p),
            ("min_p", &mut sampling.min_p),
            ("repetition_penalty", &mut sampling.repetition_penalty),
        ];
        for (name, place) in numbers {
            if let Some(number) = fields.take(name, NUMBER)? {
                *place = number;
            }
        }
        if let Some(top_k) = fields.take("top_k", "a whole number, 0 or more")? {
            sampling.top_k = top_k;
        }
        if let Some(stop) = fields.take_raw("stop") {
            sampling.stop = match stop.get().as_bytes().first() {
                Some(b'"') => vec![parse(stop, "stop", STOP)?],
                _ => parse(stop, "stop", STOP)?,
            };
        }
        Ok(Self { sampling, seed: seed(fields)?, clocks: Clocks::take(fields)? })
    }

    /// Sets them for the answer of this number: each has a seed of its own.
    fn apply(&self, request: Request, index: u64) -> Request {
        let request =
            self.clocks.apply(request).sampling(|sampling| *sampling = self.sampling.clone());
        match self.seed {
            Some(seed) => request.seed(seed.wrapping_add(index)),
            None => request,
        }
    }
}

const STOP: &str = "a text or a list of up to 4 texts";

fn max_tokens(fields: &mut Fields<'_>, kind: Kind) -> Result<Option<u32>> {
    const TOKENS: &str = "a whole number, 1 or more";
    let plain: Option<u32> = fields.take("max_tokens", TOKENS)?;
    if kind == Kind::Completion {
        return Ok(Some(plain.unwrap_or(COMPLETION_TOKENS)));
    }
    let newer = fields.take("max_completion_tokens", TOKENS)?;
    match (plain, newer) {
        (Some(plain), Some(newer)) if plain != newer => Err(Error::for_client(
            ErrorKind::InvalidRequest,
            format!("max_tokens is {plain} and max_completion_tokens is {newer}; allowed is one of the two"),
        )
        .with_param("max_tokens")),
        (plain, newer) => Ok(newer.or(plain)),
    }
}

/// Any whole number of 64 bits, signed or unsigned.
fn seed(fields: &mut Fields<'_>) -> Result<Option<u64>> {
    const SEED: &str = "a whole number of 64 bits";
    let Some(value) = fields.take_raw("seed") else { return Ok(None) };
    if let Ok(seed) = parse::<u64>(value, "seed", SEED) {
        return Ok(Some(seed));
    }
    parse::<i64>(value, "seed", SEED).map(|seed| Some(seed.cast_unsigned()))
}
