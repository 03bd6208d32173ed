//! Objects with no properties but those that a schema names.
//!
//! By the standard, an object may have any further properties unless `additionalProperties` says otherwise. Hardly
//! anybody who writes a schema for an answer means that, and a small model does not stop writing them. An answer of the
//! closed schema is one of the original, too.

use serde_json::{Map, Value};

/// The schema in this text, with `additionalProperties: false` in each object that does not say anything about further
/// properties and names some. Objects that several schemas describe together stay as they are, and so does a text that is
/// not a schema, which is refused later.
pub(super) fn closed(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(mut schema) if !combines(&schema) => {
            close(&mut schema, false);
            schema.to_string()
        }
        _ => text.to_owned(),
    }
}

/// Returns true if several schemas describe one object together anywhere: by `allOf`, or by a reference beside other
/// keywords.
fn combines(value: &Value) -> bool {
    const BESIDE: [&str; 4] = ["properties", "required", "anyOf", "oneOf"];
    match value {
        Value::Object(map) => {
            let beside = || BESIDE.iter().any(|name| map.contains_key(*name));
            let is_reference = |schema: &Value| schema.get("$ref").is_some();
            let has_references = ["anyOf", "oneOf"].iter().any(|name| {
                let schemas = map.get(*name).and_then(Value::as_array);
                schemas.is_some_and(|schemas| schemas.iter().any(is_reference))
            });
            map.contains_key("allOf")
                || (map.contains_key("$ref") && beside())
                || (has_references
                    && (map.contains_key("properties") || map.contains_key("required")))
                || map.values().any(combines)
        }
        Value::Array(list) => list.iter().any(combines),
        _ => false,
    }
}

/// The schema of a tool's arguments, closed; they are always an object.
pub(super) fn closed_arguments(text: &str) -> String {
    match serde_json::from_str::<Value>(&closed(text)) {
        Ok(Value::Object(mut schema)) if !schema.get("type").is_some_and(Value::is_string) => {
            schema.insert("type".into(), "object".into());
            Value::Object(schema).to_string()
        }
        Ok(schema) => schema.to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Closes a schema and those in it. `is_part` says that another schema describes the same object.
fn close(schema: &mut Value, is_part: bool) {
    let Value::Object(map) = schema else { return };
    let has = |name: &str| map.contains_key(name);
    let is_combined = has("anyOf") || has("oneOf") || has("$ref");
    let says_more = has("additionalProperties")
        || has("patternProperties")
        || has("unevaluatedProperties")
        || has("minProperties");
    if !is_part && !is_combined && !says_more && names_all_required(map) {
        map.insert("additionalProperties".into(), false.into());
    }
    let describes = map.contains_key("properties");
    for (name, value) in map.iter_mut() {
        match (name.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| close(schema, false));
            }
            ("items", value @ Value::Object(_)) => close(value, false),
            ("prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| close(schema, false));
            }
            ("anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| close(schema, is_part || describes));
            }
            _ => {}
        }
    }
}

/// Returns true if it is a schema of an object with named properties, and names all those that it requires.
fn names_all_required(map: &Map<String, Value>) -> bool {
    let Some(Value::Object(properties)) = map.get("properties") else { return false };
    let mut required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    required.all(|name| name.as_str().is_some_and(|name| properties.contains_key(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed_value(schema: &Value) -> Value {
        serde_json::from_str(&closed(&schema.to_string())).unwrap()
    }

    #[test]
    fn objects_that_say_nothing_of_further_properties_have_none() {
        let object = json!({"type": "object", "properties": {"a": {"properties": {"b": {}}}}, "required": ["a"]});
        let of_object = json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"properties": {"b": {}}, "additionalProperties": false}},
        });
        assert_eq!(closed_value(&object), of_object);
        for (schema, expected) in [
            (
                json!({"items": object, "$defs": {"x": object}}),
                json!({"items": of_object, "$defs": {"x": of_object}}),
            ),
            (
                json!({"anyOf": [object, {"type": "null"}]}),
                json!({"anyOf": [of_object, {"type": "null"}]}),
            ),
        ] {
            assert_eq!(closed_value(&schema), expected);
        }
    }

    #[test]
    fn objects_that_say_something_of_them_or_are_described_together_stay_as_they_are() {
        for schema in [
            json!({"type": "object"}),
            json!({"properties": {"a": {}}, "additionalProperties": true}),
            json!({"properties": {"a": {}}, "patternProperties": {"^x": {}}}),
            json!({"properties": {"a": {}}, "minProperties": 2}),
            json!({"properties": {"a": {}}, "required": ["b"]}),
            json!({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!(true),
        ] {
            assert_eq!(closed_value(&schema), schema);
        }
        assert_eq!(closed("{"), "{");
    }

    #[test]
    fn objects_that_references_describe_too_stay_as_they_are() {
        let of_a = json!({"a": {"properties": {"x": {}}, "required": ["x"]}});
        for schema in [
            json!({"properties": {"k": {}}, "required": ["k"], "anyOf": [{"$ref": "#/$defs/a"}], "$defs": of_a}),
            json!({"$ref": "#/$defs/a", "properties": {"k": {}}, "$defs": of_a}),
        ] {
            assert_eq!(closed_value(&schema), schema);
        }
    }

    #[test]
    fn arguments_are_objects() {
        let of = |schema: &Value| -> Value {
            serde_json::from_str(&closed_arguments(&schema.to_string())).unwrap()
        };
        assert_eq!(of(&json!({})), json!({"type": "object"}));
        assert_eq!(of(&json!({"type": ["object", "null"]})), json!({"type": "object"}));
        assert_eq!(of(&json!({"type": "object"})), json!({"type": "object"}));
    }
}
