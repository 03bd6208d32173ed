//! Reads whether the model thinks before it answers.

use rbee_core::{Error, ErrorKind, Result};

use crate::server::queen::{field_rules::finish, fields::Fields};

/// The efforts of OpenAI's API. How much a model thinks is up to the model: rbee only turns thinking on and off.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Reads `reasoning_effort`, `reasoning` (as OpenAI's responses API and OpenRouter have it) and `chat_template_kwargs`
/// (as vLLM and llama.cpp have it). `None` if none of them says anything; the last one that does counts.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place.
pub(super) fn take(fields: &mut Fields<'_>) -> Result<Option<bool>> {
    let mut thinking = effort(fields, "reasoning_effort")?;
    if let Some(value) = fields.take_raw("reasoning") {
        let mut reasoning = Fields::of(value, "reasoning")?;
        let enabled = reasoning.take("enabled", "true or false")?;
        thinking = effort(&mut reasoning, "effort")?.or(enabled).or(thinking);
        finish(reasoning, &[super::rules::REASONING])?;
    }
    if let Some(value) = fields.take_raw("chat_template_kwargs") {
        let mut values = Fields::of(value, "chat_template_kwargs")?;
        for name in ["enable_thinking", "thinking"] {
            thinking = values.take(name, "true or false")?.or(thinking);
        }
        finish(values, &[])?;
    }
    Ok(thinking)
}

/// Reads an effort: `none` turns thinking off, and every other one turns it on.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place.
pub(in crate::server::queen) fn effort(
    fields: &mut Fields<'_>,
    name: &str,
) -> Result<Option<bool>> {
    let efforts = || EFFORTS.map(|effort| format!("{effort:?}")).join(", ");
    let Some(effort) = fields.take::<String>(name, &efforts())? else { return Ok(None) };
    if EFFORTS.contains(&effort.as_str()) {
        return Ok(Some(effort != "none"));
    }
    let place = fields.name(name);
    let shown: String = effort.chars().take(60).collect();
    let message = format!("{place} is {shown:?}; allowed is one of {}", efforts());
    Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
}
