//! How many patterns a string of an answer must match at once.
//!
//! The library follows all patterns that meet in one string together. With twenty of them a single step can take seconds
//! and gigabytes, and no limit of the library counts that work.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::{error::Error, limits};

/// Checks a normalized schema.
pub(super) fn check(root: &Value, definitions: &Map<String, Value>) -> Result<(), Error> {
    let most = limits::MAX_MEETING_PATTERNS;
    let mut known: HashMap<&str, usize> = HashMap::new();
    // A definition that joins itself with more patterns never comes to rest.
    for _ in 0..=most + 1 {
        let next: HashMap<&str, usize> = definitions
            .iter()
            .map(|(name, schema)| (name.as_str(), meeting(schema, &known)))
            .collect();
        if next == known {
            break;
        }
        known = next;
    }
    let all = definitions.values().chain([root]);
    let count = all.map(|schema| meeting(schema, &known)).max().unwrap_or(0);
    if count > most {
        return Err(Error::too_complex(format!(
            "a value of the JSON schema has to match more than {most} of pattern and format at once, joined by allOf, anyOf \
             or $ref; use fewer"
        )));
    }
    Ok(())
}

/// An upper bound of the patterns that meet in one string within a value of this schema.
fn meeting(schema: &Value, known: &HashMap<&str, usize>) -> usize {
    let Some(object) = schema.as_object() else { return 0 };
    let of = |schema: &Value| meeting(schema, known);
    let one = |keyword: &str| object.get(keyword).map_or(0, of);
    let list = |keyword: &str| object.get(keyword).and_then(Value::as_array).into_iter().flatten();
    let named = |keyword: &str| {
        let schemas = object.get(keyword).and_then(Value::as_object);
        schemas.into_iter().flatten().map(|(_, schema)| of(schema)).max().unwrap_or(0)
    };
    let own =
        ["pattern", "format"].into_iter().filter(|keyword| object.contains_key(*keyword)).count();
    // A property can match a name and a pattern of names.
    let properties = named("properties") + named("patternProperties") + one("additionalProperties");
    let items = list("prefixItems").map(of).max().unwrap_or(0) + one("items");
    let target = object.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|target| target.strip_prefix("#/$defs/"));
    own.max(properties).max(items)
        + list("allOf").map(of).sum::<usize>()
        + list("anyOf").map(of).max().unwrap_or(0)
        + list("oneOf").map(of).max().unwrap_or(0)
        + target.and_then(|name| known.get(name).copied()).unwrap_or(0)
}
