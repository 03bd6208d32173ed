//! Reads OpenAI's requests.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{
    Error, ErrorKind, Priority, Request, Result,
    request::{EmbedInput, Prompt, Sampling, Task},
};
use serde_json::value::RawValue;

use super::{messages, response_format, rules, thinking, tools};
use crate::{
    server::queen::{
        field_rules::{Rule, finish},
        fields::{Fields, missing, not_allowed, parse, whole},
    },
    wire::openai::{EncodingFormat, StreamOptions},
};

/// The most answers of one request.
pub(super) const MOST_CHOICES: u32 = 8;
/// The longest answer to bare text by default, in tokens: the same as OpenAI's.
const COMPLETION_TOKENS: u32 = 16;
/// The most of the likeliest tokens with log probabilities.
const MOST_TOP_LOGPROBS: u8 = 20;

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
    const fn rules(self) -> [&'static [(&'static str, Rule)]; 3] {
        let own = match self {
            Self::Chat => rules::CHAT,
            Self::Completion => rules::COMPLETION,
        };
        [own, rules::GENERATE, rules::COMMON]
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
    /// True if log probabilities were requested.
    pub(super) logprobs: bool,
    /// The tools that the model may call, if it is a chat.
    pub(super) tools: Option<Vec<String>>,
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
        let model = model(&mut fields)?;
        let stream = stream(&mut fields)?;
        let n = choices(&mut fields)?;
        let prompts = match kind {
            Kind::Chat => vec![chat(&mut fields, &model)?],
            Kind::Completion => completion(&mut fields, &model, n)?,
        };
        let terms = Terms::take(&mut fields, kind)?;
        finish(fields, &kind.rules())?;
        let logprobs = terms.sampling.logprobs.is_some();
        let tools = prompts.first().and_then(|request| match request.task() {
            Task::Generate { prompt: Prompt::Chat(chat), .. } => Some(chat.callable()),
            Task::Generate { .. } | Task::Embed { .. } | Task::Rerank { .. } => None,
        });
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

/// A request for vectors.
pub(super) struct EmbedAsk {
    pub(super) model: String,
    pub(super) request: Request,
    /// The number of texts.
    pub(super) inputs: usize,
    pub(super) format: EncodingFormat,
    /// The priority and the time limits, which the request has already.
    pub(super) clocks: Clocks,
}

impl EmbedAsk {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model = model(&mut fields)?;
        let given = fields.take_raw("input").ok_or_else(|| missing("input", INPUTS))?;
        let (request, inputs) = embedding(&mut fields, &model, given)?;
        let format = fields.take("encoding_format", "\"float\" or \"base64\"")?.unwrap_or_default();
        let clocks = Clocks::take(&mut fields)?;
        let request = clocks.apply(request);
        finish(fields, &[rules::COMMON])?;
        Ok(Self { model, request, inputs, format, clocks })
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
        (Some(turns), None, None) => (Kind::Chat, conversation(&mut fields, &model, turns)?),
        (None, Some(text), None) => {
            let text: String = parse(text, "prompt", "a text")?;
            (Kind::Completion, Request::completion(&model, text))
        }
        (None, None, Some(inputs)) => {
            let (request, _) = embedding(&mut fields, &model, inputs)?;
            let request = Clocks::take(&mut fields)?.apply(request);
            finish(fields, &[rules::COMMON, rules::JOB])?;
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
    let [own, generate, common] = kind.rules();
    finish(fields, &[own, generate, common, rules::JOB])?;
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

fn conversation(fields: &mut Fields<'_>, model: &str, turns: &RawValue) -> Result<Request> {
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

const INPUTS: &str = "a text, a list of texts, a list of token ids, or a list of such lists";

/// A request for vectors, and the number of its texts.
fn embedding(fields: &mut Fields<'_>, model: &str, inputs: &RawValue) -> Result<(Request, usize)> {
    let inputs = embed_inputs(inputs)?;
    let count = inputs.len();
    let request = Request::embed(model, inputs);
    let length = fields.take_whole("dimensions", "a whole number, 1 or more")?;
    Ok((length.into_iter().fold(request, Request::dimensions), count))
}

fn embed_inputs(value: &RawValue) -> Result<Vec<EmbedInput>> {
    let first = |value: &RawValue| value.get().as_bytes().first().copied();
    if first(value) == Some(b'"') {
        return Ok(vec![EmbedInput::Text(parse(value, "input", INPUTS)?)]);
    }
    // Ids of tokens take less memory than their digits in the body; a value for each element would take more.
    if let Ok(tokens) = serde_json::from_str::<Vec<u32>>(value.get())
        && !tokens.is_empty()
    {
        return Ok(vec![EmbedInput::Tokens(tokens)]);
    }
    let items: Vec<&RawValue> = parse(value, "input", INPUTS)?;
    match items.first().and_then(|item| first(item)) {
        None => Ok(Vec::new()),
        Some(b'"') => {
            let texts = items.into_iter().enumerate().map(|(at, item)| {
                Ok(EmbedInput::Text(parse(item, &format!("input[{at}]"), "a text, as before it")?))
            });
            texts.collect()
        }
        Some(b'[') => {
            let lists = items.into_iter().enumerate().map(|(at, item)| {
                let name = format!("input[{at}]");
                if let Ok(tokens) = serde_json::from_str::<Vec<u32>>(item.get()) {
                    return Ok(EmbedInput::Tokens(tokens));
                }
                let items = parse(item, &name, "a list of token ids, as before it")?;
                Ok(EmbedInput::Tokens(tokens(items, &name)?))
            });
            lists.collect()
        }
        Some(b'0'..=b'9' | b'-') => Ok(vec![EmbedInput::Tokens(tokens(items, "input")?)]),
        Some(_) => Err(items.first().map_or_else(
            || missing("input", INPUTS),
            |item| not_allowed(item, "input[0]", INPUTS),
        )),
    }
}

/// The ids of tokens, each read by its place.
fn tokens(items: Vec<&RawValue>, name: &str) -> Result<Vec<u32>> {
    let items = items.into_iter().enumerate();
    items.map(|(at, item)| whole(item, &format!("{name}[{at}]"), "the id of a token")).collect()
}

/// The priority and the time limits, for each API with these fields.
#[derive(Clone, Copy, Debug)]
pub(in crate::server::queen) struct Clocks {
    /// The priority, if the body has one.
    pub(super) priority: Option<Priority>,
    timeout: Option<Duration>,
    /// The deadline, if the body has one.
    pub(super) deadline: Option<Duration>,
}

impl Clocks {
    /// Reads `priority`, `timeout_ms` and `deadline_ms`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn take(fields: &mut Fields<'_>) -> Result<Self> {
        const MILLISECONDS: &str = "a whole number of milliseconds";
        let millis = |value: Option<u64>| value.map(Duration::from_millis);
        Ok(Self {
            priority: fields.take("priority", "\"interactive\" or \"batch\"")?,
            timeout: millis(fields.take_whole("timeout_ms", MILLISECONDS)?),
            deadline: millis(fields.take_whole("deadline_ms", MILLISECONDS)?),
        })
    }

    /// Sets them for a request.
    pub(in crate::server::queen) fn apply(&self, mut request: Request) -> Request {
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if let Some(deadline) = self.deadline {
            request = request.deadline(deadline);
        }
        request.priority(self.priority.unwrap_or_default())
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
            ("presence_penalty", &mut sampling.presence_penalty),
            ("frequency_penalty", &mut sampling.frequency_penalty),
        ];
        for (name, place) in numbers {
            if let Some(number) = fields.take(name, NUMBER)? {
                *place = number;
            }
        }
        if let Some(top_k) = fields.take_raw("top_k") {
            // -1 is vLLM's way to say that it is off.
            let allowed = "a whole number, 1 or more, or 0 or -1 for all tokens";
            sampling.top_k = match whole::<i64>(top_k, "top_k", allowed)? {
                -1 => 0,
                number => {
                    u32::try_from(number).map_err(|_| not_allowed(top_k, "top_k", allowed))?
                }
            };
        }
        const MIN_TOKENS: &str = "a whole number, 0 or more";
        sampling.min_tokens = fields.take_whole("min_tokens", MIN_TOKENS)?.unwrap_or(0);
        if kind == Kind::Chat {
            sampling.grammar = response_format::take(fields)?;
        }
        sampling.logit_bias = logit_bias(fields)?;
        sampling.logprobs = match kind {
            Kind::Chat => chat_logprobs(fields)?,
            Kind::Completion => completion_logprobs(fields)?,
        };
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

/// The biases by the ids of their tokens, which are texts in JSON.
fn logit_bias(fields: &mut Fields<'_>) -> Result<BTreeMap<u32, f32>> {
    const BIAS: &str = "an object of token ids and numbers, like {\"50256\": -100}";
    let Some(value) = fields.take_raw("logit_bias") else { return Ok(BTreeMap::new()) };
    let biases: BTreeMap<String, f32> = parse(value, "logit_bias", BIAS)?;
    let by_id = biases.into_iter().map(|(token, bias)| Some((token.parse().ok()?, bias)));
    by_id.collect::<Option<_>>().ok_or_else(|| not_allowed(value, "logit_bias", BIAS))
}

/// In a chat one field requests them, and another one the number of the likeliest tokens.
fn chat_logprobs(fields: &mut Fields<'_>) -> Result<Option<u8>> {
    const NONE: &str = "0 if logprobs is not true";
    let wanted = fields.take("logprobs", "true or false")?.unwrap_or(false);
    let top = match fields.take_raw("top_logprobs") {
        None => 0,
        Some(value) => match top_logprobs(value, "top_logprobs")? {
            1.. if !wanted => return Err(not_allowed(value, "top_logprobs", NONE)),
            top => top,
        },
    };
    Ok(wanted.then_some(top))
}

/// A completion says of how many of the likeliest tokens it wants log probabilities.
fn completion_logprobs(fields: &mut Fields<'_>) -> Result<Option<u8>> {
    let value = fields.take_raw("logprobs");
    value.map(|value| top_logprobs(value, "logprobs")).transpose()
}

fn top_logprobs(value: &RawValue, name: &str) -> Result<u8> {
    let allowed = format!("0 to {MOST_TOP_LOGPROBS}");
    match whole(value, name, &allowed)? {
        top @ 0..=MOST_TOP_LOGPROBS => Ok(top),
        _ => Err(not_allowed(value, name, &allowed)),
    }
}

const STOP: &str = "a text or a list of up to 4 texts";

fn max_tokens(fields: &mut Fields<'_>, kind: Kind) -> Result<Option<u32>> {
    const TOKENS: &str = "a whole number, 1 or more";
    let plain: Option<u32> = fields.take_whole("max_tokens", TOKENS)?;
    if kind == Kind::Completion {
        return Ok(Some(plain.unwrap_or(COMPLETION_TOKENS)));
    }
    let newer = fields.take_whole("max_completion_tokens", TOKENS)?;
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
    let number: i128 = whole(value, "seed", SEED)?;
    let seed = u64::try_from(number).or_else(|_| i64::try_from(number).map(i64::cast_unsigned));
    seed.map(Some).map_err(|_| not_allowed(value, "seed", SEED))
}
