//! The turns of a conversation.

use rbee_core::{Error, ErrorKind, Message, Result, Role};
use serde_json::value::RawValue;

use super::{rules, tools};
use crate::server::queen::{
    field_rules::check,
    fields::{Fields, missing, not_allowed, parse},
};

const CONTENT: &str = "a text, or a list of parts of type \"text\"";
/// The types of parts that are text: of the chat API, and of the responses API, whose parts some clients send.
const TEXT_TYPES: [&str; 3] = ["text", "input_text", "output_text"];
/// The longest name of an author, in characters.
const LONGEST_NAME: usize = 64;

/// Reads the messages.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `messages[2].content[0].type`.
pub(super) fn read(value: &RawValue) -> Result<Vec<Message>> {
    let items: Vec<&RawValue> = parse(value, "messages", "a list of messages")?;
    items
        .into_iter()
        .enumerate()
        .map(|(at, item)| message(item, &format!("messages[{at}]")))
        .collect()
}

fn message(value: &RawValue, name: &str) -> Result<Message> {
    let mut fields = Fields::of(value, name)?;
    let role = role(&mut fields)?;
    let content = fields.take_raw("content");
    let author = author(&mut fields)?;
    let tool_calls = tools::calls(&mut fields)?;
    let tool_call_id = fields.take("tool_call_id", "the id of a tool call")?;
    // Unsupported fields first: a message with tool calls may well have no content.
    let known =
        |field: &str, value| check(rules::MESSAGE, field, &format!("{name}.{field}"), value);
    fields.finish(known)?;
    let name = format!("{name}.content");
    let content = match content {
        Some(content) => text(content, &name)?,
        // An answer without text, sent back.
        None if role == Role::Assistant => String::new(),
        None => return Err(missing(&name, CONTENT)),
    };
    Ok(Message { name: author, tool_calls, tool_call_id, ..Message::new(role, content) })
}

/// The name of the author, of the characters that OpenAI allows. An empty one counts as absent.
fn author(fields: &mut Fields<'_>) -> Result<Option<String>> {
    const NAME: &str = "1 to 64 characters without white space, <, |, \\, / and >";
    let Some(value) = fields.take_raw("name") else { return Ok(None) };
    let place = fields.name("name");
    let name: String = parse(value, &place, NAME)?;
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "<|\\/>".contains(c);
    if name.contains(is_bad) || name.chars().count() > LONGEST_NAME {
        return Err(not_allowed(value, &place, NAME));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

fn role(fields: &mut Fields<'_>) -> Result<Role> {
    const ROLES: &str = "\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
    let name: String = fields.require("role", ROLES)?;
    match name.as_str() {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        other => {
            let place = fields.name("role");
            let shown: String = other.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {ROLES}");
            Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
        }
    }
}

/// A text, or the texts of its parts, joined without a separator.
fn text(value: &RawValue, name: &str) -> Result<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => parse(value, name, CONTENT),
        Some(b'[') => {
            let parts: Vec<&RawValue> = parse(value, name, CONTENT)?;
            let parts = parts.into_iter().enumerate();
            parts.map(|(at, item)| part(item, &format!("{name}[{at}]"))).collect()
        }
        _ => Err(not_allowed(value, name, CONTENT)),
    }
}

fn part(value: &RawValue, name: &str) -> Result<String> {
    let mut fields = Fields::of(value, name)?;
    let kind: String = fields.require("type", "\"text\"")?;
    if !TEXT_TYPES.contains(&kind.as_str()) {
        let place = fields.name("type");
        let shown: String = kind.chars().take(60).collect();
        let message = format!("{place} is {shown:?}; allowed is \"text\": rbee reads text alone");
        return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
    }
    let text = fields.require("text", "a text")?;
    let known =
        |field: &str, value| check(rules::TEXT_PART, field, &format!("{name}.{field}"), value);
    fields.finish(known)?;
    Ok(text)
}
