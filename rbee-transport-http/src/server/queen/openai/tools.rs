//! Reads the tools of a request, and the calls in its messages.

use rbee_core::{
    Error, ErrorKind, Request, Result,
    request::{Tool, ToolCall, ToolChoice},
};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, not_allowed, parse},
};

const FUNCTION: &str = "\"function\"";

/// Reads the tools, and which of them the model calls.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `tools[2].function.name`.
pub(super) fn take(fields: &mut Fields<'_>, mut request: Request) -> Result<Request> {
    if let Some(tools) = fields.take_raw("tools") {
        let tools: Vec<&RawValue> = parse(tools, "tools", "a list of tools")?;
        for (at, item) in tools.into_iter().enumerate() {
            request = request.tool(tool(item, &format!("tools[{at}]"))?);
        }
    }
    if let Some(choice) = fields.take_raw("tool_choice") {
        request = request.tool_choice(tool_choice(choice)?);
    }
    if let Some(parallel) = fields.take("parallel_tool_calls", "true or false")? {
        request = request.parallel_tool_calls(parallel);
    }
    Ok(request)
}

fn tool(value: &RawValue, name: &str) -> Result<Tool> {
    let mut fields = Fields::of(value, name)?;
    function_type(&mut fields)?;
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

/// Checks that the type is that of a function.
fn function_type(fields: &mut Fields<'_>) -> Result<()> {
    let kind: String = fields.require("type", FUNCTION)?;
    if kind == "function" {
        return Ok(());
    }
    let place = fields.name("type");
    let shown: String = kind.chars().take(60).collect();
    let message = format!("{place} is {shown:?}; allowed is {FUNCTION}");
    Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
}

fn tool_choice(value: &RawValue) -> Result<ToolChoice> {
    const CHOICE: &str = "\"none\", \"auto\", \"required\", or {\"type\": \"function\", \"function\": {\"name\": …}}";
    match value.get() {
        "\"none\"" => return Ok(ToolChoice::None),
        "\"auto\"" => return Ok(ToolChoice::Auto),
        "\"required\"" => return Ok(ToolChoice::Required),
        text if !text.starts_with('{') => return Err(not_allowed(value, "tool_choice", CHOICE)),
        _ => {}
    }
    let mut fields = Fields::of(value, "tool_choice")?;
    function_type(&mut fields)?;
    let function: &RawValue = fields.require("function", "an object")?;
    finish(fields, &[])?;
    let mut fields = Fields::of(function, "tool_choice.function")?;
    let name = fields.require("name", "the name of a tool")?;
    finish(fields, &[])?;
    Ok(ToolChoice::Named(name))
}

/// Reads the calls of a message.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place.
pub(super) fn calls(fields: &mut Fields<'_>) -> Result<Vec<ToolCall>> {
    let place = fields.name("tool_calls");
    let Some(calls) = fields.take_raw("tool_calls") else { return Ok(Vec::new()) };
    let calls: Vec<&RawValue> = parse(calls, &place, "a list of tool calls")?;
    calls.into_iter().enumerate().map(|(at, item)| call(item, &format!("{place}[{at}]"))).collect()
}

fn call(value: &RawValue, name: &str) -> Result<ToolCall> {
    let mut fields = Fields::of(value, name)?;
    function_type(&mut fields)?;
    let id = fields.require("id", "the id of the call")?;
    let function: &RawValue = fields.require("function", "an object")?;
    finish(fields, &[rules::TOOL_CALL])?;
    let mut fields = Fields::of(function, &format!("{name}.function"))?;
    let function = fields.require("name", "the name of the function")?;
    let arguments = fields.take_raw("arguments").map_or(Ok(String::new()), |arguments| {
        match arguments.get().as_bytes().first() {
            // Some clients send back the object itself.
            Some(b'{') => Ok(arguments.get().to_owned()),
            _ => parse(arguments, &fields.name("arguments"), "a JSON object, as a text"),
        }
    })?;
    finish(fields, &[rules::TOOL_CALL])?;
    // A call without arguments, as some models and clients write it.
    let arguments = if arguments.trim().is_empty() { "{}".into() } else { arguments };
    Ok(ToolCall { id, name: function, arguments })
}
