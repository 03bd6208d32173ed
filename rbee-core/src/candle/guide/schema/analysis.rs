//! References that lead nowhere: in a circle without a value between, or to values without an end.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::error::Error;

/// Checks the references of a normalized schema.
pub(super) fn check(
    root: &Value,
    definitions: &Map<String, Value>,
    places: &[(String, String)],
) -> Result<(), Error> {
    let graph = Graph { definitions, places };
    graph.check_circles()?;
    graph.check_ends(root)
}

struct Graph<'a> {
    definitions: &'a Map<String, Value>,
    places: &'a [(String, String)],
}

impl Graph<'_> {
    /// The place of a definition in the client's schema.
    fn place(&self, name: &str) -> String {
        let found = self.places.iter().find(|(_, other)| other == name);
        found.map_or_else(String::new, |(place, _)| format!("#{place}"))
    }

    /// Finds references that come back to themselves without a part of a value between.
    fn check_circles(&self) -> Result<(), Error> {
        let edges: HashMap<&str, Vec<&str>> = self
            .definitions
            .iter()
            .map(|(name, schema)| {
                let mut targets = Vec::new();
                same_place(schema, &mut targets);
                (name.as_str(), targets)
            })
            .collect();
        // Removes definitions that refer to none that is left; what remains is in a circle, or leads to one.
        let mut left: Vec<&str> = self.definitions.keys().map(String::as_str).collect();
        loop {
            let leads_on = |name: &&str| {
                edges.get(*name).is_some_and(|targets| targets.iter().any(|to| left.contains(to)))
            };
            let next: Vec<&str> = left.iter().copied().filter(leads_on).collect();
            if next.len() == left.len() {
                break;
            }
            left = next;
        }
        let Some(first) = left.first() else { return Ok(()) };
        let mut path = vec![*first];
        while let Some(to) = path
            .last()
            .and_then(|name| edges.get(name))
            .and_then(|targets| targets.iter().find(|to| left.contains(to)))
        {
            if let Some(start) = path.iter().position(|name| name == to) {
                path.drain(..start);
                path.push(to);
                break;
            }
            path.push(to);
        }
        let circle: Vec<String> = path.iter().take(8).map(|name| self.place(name)).collect();
        Err(Error::invalid(format!(
            "the references of the JSON schema go in a circle: {}; put a property or an item between",
            circle.join(" -> ")
        )))
    }

    /// Finds definitions whose values would have to contain themselves without end.
    fn check_ends(&self, root: &Value) -> Result<(), Error> {
        let mut finite: HashMap<&str, bool> =
            self.definitions.keys().map(|name| (name.as_str(), false)).collect();
        loop {
            let found: Vec<&str> = self
                .definitions
                .iter()
                .filter(|(name, schema)| !finite[name.as_str()] && has_end(schema, &finite))
                .map(|(name, _)| name.as_str())
                .collect();
            if found.is_empty() {
                break;
            }
            finite.extend(found.into_iter().map(|name| (name, true)));
        }
        if has_end(root, &finite) {
            return Ok(());
        }
        let endless = self.definitions.keys().find(|name| !finite[name.as_str()]);
        let place = endless.map_or_else(|| "#".into(), |name| self.place(name));
        Err(Error::invalid(format!(
            "each value of {place} in the JSON schema must contain another one, without end; make the inner one optional"
        )))
    }
}

fn target(reference: &Value) -> Option<&str> {
    reference.as_str()?.strip_prefix("#/$defs/")
}

/// The definitions that a value of this schema must match as a whole.
fn same_place<'a>(schema: &'a Value, targets: &mut Vec<&'a str>) {
    let Some(schema) = schema.as_object() else { return };
    targets.extend(schema.get("$ref").and_then(target));
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let inner = schema.get(keyword).and_then(Value::as_array);
        inner.into_iter().flatten().for_each(|schema| same_place(schema, targets));
    }
}

/// Returns true if the references alone leave a value with an end. Other conflicts are not looked at.
fn has_end(schema: &Value, finite: &HashMap<&str, bool>) -> bool {
    let Some(object) = schema.as_object() else { return true };
    let list = |keyword: &str| object.get(keyword).and_then(Value::as_array);
    let is_finite = |schema: &Value| has_end(schema, finite);
    let in_place = object
        .get("$ref")
        .and_then(target)
        .is_none_or(|name| finite.get(name).copied().unwrap_or(true))
        && list("allOf").is_none_or(|all| all.iter().all(is_finite))
        && list("anyOf").is_none_or(|any| any.iter().any(is_finite))
        && list("oneOf").is_none_or(|any| any.iter().any(is_finite));
    in_place && (may_be_scalar(object) || parts_have_end(object, finite))
}

/// Returns true if a value may be neither an object nor an array.
fn may_be_scalar(schema: &Map<String, Value>) -> bool {
    let is_scalar = |name: &Value| name != "object" && name != "array";
    match schema.get("type") {
        None => true,
        Some(Value::Array(names)) => names.iter().any(is_scalar),
        Some(name) => is_scalar(name),
    }
}

/// Returns true if an object or an array of this schema has only parts with an end.
fn parts_have_end(schema: &Map<String, Value>, finite: &HashMap<&str, bool>) -> bool {
    let allows = |name: &str| match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(|other| other == name),
        Some(other) => other == name,
        None => true,
    };
    let object = || {
        let properties = schema.get("properties");
        let required = schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str).all(|name| {
            properties
                .and_then(|properties| properties.get(name))
                .or_else(|| schema.get("additionalProperties"))
                .is_none_or(|schema| has_end(schema, finite))
        })
    };
    let array = || {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        let prefix: Vec<&Value> = prefix.into_iter().flatten().collect();
        prefix.iter().take(least).all(|schema| has_end(schema, finite))
            && (least <= prefix.len()
                || schema.get("items").is_none_or(|schema| has_end(schema, finite)))
    };
    (allows("object") && object()) || (allows("array") && array())
}
