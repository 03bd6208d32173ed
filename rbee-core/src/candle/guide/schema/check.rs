//! Checks a schema, and makes the one that the library compiles.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use super::{
    super::{error::Error, limits},
    Budget, analysis,
    keywords::{self, Treatment},
    meeting,
    pointer::{self, Pointer},
    values::{self, refused, shorten, wrong},
};

/// The keywords that hold for the value as a whole.
const APPLICATORS: [&str; 6] = ["$ref", "allOf", "anyOf", "const", "enum", "oneOf"];

/// A schema that has only what the library enforces as the standard says.
#[derive(Debug)]
pub(super) struct Checked {
    /// The schema, with its definitions in `$defs`.
    pub(super) schema: Map<String, Value>,
    /// The place of each definition in the client's schema, with its name in `$defs`.
    pub(super) places: Vec<(String, String)>,
}

/// Walks a schema from its root, and then the targets of its references, each once.
pub(super) struct Checker<'a> {
    root: &'a Value,
    budget: &'a mut Budget,
    /// The names of the targets of references, by place.
    names: HashMap<String, String>,
    /// Targets that were not checked yet.
    waiting: VecDeque<(String, &'a Value)>,
    /// The deepest nesting in the root, or in the target that is being checked, and the sum for those before.
    deepest: usize,
    levels: usize,
}

impl<'a> Checker<'a> {
    pub(super) fn new(root: &'a Value, budget: &'a mut Budget) -> Self {
        Self {
            root,
            budget,
            names: HashMap::new(),
            waiting: VecDeque::new(),
            deepest: 0,
            levels: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Checked, Error> {
        let root = self.whole(self.root, &Pointer::default())?;
        let mut definitions = Map::new();
        let mut places = Vec::new();
        while let Some((place, schema)) = self.waiting.pop_front() {
            let checked = self.whole(schema, &Pointer::from(place.clone()))?;
            let name = self.names.get(&place).cloned().unwrap_or_default();
            definitions.insert(name.clone(), checked);
            places.push((place, name));
        }
        analysis::check(&root, &definitions, &places)?;
        meeting::check(&root, &definitions)?;
        let mut schema = match root {
            Value::Object(schema) => schema,
            Value::Bool(false) => {
                return Err(Error::invalid("the JSON schema is false: it allows no value"));
            }
            _ => Map::new(),
        };
        if !definitions.is_empty() {
            schema.insert("$defs".into(), Value::Object(definitions));
        }
        Ok(Checked { schema, places })
    }

    /// Checks the root or the target of a reference.
    fn whole(&mut self, schema: &'a Value, at: &Pointer) -> Result<Value, Error> {
        self.deepest = 0;
        let checked = self.schema(schema, at, 0)?;
        self.levels += 1 + self.deepest;
        let most = limits::MAX_SCHEMA_LEVELS;
        if self.levels > most {
            return Err(Error::too_complex(format!(
                "the targets of $ref in the JSON schema have more than {most} levels of schemas together, counted up to \
                 {at}; use fewer"
            )));
        }
        Ok(checked)
    }

    fn schema(&mut self, schema: &'a Value, at: &Pointer, depth: usize) -> Result<Value, Error> {
        self.budget.schema(at)?;
        self.deepest = self.deepest.max(depth);
        if depth > limits::MAX_SCHEMA_DEPTH {
            let most = limits::MAX_SCHEMA_DEPTH;
            return Err(Error::too_complex(format!(
                "the JSON schema nests more than {most} schemas at {at}; move inner ones to $defs and use $ref"
            )));
        }
        let object = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(object) => object,
            other => return Err(wrong(at, "a schema", "an object, true or false", other)),
        };
        let mut checked = Map::new();
        // Keywords that apply other schemas come last: the library reads the others together only as long as they are
        // not interrupted.
        let (last, first): (Vec<_>, Vec<_>) =
            object.iter().partition(|(keyword, _)| APPLICATORS.contains(&keyword.as_str()));
        for (keyword, value) in first.into_iter().chain(last) {
            let place = at.join(keyword);
            if matches!(keyword.as_str(), "$id" | "id") {
                if at.as_str().is_empty() {
                    continue;
                }
                return Err(refused(
                    keyword,
                    &place,
                    "refer to schemas by their place, such as #/$defs/name",
                ));
            }
            match keywords::treatment(keyword) {
                Treatment::Ignore => {}
                Treatment::Refuse(advice) => return Err(refused(keyword, &place, advice)),
                Treatment::Enforce => {
                    self.keyword(object, keyword, value, &place, depth, &mut checked)?;
                }
            }
        }
        check_repetition(object, at)?;
        Ok(Value::Object(checked))
    }

    /// Checks one keyword, and adds it to the checked schema.
    fn keyword(
        &mut self,
        object: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
        at: &Pointer,
        depth: usize,
        checked: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        let value = match keyword {
            "$ref" => self.reference(value, at)?,
            "type" => values::types(value, at)?,
            "properties" | "patternProperties" => {
                let Value::Object(schemas) = value else {
                    return Err(wrong(at, keyword, "an object", value));
                };
                self.budget.properties(schemas.len(), at)?;
                if keyword == "patternProperties" {
                    self.budget.name_patterns(schemas.len(), at)?;
                }
                let mut all = Map::new();
                for (name, schema) in schemas {
                    if keyword == "patternProperties" {
                        values::pattern(name, keyword, at)?;
                    }
                    all.insert(name.clone(), self.schema(schema, &at.join(name), depth + 1)?);
                }
                Value::Object(all)
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => self.list(value, keyword, at, depth)?,
            // In older drafts a list in items is what prefixItems is now, and additionalItems is what items is now.
            "items" if value.is_array() => {
                if object.contains_key("prefixItems") {
                    return Err(refused(keyword, at, "it cannot be a list beside prefixItems"));
                }
                checked.insert("prefixItems".into(), self.list(value, keyword, at, depth)?);
                return Ok(());
            }
            "additionalItems" => {
                if object.get("items").is_some_and(Value::is_array) {
                    checked.insert("items".into(), self.schema(value, at, depth + 1)?);
                    return Ok(());
                }
                return Err(refused(
                    keyword,
                    at,
                    "use items, which is for the items after prefixItems",
                ));
            }
            "items" | "additionalProperties" => self.schema(value, at, depth + 1)?,
            "required" => {
                let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                let names = names.ok_or_else(|| wrong(at, keyword, "a list of strings", value))?;
                let named = object.get("properties").and_then(Value::as_object).map_or(0, Map::len);
                self.budget.properties(names.len().saturating_sub(named), at)?;
                value.clone()
            }
            "enum" => {
                let Value::Array(values) = value else {
                    return Err(wrong(at, keyword, "a list of values", value));
                };
                values.iter().try_for_each(|value| self.literal(value, at))?;
                value.clone()
            }
            "const" => {
                self.literal(value, at)?;
                value.clone()
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" => values::count(value, keyword, at)?,
            "multipleOf" => {
                let number = values::number(value, keyword, at)?;
                self.budget.multiple(&number, at)?;
                number
            }
            "minimum" | "maximum" => values::number(value, keyword, at)?,
            // Older drafts have true here, for the bound beside it.
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => value.clone(),
            "exclusiveMinimum" | "exclusiveMaximum" => values::number(value, keyword, at)?,
            "pattern" => {
                let text = value.as_str().ok_or_else(|| wrong(at, keyword, "a string", value))?;
                values::pattern(text, keyword, at)?;
                value.clone()
            }
            "format" => values::format(value, at)?,
            "uniqueItems" | "unevaluatedProperties" => {
                let harmless = keyword == "unevaluatedProperties";
                if value.as_bool() == Some(harmless) {
                    return Ok(());
                }
                let advice = if harmless { "use additionalProperties" } else { "leave it out" };
                return Err(refused(keyword, at, advice));
            }
            _ => return Err(refused(keyword, at, "leave it out")),
        };
        checked.insert(keyword.into(), value);
        Ok(())
    }

    fn list(
        &mut self,
        value: &'a Value,
        keyword: &str,
        at: &Pointer,
        depth: usize,
    ) -> Result<Value, Error> {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
            return Err(wrong(at, keyword, "a list of at least one schema", value));
        };
        let checked = schemas
            .iter()
            .enumerate()
            .map(|(index, schema)| self.schema(schema, &at.join(&index.to_string()), depth + 1));
        Ok(Value::Array(checked.collect::<Result<_, _>>()?))
    }

    /// Gives the target of a reference a short name, and remembers to check it.
    fn reference(&mut self, value: &Value, at: &Pointer) -> Result<Value, Error> {
        let text = value.as_str().ok_or_else(|| wrong(at, "$ref", "a string", value))?;
        let shown = shorten(text);
        let Some(place) = pointer::of_reference(text) else {
            return Err(refused(
                &format!("$ref {shown:?}"),
                at,
                "only references to a place in the same schema work, such as #/$defs/name; nothing is fetched",
            ));
        };
        let Some(target) = self.root.pointer(&place) else {
            return Err(Error::invalid(format!(
                "$ref {shown:?} at {at} refers to nothing; check the place it names"
            )));
        };
        let count = self.names.len();
        if let Some(name) = self.names.get(&place) {
            return Ok(json!(format!("#/$defs/{name}")));
        }
        if count >= limits::MAX_DEFINITIONS {
            let most = limits::MAX_DEFINITIONS;
            return Err(Error::too_complex(format!(
                "the JSON schema refers to more than {most} different schemas, counted up to {at}; use fewer"
            )));
        }
        let name = format!("d{count}");
        let reference = json!(format!("#/$defs/{name}"));
        self.names.insert(place.clone(), name);
        self.waiting.push_back((place, target));
        Ok(reference)
    }

    /// Checks a value of `enum` or `const`. Its depth is limited by the parser of the text.
    fn literal(&mut self, value: &Value, at: &Pointer) -> Result<(), Error> {
        self.budget.enum_values(1, at)?;
        match value {
            Value::Number(_) => values::number(value, "a value", at).map(drop),
            Value::String(text) => values::string(text, "a value", at),
            Value::Array(values) => values.iter().try_for_each(|value| self.literal(value, at)),
            Value::Object(values) => values.values().try_for_each(|value| self.literal(value, at)),
            _ => Ok(()),
        }
    }
}

/// Refuses bounds on the number of properties that repeated names could get around, and objects whose optional
/// properties take too much work.
fn check_repetition(object: &Map<String, Value>, at: &Pointer) -> Result<(), Error> {
    let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let least = object.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
    if least > required as u64 + 1 {
        return Err(Error::invalid(format!(
            "minProperties {least} at {at} needs more than one property whose name is free, and these may repeat; name \
             the properties in required"
        )));
    }
    let (optional, most) = (optional_properties(object), limits::MAX_OPTIONAL);
    if optional > most {
        return Err(Error::too_complex(format!(
            "the object at {at} has {optional} properties that are not required; allowed are {most}"
        )));
    }
    Ok(())
}

/// The properties that are not required, with those of `allOf`: the library joins them.
fn optional_properties(object: &Map<String, Value>) -> usize {
    let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let properties = object.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    let inner = object.get("allOf").and_then(Value::as_array);
    let inner = inner.into_iter().flatten().filter_map(Value::as_object).map(optional_properties);
    properties.saturating_sub(required) + inner.sum::<usize>()
}
