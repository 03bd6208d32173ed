//! Reads how an answer of OpenAI's API is sampled, and its priority and time limits.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{Error, ErrorKind, Priority, Request, Result, request::Sampling};
use serde_json::value::RawValue;

use super::{kind::Kind, response_format};
use crate::server::queen::fields::{Fields, not_allowed, parse, whole};

/// The longest answer to bare text by default, in tokens: the same as OpenAI's.
const COMPLETION_TOKENS: u32 = 16;
/// The most of the likeliest tokens with log probabilities.
const MOST_TOP_LOGPROBS: u8 = 20;

/// The priority and the time limits, for each API with these fields.
#[derive(Clone, Copy, Debug)]
pub(in crate::server::queen) struct Clocks {
    /// The priority, if the body has one.
    priority: Option<Priority>,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
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

    /// The priority, if the body has one.
    pub(in crate::server::queen) fn priority(&self) -> Option<Priority> {
        self.priority
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
pub(super) struct Terms {
    pub(super) sampling: Sampling,
    seed: Option<u64>,
    pub(super) clocks: Clocks,
}

impl Terms {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(super) fn take(fields: &mut Fields<'_>, kind: Kind) -> Result<Self> {
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
    pub(super) fn apply(&self, request: Request, index: u64) -> Request {
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

/// The number of the likeliest tokens that get log probabilities.
pub(in crate::server::queen) fn top_logprobs(value: &RawValue, name: &str) -> Result<u8> {
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
