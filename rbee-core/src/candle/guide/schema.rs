//! JSON Schemas: checked, and reduced to what the library compiles.
//!
//! The library ignores some keywords, and reads others in other ways than the standard. So each keyword is checked
//! here, and a schema is made that has only keywords with the meaning of the standard. References are resolved here too:
//! each target becomes a definition with a short name.

mod analysis;
mod check;
mod keywords;
mod meeting;
mod multiples;
mod pointer;
mod values;

use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value, json};

use self::{check::Checker, multiples::Multiples, pointer::Pointer};
use super::{error::Error, limits};

/// What the schemas of one grammar have used of the limits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    schemas: usize,
    properties: usize,
    name_patterns: usize,
    enum_values: usize,
    multiples: Multiples,
}

impl Budget {
    pub(super) fn schema(&mut self, at: &Pointer) -> Result<(), Error> {
        self.schemas += 1;
        Self::check(self.schemas, limits::MAX_SCHEMAS, "schemas", at)
    }

    pub(super) fn properties(&mut self, count: usize, at: &Pointer) -> Result<(), Error> {
        self.properties += count;
        Self::check(self.properties, limits::MAX_PROPERTIES, "properties", at)
    }

    pub(super) fn name_patterns(&mut self, count: usize, at: &Pointer) -> Result<(), Error> {
        self.name_patterns += count;
        Self::check(self.name_patterns, limits::MAX_NAME_PATTERNS, "patternProperties", at)
    }

    pub(super) fn enum_values(&mut self, count: usize, at: &Pointer) -> Result<(), Error> {
        self.enum_values += count;
        Self::check(self.enum_values, limits::MAX_ENUM_VALUES, "values of enum and const", at)
    }

    pub(super) fn multiple(&mut self, value: &Value, at: &Pointer) -> Result<(), Error> {
        self.multiples.add(value, at)
    }

    fn check(count: usize, most: usize, what: &str, at: &Pointer) -> Result<(), Error> {
        if count > most {
            return Err(Error::too_complex(format!(
                "the JSON schema has more than {most} {what} in total, counted up to {at}; use fewer"
            )));
        }
        Ok(())
    }
}

/// The schema of any JSON object.
pub(super) fn any_object() -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    with_options(schema)
}

/// The schema in this text, as the library is to compile it.
pub(super) fn normalize(text: &str) -> Result<Value, Error> {
    normalize_within(text, &mut Budget::default())
}

/// The same for one of the schemas of a grammar.
pub(super) fn normalize_within(text: &str, budget: &mut Budget) -> Result<Value, Error> {
    Ok(with_options(Checker::new(&parse(text)?, budget).run()?.schema))
}

fn parse(text: &str) -> Result<Value, Error> {
    // The parser refuses more than 128 levels, so nothing here recurses deeper.
    serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("the JSON schema is not valid JSON: {error}")))
}

/// White space and escapes in answers; the documentation of the module has the reasons.
fn options() -> JsonCompileOptions {
    JsonCompileOptions {
        item_separator: ", ?".into(),
        key_separator: ": ?".into(),
        whitespace_flexible: false,
        json_allowed_escapes: Some("nrbtf\\\"".into()),
        ..JsonCompileOptions::default()
    }
}

fn with_options(mut schema: Map<String, Value>) -> Value {
    let JsonCompileOptions { item_separator, key_separator, json_allowed_escapes, .. } = options();
    let options = json!({
        "item_separator": item_separator,
        "key_separator": key_separator,
        "whitespace_flexible": false,
        "json_allowed_escapes": json_allowed_escapes,
    });
    schema.insert("x-guidance".into(), options);
    Value::Object(schema)
}

/// The error for a schema that passes all checks, but that the library refuses: with the place, if it can be found.
pub(super) fn explain(text: &str, detail: &str) -> Error {
    let mut budget = Budget::default();
    let found = parse(text).and_then(|root| Checker::new(&root, &mut budget).run());
    let place = found.ok().and_then(|checked| place_of_failure(&checked));
    let (place, detail) = place.unwrap_or_else(|| ("/".into(), detail.to_owned()));
    Error::invalid(format!("the JSON schema cannot be used, at {place}: {}", advice(&detail)))
}

/// The innermost part that fails by itself, with the message of the library.
fn place_of_failure(checked: &check::Checked) -> Option<(String, String)> {
    let definitions = checked.schema.get("$defs");
    let compile = |schema: &Value| -> Option<String> {
        let mut schema = schema.as_object()?.clone();
        if let Some(definitions) = definitions {
            schema.insert("$defs".into(), definitions.clone());
        }
        let builder = GrammarBuilder::new(None, limits::parser_limits());
        let result = options().json_to_llg(builder, Value::Object(schema));
        result.err().map(|error| super::error::detail(&error.to_string()))
    };
    let mut roots: Vec<(&str, &Value)> = Vec::new();
    for (place, name) in &checked.places {
        roots.push((place, definitions?.get(name)?));
    }
    let root = Value::Object(checked.schema.clone());
    roots.push(("", &root));
    let (mut at, mut schema, mut message) = roots.into_iter().find_map(|(place, schema)| {
        Some((Pointer::from(place.to_owned()), schema, compile(schema)?))
    })?;
    while let Some(inner) = keywords::children(schema).into_iter().find_map(|(path, schema)| {
        let place = path.iter().fold(at.clone(), |at, part| at.join(part));
        Some((place, schema, compile(schema)?))
    }) {
        (at, schema, message) = inner;
    }
    // Later names first: each may be the beginning of a later one.
    let message = checked.places.iter().rev().fold(message, |message, (place, name)| {
        message.replace(&format!("#/$defs/{name}"), &format!("#{place}"))
    });
    Some((at.to_string(), message))
}

/// Adds what to do to a message of the library.
fn advice(detail: &str) -> String {
    let advice = if detail.contains("oneOf constraints") {
        return "the options of oneOf cannot be told apart (by their types, or by a required property with different \
                const values); use anyOf if more than one may match"
            .into();
    } else if detail.contains("lookaround") || detail.contains("look-around") {
        "; look-around, word boundaries and anchors inside of a pattern are not supported"
    } else if detail.contains("not disjoint") {
        "; a name may match only one of the patterns"
    } else if detail.contains("min/maxProperties") {
        "; make the properties required, or leave minProperties and maxProperties out"
    } else {
        ""
    };
    format!("{detail}{advice}")
}
