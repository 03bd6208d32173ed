//! Reads the options: sampling and limits.

use rbee_core::{
    Error, ErrorKind, Result,
    request::{Grammar, Sampling},
};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, not_allowed, parse, whole},
};

/// The most of the likeliest tokens with log probabilities.
const MOST_TOP_LOGPROBS: u8 = 20;

const LENGTH: &str = "a whole number, 1 or more, or -1 or -2 for no limit";

/// Reads the options, and the other fields about sampling.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `options.top_k`.
pub(super) fn take(fields: &mut Fields<'_>) -> Result<(Sampling, Option<u64>)> {
    let mut sampling = Sampling {
        // Not a field of Ollama's, but Open WebUI writes the longest answer here.
        max_tokens: length(fields)?,
        grammar: format(fields)?,
        logprobs: logprobs(fields)?,
        ..Sampling::default()
    };
    let seed = match fields.take_raw("options") {
        Some(options) => read(options, &mut sampling)?,
        None => None,
    };
    Ok((sampling, seed))
}

/// Checks the options of a request for vectors, which has no sampling: those that would change an answer do not change
/// vectors.
///
/// # Errors
/// As [`take`].
pub(super) fn check(fields: &mut Fields<'_>) -> Result<()> {
    match fields.take_raw("options") {
        Some(options) => read(options, &mut Sampling::default()).map(drop),
        None => Ok(()),
    }
}

/// Reads the options into the sampling, and returns the seed.
fn read(value: &RawValue, sampling: &mut Sampling) -> Result<Option<u64>> {
    let mut fields = Fields::of(value, "options")?;
    if let Some(length) = length(&mut fields)? {
        sampling.max_tokens = Some(length);
    }
    let numbers = [
        ("temperature", &mut sampling.temperature),
        ("top_p", &mut sampling.top_p),
        ("min_p", &mut sampling.min_p),
        ("repeat_penalty", &mut sampling.repetition_penalty),
        ("presence_penalty", &mut sampling.presence_penalty),
        ("frequency_penalty", &mut sampling.frequency_penalty),
    ];
    for (name, place) in numbers {
        if let Some(number) = fields.take(name, "a number")? {
            *place = number;
        }
    }
    if let Some(value) = fields.take_raw("top_k") {
        const TOP_K: &str = "a whole number, 1 or more, or 0 or -1 for all tokens";
        let place = fields.name("top_k");
        sampling.top_k = match whole::<i64>(value, &place, TOP_K)? {
            -1 => 0,
            number => u32::try_from(number).map_err(|_| not_allowed(value, &place, TOP_K))?,
        };
    }
    penalty_window(&mut fields, sampling)?;
    if let Some(value) = fields.take_raw("num_ctx") {
        // The context of a loaded model is what it is: a larger one is cut to it by Ollama too.
        const CONTEXT: &str = "a whole number of tokens, 1 or more";
        let place = fields.name("num_ctx");
        if whole::<u64>(value, &place, CONTEXT)? == 0 {
            return Err(not_allowed(value, &place, CONTEXT));
        }
    }
    if let Some(stop) = fields.take_raw("stop") {
        const STOP: &str = "a text or a list of up to 4 texts";
        let place = fields.name("stop");
        sampling.stop = match stop.get().as_bytes().first() {
            Some(b'"') => vec![parse(stop, &place, STOP)?],
            _ => parse(stop, &place, STOP)?,
        };
    }
    let seed = seed(&mut fields)?;
    finish(fields, &[rules::OPTIONS])?;
    Ok(seed)
}

/// The longest answer. `None` if nothing says it.
fn length(fields: &mut Fields<'_>) -> Result<Option<u32>> {
    let Some(value) = fields.take_raw("num_predict") else { return Ok(None) };
    let place = fields.name("num_predict");
    match whole::<i64>(value, &place, LENGTH)? {
        -2 | -1 => Ok(None),
        length => match u32::try_from(length) {
            Ok(length @ 1..) => Ok(Some(length)),
            _ => Err(not_allowed(value, &place, LENGTH)),
        },
    }
}

/// The number of last tokens that `repeat_penalty` looks at. rbee's looks at all of them.
fn penalty_window(fields: &mut Fields<'_>, sampling: &mut Sampling) -> Result<()> {
    const WINDOW: &str =
        "-1 for all tokens, or 0 for none; another one only without repeat_penalty";
    let Some(value) = fields.take_raw("repeat_last_n") else { return Ok(()) };
    let place = fields.name("repeat_last_n");
    match whole::<i64>(value, &place, WINDOW)? {
        0 => sampling.repetition_penalty = Sampling::default().repetition_penalty,
        -1 => {}
        #[expect(clippy::float_cmp, reason = "the default is the value that is off")]
        1.. if sampling.repetition_penalty == Sampling::default().repetition_penalty => {}
        _ => return Err(not_allowed(value, &place, WINDOW)),
    }
    Ok(())
}

/// Any whole number of 64 bits, signed or unsigned; -1 is a random one.
fn seed(fields: &mut Fields<'_>) -> Result<Option<u64>> {
    const SEED: &str = "a whole number of 64 bits";
    let Some(value) = fields.take_raw("seed") else { return Ok(None) };
    let place = fields.name("seed");
    let number: i128 = whole(value, &place, SEED)?;
    if number == -1 {
        return Ok(None);
    }
    let seed = u64::try_from(number).or_else(|_| i64::try_from(number).map(i64::cast_unsigned));
    seed.map(Some).map_err(|_| not_allowed(value, &place, SEED))
}

/// What the answer must look like.
fn format(fields: &mut Fields<'_>) -> Result<Option<Grammar>> {
    let Some(value) = fields.take_raw("format") else { return Ok(None) };
    match value.get() {
        "\"\"" => Ok(None),
        "\"json\"" => Ok(Some(Grammar::JsonObject)),
        schema if schema.starts_with('{') => Ok(Some(Grammar::JsonSchema(schema.to_owned()))),
        _ => Err(not_allowed(value, "format", "\"json\" or a JSON schema, an object")),
    }
}

fn logprobs(fields: &mut Fields<'_>) -> Result<Option<u8>> {
    let is_wanted = fields.take("logprobs", "true or false")?.unwrap_or(false);
    let allowed = format!("0 to {MOST_TOP_LOGPROBS}");
    let Some(value) = fields.take_raw("top_logprobs") else { return Ok(is_wanted.then_some(0)) };
    let top = match whole(value, "top_logprobs", &allowed)? {
        top @ 0..=MOST_TOP_LOGPROBS => top,
        _ => return Err(not_allowed(value, "top_logprobs", &allowed)),
    };
    if top > 0 && !is_wanted {
        let message = format!("top_logprobs is {top} and logprobs is not true; set it too");
        return Err(
            Error::for_client(ErrorKind::InvalidRequest, message).with_param("top_logprobs")
        );
    }
    Ok(is_wanted.then_some(top))
}
