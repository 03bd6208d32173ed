//! The tools of a request, and which of them the model calls.

use rbee_core::{
    Error, ErrorKind, Request, Result,
    request::{Tool, ToolChoice},
};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, not_allowed, parse},
};

/// Reads `tools` and `tool_choice`.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `tools[2].type`.
pub(super) fn take(fields: &mut Fields<'_>, mut request: Request) -> Result<Request> {
    if let Some(tools) = fields.take_raw("tools") {
        let tools: Vec<&RawValue> = parse(tools, "tools", "a list of tools")?;
        for (at, item) in tools.into_iter().enumerate() {
            request = request.tool(tool(item, &format!("tools[{at}]"))?);
        }
    }
    if let Some(choice) = fields.take_raw("tool_choice") {
        request = tool_choice(choice, request)?;
    }
    Ok(request)
}

fn tool(value: &RawValue, name: &str) -> Result<Tool> {
    const CUSTOM: &str = "\"custom\", a tool of the client: rbee has no tools of its own";
    const SCHEMA: &str = "the JSON schema of the arguments, an object";
    let mut fields = Fields::of(value, name)?;
    if let Some(kind) = fields.take_raw("type")
        && kind.get() != "\"custom\""
    {
        return Err(not_allowed(kind, &fields.name("type"), CUSTOM));
    }
    if let Some(callers) = fields.take_raw("allowed_callers") {
        const DIRECT: &str = "[\"direct\"]";
        let place = fields.name("allowed_callers");
        let callers_read: Vec<String> = parse(callers, &place, DIRECT)?;
        if callers_read != ["direct"] {
            return Err(not_allowed(callers, &place, DIRECT));
        }
    }
    let place = fields.name("input_schema");
    let schema = fields.take_raw("input_schema").ok_or_else(|| missing(&place, SCHEMA))?;
    if !schema.get().starts_with('{') {
        return Err(not_allowed(schema, &place, SCHEMA));
    }
    let tool = Tool {
        name: fields.require("name", "the name of a tool")?,
        description: fields.take("description", "a text")?,
        parameters: Some(schema.get().to_owned()),
    };
    finish(fields, &[rules::TOOL])?;
    Ok(tool)
}

fn tool_choice(value: &RawValue, request: Request) -> Result<Request> {
    const TYPES: &str = "\"auto\", \"any\", \"tool\" or \"none\"";
    let mut fields = Fields::of(value, "tool_choice")?;
    let kind: String = fields.require("type", TYPES)?;
    let choice = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(fields.require("name", "the name of a tool")?),
        "none" => ToolChoice::None,
        other => {
            let shown: String = other.chars().take(60).collect();
            let message = format!("tool_choice.type is {shown:?}; allowed is {TYPES}");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                .with_param("tool_choice.type"));
        }
    };
    let is_single: Option<bool> = fields.take("disable_parallel_tool_use", "true or false")?;
    finish(fields, &[])?;
    let request = request.tool_choice(choice);
    Ok(if is_single == Some(true) { request.parallel_tool_calls(false) } else { request })
}
