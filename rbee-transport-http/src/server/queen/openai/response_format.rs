//! Reads what an answer must look like.

use rbee_core::{Error, ErrorKind, Result, request::Grammar};
use serde_json::value::RawValue;

use super::rules;
use crate::server::queen::{field_rules::finish, fields::Fields};

const TYPES: &str = "\"text\", \"json_object\", \"json_schema\", \"regex\" or \"lark\"";

/// Reads the format.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `response_format.json_schema.schema`.
pub(super) fn take(fields: &mut Fields<'_>) -> Result<Option<Grammar>> {
    let Some(value) = fields.take_raw("response_format") else { return Ok(None) };
    let mut format = Fields::of(value, "response_format")?;
    let kind: String = format.require("type", TYPES)?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Grammar::JsonObject),
        "json_schema" => {
            let schema: &RawValue = format.require("json_schema", "an object with a schema")?;
            Some(json_schema(schema)?)
        }
        "regex" => Some(Grammar::Regex(format.require("regex", "a regular expression")?)),
        "lark" => Some(Grammar::Lark(format.require("lark", "a grammar")?)),
        other => {
            let shown: String = other.chars().take(60).collect();
            let message = format!("response_format.type is {shown:?}; allowed is {TYPES}");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                .with_param("response_format.type"));
        }
    };
    finish(format, &[])?;
    Ok(grammar)
}

fn json_schema(value: &RawValue) -> Result<Grammar> {
    let mut fields = Fields::of(value, "response_format.json_schema")?;
    let schema: &RawValue = fields.require("schema", "a JSON schema")?;
    finish(fields, &[rules::JSON_SCHEMA])?;
    Ok(Grammar::JsonSchema(schema.get().to_owned()))
}
