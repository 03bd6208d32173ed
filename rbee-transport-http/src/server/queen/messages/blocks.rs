//! The blocks of a message.

use rbee_core::{Error, ErrorKind, Result, request::ToolCall};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, not_allowed, parse},
};

pub(super) const CONTENT: &str = "a text, or a list of blocks";
/// Between the texts of several blocks.
const BREAK: &str = "\n\n";

/// A block of a message.
#[derive(Debug)]
pub(super) enum Block {
    Text(String),
    Call(ToolCall),
    Result {
        call: String,
        text: String,
    },
    /// Earlier thinking, which the model does not read.
    Thinking,
}

/// The types of blocks that a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Of instructions, and of a result.
    Text,
    /// Of a message of the user.
    User,
    /// Of a message of the assistant.
    Assistant,
}

impl Allowed {
    const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["text"],
            Self::User => &["text", "tool_result"],
            Self::Assistant => &["text", "tool_use", "thinking", "redacted_thinking"],
        }
    }
}

/// Reads the content of a message, with the place of each block.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `messages[2].content[0].type`.
pub(super) fn read(value: &RawValue, name: &str, allowed: Allowed) -> Result<Vec<(String, Block)>> {
    match value.get().as_bytes().first() {
        Some(b'"') => Ok(vec![(name.to_owned(), Block::Text(parse(value, name, CONTENT)?))]),
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(value, name, CONTENT)?;
            let items = items.into_iter().enumerate().map(|(at, item)| {
                let name = format!("{name}[{at}]");
                let block = block(item, &name, allowed)?;
                Ok((name, block))
            });
            items.collect()
        }
        _ => Err(not_allowed(value, name, CONTENT)),
    }
}

/// Reads content that is only text.
///
/// # Errors
/// As [`read`].
pub(super) fn text(value: &RawValue, name: &str) -> Result<String> {
    let mut text = String::new();
    for (_, block) in read(value, name, Allowed::Text)? {
        if let Block::Text(next) = block {
            add_text(&mut text, &next);
        }
    }
    Ok(text)
}

/// Adds the text of another block, as a paragraph of its own.
pub(super) fn add_text(text: &mut String, next: &str) {
    if !text.is_empty() {
        text.push_str(BREAK);
    }
    text.push_str(next);
}

fn block(value: &RawValue, name: &str, allowed: Allowed) -> Result<Block> {
    let mut fields = Fields::of(value, name)?;
    let types = || {
        let types = allowed.types().iter().map(|name| format!("{name:?}"));
        types.collect::<Vec<_>>().join(", ")
    };
    let kind: String = fields.require("type", &types())?;
    if !allowed.types().contains(&kind.as_str()) {
        let place = fields.name("type");
        let shown: String = kind.chars().take(60).collect();
        let message = format!("{place} is {shown:?}; allowed is {}", types());
        return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
    }
    let (block, rules) = match kind.as_str() {
        "text" => (Block::Text(fields.require("text", "a text")?), rules::TEXT),
        "tool_use" => (Block::Call(call(&mut fields)?), rules::TOOL_USE),
        "tool_result" => (result(&mut fields)?, rules::TOOL_RESULT),
        _ => (Block::Thinking, rules::THINKING_BLOCK),
    };
    finish(fields, &[rules])?;
    Ok(block)
}

fn call(fields: &mut Fields<'_>) -> Result<ToolCall> {
    const INPUT: &str = "an object with the arguments of the call";
    let place = fields.name("input");
    let input = fields.take_raw("input").ok_or_else(|| missing(&place, INPUT))?;
    if !input.get().starts_with('{') {
        return Err(not_allowed(input, &place, INPUT));
    }
    Ok(ToolCall {
        id: fields.require("id", "the id of the call")?,
        name: fields.require("name", "the name of the tool")?,
        arguments: input.get().to_owned(),
    })
}

fn result(fields: &mut Fields<'_>) -> Result<Block> {
    let call = fields.require("tool_use_id", "the id of the call")?;
    let place = fields.name("content");
    let content = fields.take_raw("content");
    let mut text = content.map_or(Ok(String::new()), |content| text(content, &place))?;
    // Templates have no other way to say it.
    if fields.take("is_error", "true or false")? == Some(true) {
        text.insert_str(0, "Error: ");
    }
    Ok(Block::Result { call, text })
}
