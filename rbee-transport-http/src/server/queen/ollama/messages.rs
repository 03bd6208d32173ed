//! The turns of a conversation, and its tools.
//!
//! Most of Ollama's clients send no ids of tool calls: a result belongs to the first call of its name, or to the first
//! call, that has no result yet.

use rbee_core::{
    Error, ErrorKind, Message, Result, Role,
    request::{Tool, ToolCall},
};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, parse},
};

/// Reads the messages.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `messages[2].role`.
pub(super) fn read(value: &RawValue) -> Result<Vec<Message>> {
    let items: Vec<&RawValue> = parse(value, "messages", "a list of messages")?;
    let mut turns = Turns::default();
    for (at, item) in items.into_iter().enumerate() {
        turns.add(item, at)?;
    }
    Ok(turns.messages)
}

#[derive(Default)]
struct Turns {
    messages: Vec<Message>,
    /// The calls that have no result yet.
    open: Vec<OpenCall>,
}

struct OpenCall {
    id: String,
    name: String,
}

impl Turns {
    fn add(&mut self, value: &RawValue, at: usize) -> Result<()> {
        const TEXT: &str = "a text";
        let mut fields = Fields::of(value, &format!("messages[{at}]"))?;
        let role = role(&mut fields)?;
        let content: Option<String> = fields.take("content", TEXT)?;
        let tool_calls = calls(&mut fields, at)?;
        let tool: Option<String> = fields.take("tool_name", "the name of a tool")?;
        let tool = tool.filter(|name| !name.is_empty());
        let id: Option<String> = fields.take("tool_call_id", "the id of a tool call")?;
        let [place, tool_place] = ["content", "tool_name"].map(|field| fields.name(field));
        // Unsupported fields first: a message with images may well have no text.
        finish(fields, &[rules::MESSAGE])?;
        let content = match content {
            Some(content) => content,
            // An answer without text, sent back.
            None if role == Role::Assistant => String::new(),
            None => return Err(missing(&place, TEXT)),
        };
        if role == Role::Tool {
            let call = self.call_of(id.as_deref(), tool.as_deref(), at);
            let message = Message { name: tool, ..Message::tool_result(call, content) };
            self.messages.push(message);
            return Ok(());
        }
        if tool.is_some() {
            let message = format!(
                "{tool_place} is in a message of role {:?}; allowed is \"tool\"",
                role.as_str()
            );
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param(tool_place)
            );
        }
        let open = |call: &ToolCall| OpenCall { id: call.id.clone(), name: call.name.clone() };
        self.open.extend(tool_calls.iter().map(open));
        self.messages.push(Message { tool_call_id: id, tool_calls, ..Message::new(role, content) });
        Ok(())
    }

    /// The id of the call with this result. If a client has cut the history between a call and its result, the
    /// conversation gets a call without arguments.
    fn call_of(&mut self, id: Option<&str>, name: Option<&str>, at: usize) -> String {
        let by_id = id.and_then(|id| self.open.iter().position(|call| call.id == id));
        let by_name = || match name {
            Some(name) => self.open.iter().position(|call| call.name == name),
            None => (!self.open.is_empty()).then_some(0),
        };
        if let Some(found) = by_id.or_else(by_name) {
            return self.open.remove(found).id;
        }
        let call = ToolCall {
            id: call_id(at, 0),
            name: name.unwrap_or("tool").to_owned(),
            arguments: "{}".into(),
        };
        let id = call.id.clone();
        let message = Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") };
        self.messages.push(message);
        id
    }
}

/// The id of a call that was sent without one.
fn call_id(message: usize, index: usize) -> String {
    format!("call_{message}_{index}")
}

fn role(fields: &mut Fields<'_>) -> Result<Role> {
    const ROLES: &str = "\"system\", \"user\", \"assistant\" or \"tool\"";
    let name: String = fields.require("role", ROLES)?;
    match name.to_ascii_lowercase().as_str() {
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        _ => {
            let place = fields.name("role");
            let shown: String = name.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {ROLES}");
            Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
        }
    }
}

fn calls(fields: &mut Fields<'_>, at: usize) -> Result<Vec<ToolCall>> {
    let place = fields.name("tool_calls");
    let Some(calls) = fields.take_raw("tool_calls") else { return Ok(Vec::new()) };
    let calls: Vec<&RawValue> = parse(calls, &place, "a list of tool calls")?;
    let calls = calls.into_iter().enumerate();
    calls
        .map(|(index, item)| call(item, &format!("{place}[{index}]"), call_id(at, index)))
        .collect()
}

fn call(value: &RawValue, name: &str, derived_id: String) -> Result<ToolCall> {
    let mut fields = Fields::of(value, name)?;
    let id: Option<String> = fields.take("id", "the id of the call")?;
    let function: &RawValue = fields.require("function", "an object")?;
    finish(fields, &[rules::TOOL_CALL])?;
    let mut fields = Fields::of(function, &format!("{name}.function"))?;
    let function = fields.require("name", "the name of the function")?;
    let arguments = match fields.take_raw("arguments") {
        None => String::new(),
        // As OpenAI's clients send them.
        Some(text) if text.get().starts_with('"') => {
            parse(text, &fields.name("arguments"), "an object")?
        }
        Some(object) => object.get().to_owned(),
    };
    finish(fields, &[rules::TOOL_CALL])?;
    let arguments = if arguments.trim().is_empty() { "{}".into() } else { arguments };
    Ok(ToolCall {
        id: id.filter(|id| !id.is_empty()).unwrap_or(derived_id),
        name: function,
        arguments,
    })
}

/// Reads the tools.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `tools[2].function.name`.
pub(super) fn tools(fields: &mut Fields<'_>) -> Result<Vec<Tool>> {
    let Some(tools) = fields.take_raw("tools") else { return Ok(Vec::new()) };
    let tools: Vec<&RawValue> = parse(tools, "tools", "a list of tools")?;
    tools.into_iter().enumerate().map(|(at, item)| tool(item, &format!("tools[{at}]"))).collect()
}

fn tool(value: &RawValue, name: &str) -> Result<Tool> {
    let mut fields = Fields::of(value, name)?;
    let function: &RawValue = fields.require("function", "an object")?;
    finish(fields, &[rules::TOOL])?;
    let mut fields = Fields::of(function, &format!("{name}.function"))?;
    let tool = Tool {
        name: fields.require("name", "the name of a function")?,
        description: fields.take("description", "a text")?,
        parameters: fields.take_raw("parameters").map(|schema| schema.get().to_owned()),
    };
    finish(fields, &[rules::FUNCTION])?;
    Ok(tool)
}
