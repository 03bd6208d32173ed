//! What a request says about the answer besides the conversation: thinking, format, sampling.

use rbee_core::{
    Error, ErrorKind, Result,
    request::{Grammar, Sampling},
};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, not_allowed, parse},
};

/// Whether the model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thinking {
    /// `None`: as it does by default.
    pub(super) is_on: Option<bool>,
    /// False if blocks of thinking have no text.
    pub(super) is_shown: bool,
}

/// Reads `thinking`.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place.
pub(super) fn thinking(fields: &mut Fields<'_>) -> Result<Thinking> {
    const TYPES: [&str; 3] = ["enabled", "adaptive", "disabled"];
    const DISPLAYS: [&str; 2] = ["summarized", "omitted"];
    let Some(value) = fields.take_raw("thinking") else {
        return Ok(Thinking { is_on: None, is_shown: true });
    };
    let mut fields = Fields::of(value, "thinking")?;
    let kind = one_of(&mut fields, "type", &TYPES)?;
    let kind = kind.ok_or_else(|| missing("thinking.type", &listed(&TYPES)))?;
    let display = one_of(&mut fields, "display", &DISPLAYS)?;
    finish(fields, &[rules::THINKING])?;
    Ok(Thinking { is_on: Some(kind != "disabled"), is_shown: display != Some("omitted") })
}

/// Reads `output_config`, and `output_format`, which stands for its format in older clients.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place.
pub(super) fn grammar(fields: &mut Fields<'_>) -> Result<Option<Grammar>> {
    const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];
    let older = fields.take_raw("output_format");
    let mut grammar = older.map(|value| format(value, "output_format")).transpose()?;
    if let Some(value) = fields.take_raw("output_config") {
        let mut fields = Fields::of(value, "output_config")?;
        // How much a model thinks is up to the model, and agents send an effort with every request.
        one_of(&mut fields, "effort", &EFFORTS)?;
        if let Some(value) = fields.take_raw("format") {
            grammar = Some(format(value, "output_config.format")?);
        }
        finish(fields, &[rules::OUTPUT_CONFIG])?;
    }
    Ok(grammar)
}

fn format(value: &RawValue, name: &str) -> Result<Grammar> {
    let mut fields = Fields::of(value, name)?;
    let kind = one_of(&mut fields, "type", &["json_schema"])?;
    kind.ok_or_else(|| missing(&fields.name("type"), "\"json_schema\""))?;
    let schema: &RawValue = fields.require("schema", "a JSON schema")?;
    finish(fields, &[])?;
    Ok(Grammar::JsonSchema(schema.get().to_owned()))
}

/// Checks `context_management`: the only edit that is accepted is the one that removes earlier thinking, which is never
/// read.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `context_management.edits[0].type`.
pub(super) fn check_context_management(fields: &mut Fields<'_>) -> Result<()> {
    const EDITS: &str = "context_management.edits";
    let Some(value) = fields.take_raw("context_management") else { return Ok(()) };
    let mut fields = Fields::of(value, "context_management")?;
    let edits: Vec<&RawValue> = match fields.take_raw("edits") {
        Some(edits) => parse(edits, EDITS, "a list of edits")?,
        None => Vec::new(),
    };
    finish(fields, &[rules::CONTEXT_MANAGEMENT])?;
    for (at, edit) in edits.into_iter().enumerate() {
        let mut fields = Fields::of(edit, &format!("{EDITS}[{at}]"))?;
        let kind = one_of(&mut fields, "type", &["clear_thinking_20251015"])?;
        kind.ok_or_else(|| missing(&fields.name("type"), "\"clear_thinking_20251015\""))?;
        finish(fields, &[rules::CLEAR_THINKING])?;
    }
    Ok(())
}

/// Reads the parameters of the sampling.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub(super) fn sampling(fields: &mut Fields<'_>) -> Result<Sampling> {
    const WHOLE: &str = "a whole number, 0 or more";
    let mut sampling = Sampling::default();
    for (name, place) in
        [("temperature", &mut sampling.temperature), ("top_p", &mut sampling.top_p)]
    {
        if let Some(number) = fields.take(name, "a number")? {
            *place = number;
        }
    }
    sampling.max_tokens = fields.take_whole("max_tokens", "a whole number, 1 or more")?;
    sampling.top_k = fields.take_whole("top_k", WHOLE)?.unwrap_or(0);
    sampling.stop = fields.take("stop_sequences", "a list of up to 4 texts")?.unwrap_or_default();
    Ok(sampling)
}

/// Reads a field that must be one of these texts.
fn one_of<'a>(fields: &mut Fields<'_>, name: &str, allowed: &[&'a str]) -> Result<Option<&'a str>> {
    let Some(value) = fields.take_raw(name) else { return Ok(None) };
    let place = fields.name(name);
    let text: String = parse(value, &place, &listed(allowed))?;
    match allowed.iter().find(|known| **known == text) {
        Some(known) => Ok(Some(*known)),
        None => Err(not_allowed(value, &place, &listed(allowed))),
    }
}

fn listed(allowed: &[&str]) -> String {
    allowed.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}

/// The error for a request without a length of its answer.
pub(super) fn no_length() -> Error {
    let message = "max_tokens is missing; it must be a whole number, 1 or more";
    Error::for_client(ErrorKind::InvalidRequest, message).with_param("max_tokens")
}
