//! A small validator of JSON Schema, written apart from the code that it checks.

use serde_json::Value;

/// Returns true if a value matches a schema. Patterns are not checked.
pub(super) fn matches(value: &Value, schema: &Value, root: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema.as_bool().unwrap() };
    schema.iter().all(|(keyword, wanted)| keyword_matches(value, keyword, wanted, schema, root))
}

fn keyword_matches(
    value: &Value,
    keyword: &str,
    wanted: &Value,
    schema: &serde_json::Map<String, Value>,
    root: &Value,
) -> bool {
    let list = || wanted.as_array().unwrap().iter();
    let number = |compare: fn(f64, f64) -> bool| {
        value.as_f64().is_none_or(|number| compare(number, wanted.as_f64().unwrap()))
    };
    let size = |length: Option<usize>, compare: fn(&usize, &usize) -> bool| {
        length.is_none_or(|length| compare(&length, &(wanted.as_u64().unwrap() as usize)))
    };
    let characters = value.as_str().map(|text| text.chars().count());
    let items = value.as_array().map(Vec::len);
    let members = value.as_object().map(serde_json::Map::len);
    match keyword {
        "type" => match wanted {
            Value::Array(names) => names.iter().any(|name| is_type(value, name)),
            name => is_type(value, name),
        },
        "enum" => list().any(|other| is_equal(value, other)),
        "const" => is_equal(value, wanted),
        "anyOf" => list().any(|schema| matches(value, schema, root)),
        "oneOf" => list().filter(|schema| matches(value, schema, root)).count() == 1,
        "allOf" => list().all(|schema| matches(value, schema, root)),
        "$ref" => {
            let place = wanted.as_str().unwrap().strip_prefix('#').unwrap();
            matches(value, root.pointer(&place.replace("%20", " ")).unwrap(), root)
        }
        "properties" => value.as_object().is_none_or(|object| {
            wanted.as_object().unwrap().iter().all(|(name, schema)| {
                object.get(name).is_none_or(|value| matches(value, schema, root))
            })
        }),
        "required" => value
            .as_object()
            .is_none_or(|object| list().all(|name| object.contains_key(name.as_str().unwrap()))),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known = schema.get("properties").and_then(Value::as_object);
            object
                .iter()
                .filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)))
                .all(|(_, value)| matches(value, wanted, root))
        }),
        "prefixItems" => value.as_array().is_none_or(|items| {
            items.iter().zip(list()).all(|(item, schema)| matches(item, schema, root))
        }),
        "items" => value.as_array().is_none_or(|items| {
            let first = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            items.iter().skip(first).all(|item| matches(item, wanted, root))
        }),
        "minimum" => number(|a, b| a >= b),
        "maximum" => number(|a, b| a <= b),
        "exclusiveMinimum" => number(|a, b| a > b),
        "exclusiveMaximum" => number(|a, b| a < b),
        "multipleOf" => number(|a, b| ((a / b).round() - a / b).abs() < 1e-6),
        "minLength" => size(characters, usize::ge),
        "maxLength" => size(characters, usize::le),
        "minItems" => size(items, usize::ge),
        "maxItems" => size(items, usize::le),
        "minProperties" => size(members, usize::ge),
        "maxProperties" => size(members, usize::le),
        "$defs" | "title" | "description" | "default" | "pattern" => true,
        other => panic!("the validator does not know {other}"),
    }
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

/// Numbers are equal by value.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        (a, b) => a == b,
    }
}
