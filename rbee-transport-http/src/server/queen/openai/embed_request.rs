//! Reads OpenAI's requests for vectors.

use rbee_core::{Request, Result, request::EmbedInput};
use serde_json::value::RawValue;

use super::{request::MODEL, rules, sampling::Clocks};
use crate::{
    server::queen::{
        field_rules::finish,
        fields::{Fields, missing, not_allowed, parse, whole},
    },
    wire::openai::EncodingFormat,
};

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
        let model: String = fields.require("model", MODEL)?;
        let given = fields.take_raw("input").ok_or_else(|| missing("input", INPUTS))?;
        let (request, inputs) = embedding(&mut fields, &model, given)?;
        let format = fields.take("encoding_format", "\"float\" or \"base64\"")?.unwrap_or_default();
        let clocks = Clocks::take(&mut fields)?;
        let request = clocks.apply(request);
        finish(fields, &[rules::COMMON])?;
        Ok(Self { model, request, inputs, format, clocks })
    }
}

const INPUTS: &str = "a text, a list of texts, a list of token ids, or a list of such lists";

/// A request for vectors, and the number of its texts.
pub(super) fn embedding(
    fields: &mut Fields<'_>,
    model: &str,
    inputs: &RawValue,
) -> Result<(Request, usize)> {
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
