//! The keywords of JSON Schema: which are enforced, which have no effect on an answer, and which are refused.

use serde_json::Value;

/// Keywords that say something about a schema but allow and forbid nothing.
const ANNOTATIONS: [&str; 22] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

/// The keywords that are enforced.
const ENFORCED: [&str; 29] = [
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "required",
    "type",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Keywords that are refused, with advice.
const REFUSED: [(&str, &str); 15] = [
    ("$dynamicRef", "use $ref"),
    ("$recursiveRef", "use $ref"),
    ("contains", "use items for all items, or prefixItems for the first ones"),
    ("dependencies", "use anyOf with one schema for each case"),
    ("dependentRequired", "use anyOf with one schema for each case"),
    ("dependentSchemas", "use anyOf with one schema for each case"),
    ("else", "use anyOf with one schema for each case"),
    ("if", "use anyOf with one schema for each case"),
    ("maxContains", "use maxItems"),
    ("minContains", "use minItems"),
    ("not", "describe what is allowed, for example with enum or anyOf"),
    ("nullable", "use \"type\": [\"string\", \"null\"] with the type of the value"),
    ("propertyNames", "use patternProperties with additionalProperties false"),
    ("then", "use anyOf with one schema for each case"),
    ("unevaluatedItems", "use items"),
];

/// The values of `format` that are enforced.
pub(super) const FORMATS: [&str; 10] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];

/// What to do with a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Enforce,
    Ignore,
    /// Refuse it, with advice.
    Refuse(&'static str),
}

/// What to do with a keyword.
pub(super) fn treatment(keyword: &str) -> Treatment {
    if ENFORCED.contains(&keyword) {
        return Treatment::Enforce;
    }
    if ANNOTATIONS.contains(&keyword) || (keyword.starts_with("x-") && keyword != "x-guidance") {
        return Treatment::Ignore;
    }
    let refused = REFUSED.iter().find(|(name, _)| *name == keyword);
    Treatment::Refuse(refused.map_or("leave it out, or check its spelling", |(_, advice)| advice))
}

/// The schemas directly within a normalized schema, with their places in it.
pub(super) fn children(schema: &Value) -> Vec<(Vec<String>, &Value)> {
    let mut children = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(schemas)) => {
                let named = schemas.iter();
                children.extend(
                    named.map(|(name, schema)| (vec![keyword.clone(), name.clone()], schema)),
                );
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                let listed = schemas.iter().enumerate();
                children.extend(
                    listed.map(|(at, schema)| (vec![keyword.clone(), at.to_string()], schema)),
                );
            }
            ("items" | "additionalProperties", schema) => {
                children.push((vec![keyword.clone()], schema));
            }
            _ => {}
        }
    }
    children
}
