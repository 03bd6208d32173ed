//! The parameters of a call, each written with its name: the grammar of their values by the schema.
//!
//! They come in the order of the schema, and those that are not required can be absent. If their values are written
//! without quotes, a text is free up to the text that ends it: `pattern` and `format` are not enforced then.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{ParameterSyntax, control_tokens::Context, error::Error, lark::escaped, limits};
use crate::chat::callable::{TypeReader, ValueTypes};

/// The most references and combinations within each other that are followed. In deeper ones a value is any text, or any
/// value of the schema in JSON.
const MAX_NESTED: usize = 8;

/// The longest name of a parameter, in bytes: longer ones are not read as one.
const MAX_NAME: usize = 1_024;

/// Writes the rules of one tag, whose names begin with `prefix`, and returns the name of the first.
///
/// `schema` is normalized. Each rule `s` is for parameters that may be the first one, and `r` for those that are not.
pub(super) fn rules(
    lark: &mut String,
    prefix: &str,
    schema: &Map<String, Value>,
    syntax: &ParameterSyntax,
    context: &Context<'_>,
) -> Result<String, Error> {
    for keyword in ["$ref", "allOf", "anyOf", "oneOf", "enum", "const", "patternProperties"] {
        if schema.contains_key(keyword) {
            return Err(Error::invalid(format!(
                "{keyword} at / cannot be enforced in the syntax in which this model writes calls; describe the arguments \
                 as an object with properties"
            )));
        }
    }
    let mut writer = Writer {
        root: schema,
        types: TypeReader::new(schema),
        syntax,
        context,
        prefix,
        texts: Vec::new(),
        values: 0,
        bytes: 0,
    };
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let any = json!({});
    let mut named: Vec<(&str, &Value)> =
        properties.iter().map(|(name, value)| (&**name, value)).collect();
    let unnamed: BTreeSet<&str> =
        required.iter().copied().filter(|name| !properties.contains_key(*name)).collect();
    named.extend(unnamed.into_iter().map(|name| (name, &any)));
    let lines = |text: &str| context.lines(text, syntax.loose);
    let separator = lines(&syntax.separator)?;
    for (at, (name, value)) in named.iter().enumerate() {
        check_name(name, syntax)?;
        let next = at + 1;
        let (begin, end) =
            (lines(&[&*syntax.key_begin, name, &syntax.key_end].concat())?, lines(&syntax.end)?);
        let value = writer.value(value, 0)?.rule();
        let _ = writeln!(lark, "{prefix}p{at}: {begin} ({value}) {end}");
        let (first, rest) =
            (format!("{prefix}p{at} {prefix}r{next}"), format!("{separator} {prefix}p{at}"));
        let _ = match required.contains(name) {
            true => writeln!(lark, "{prefix}s{at}: {first}\n{prefix}r{at}: {rest} {prefix}r{next}"),
            false => writeln!(
                lark,
                "{prefix}s{at}: {first} | {prefix}s{next}\n{prefix}r{at}: ({rest})? {prefix}r{next}"
            ),
        };
    }
    let count = named.len();
    let additional = schema.get("additionalProperties").unwrap_or(&any);
    if *additional == Value::Bool(false) {
        let _ = writeln!(lark, "{prefix}s{count}: \"\"\n{prefix}r{count}: \"\"");
    } else {
        let (begin, key_end, end) =
            (lines(&syntax.key_begin)?, lines(&syntax.key_end)?, lines(&syntax.end)?);
        let value = writer.value(additional, 0)?.rule();
        let _ = writeln!(
            lark,
            "{prefix}o: {begin} /[a-zA-Z_][a-zA-Z0-9_]{{0,63}}/ {key_end} ({value}) {end}"
        );
        let _ = writeln!(
            lark,
            "{prefix}s{count}: ({prefix}o {prefix}r{count})?\n{prefix}r{count}: ({separator} {prefix}o)*"
        );
    }
    for (at, text) in writer.texts.iter().enumerate() {
        let _ = writeln!(lark, "{prefix}t{at}[lazy]: {text}");
    }
    Ok(format!("{prefix}s0"))
}

/// Checks that the parser of calls reads this name as one.
fn check_name(name: &str, syntax: &ParameterSyntax) -> Result<(), Error> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_read = match syntax.is_python {
        true => name.chars().all(is_word) && !name.starts_with(|c: char| c.is_numeric()),
        false => name.trim() == name && !name.contains(['<', '>', '"', '\n']),
    };
    if is_read && (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "parameter {name:?} cannot be enforced in the syntax in which this model writes calls; allowed are names of letters, \
         digits and _ that do not begin with a digit"
    )))
}

/// The grammar of a value, with the text that ends it.
enum Written {
    /// Any text, and so all other values.
    Text(String),
    Other(String),
}

impl Written {
    fn rule(self) -> String {
        match self {
            Self::Text(rule) | Self::Other(rule) => rule,
        }
    }
}

/// Writes the values of one schema.
struct Writer<'a> {
    root: &'a Map<String, Value>,
    types: TypeReader<'a>,
    syntax: &'a ParameterSyntax,
    context: &'a Context<'a>,
    /// The beginning of the names of rules.
    prefix: &'a str,
    /// The expressions of texts without quotes, each with its end.
    texts: Vec<String>,
    /// The values so far, and the bytes of their schemas.
    values: usize,
    bytes: usize,
}

impl Writer<'_> {
    fn value(&mut self, schema: &Value, nested: usize) -> Result<Written, Error> {
        self.values += 1;
        let most = limits::MAX_PARAMETER_VALUES;
        if self.values > most {
            return Err(Error::too_complex(format!(
                "the parameters have more than {most} alternatives together; use fewer, or fewer references"
            )));
        }
        let Value::Object(map) = schema else { return self.any(schema) };
        let target = map.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|to| to.strip_prefix("#/$defs/"));
        if let (Some(name), 1, true) = (target, map.len(), nested < MAX_NESTED) {
            let target = self.root.get("$defs").and_then(|defs| defs.get(name));
            return self.value(target.unwrap_or(&Value::Bool(true)), nested + 1);
        }
        let is_listed = map.len() == 1 || (map.len() == 2 && map.contains_key("type"));
        if let (Some(Value::Array(values)), true) = (map.get("enum"), is_listed) {
            let values = values.iter().map(|value| self.literal(value));
            return alternatives(values.collect::<Result<_, _>>()?);
        }
        if let (Some(value), true) = (map.get("const"), is_listed) {
            return self.literal(value);
        }
        let options = ["anyOf", "oneOf"].iter().find_map(|name| map.get(*name)?.as_array());
        if let (Some(options), 1, true) = (options, map.len(), nested < MAX_NESTED) {
            let options = options.iter().map(|option| self.value(option, nested + 1));
            return alternatives(options.collect::<Result<_, _>>()?);
        }
        match map.get("type") {
            Some(Value::Array(names)) if nested < MAX_NESTED => {
                let of_one = |name: &Value| {
                    let mut one = map.clone();
                    one.insert("type".into(), name.clone());
                    self.value(&Value::Object(one), nested + 1)
                };
                alternatives(names.iter().map(of_one).collect::<Result<_, _>>()?)
            }
            Some(Value::String(name)) => match &**name {
                "string" if !self.syntax.is_python => self.text(map),
                "boolean" => alternatives(vec![
                    self.literal(&Value::Bool(true))?,
                    self.literal(&Value::Bool(false))?,
                ]),
                "null" => self.literal(&Value::Null),
                _ => self.json(schema),
            },
            _ => self.any(schema),
        }
    }

    /// A value whose type has to be found.
    fn any(&mut self, schema: &Value) -> Result<Written, Error> {
        let types = self.types.types_of(schema);
        if self.types.is_exhausted() {
            return Err(Error::too_complex(
                "the types of the parameters have too many parts together; use fewer alternatives, or fewer references",
            ));
        }
        match types.has(ValueTypes::TEXT) && !self.syntax.is_python {
            true => self.text(&Map::new()),
            false => self.json(schema),
        }
    }

    /// Exactly this value.
    fn literal(&mut self, value: &Value) -> Result<Written, Error> {
        let text = match value {
            Value::String(text) if !self.syntax.is_python => text.clone(),
            Value::Bool(true) if self.syntax.is_python => "True".into(),
            Value::Bool(false) if self.syntax.is_python => "False".into(),
            Value::Null if self.syntax.is_python => "None".into(),
            Value::Array(_) | Value::Object(_) => return self.json(&json!({"const": value})),
            value => value.to_string(),
        };
        Ok(Written::Other(self.context.sequence(&[text, self.end()].concat())?))
    }

    /// A value of JSON.
    fn json(&mut self, schema: &Value) -> Result<Written, Error> {
        let mut schema = match schema {
            Value::Object(schema) => schema.clone(),
            Value::Bool(false) => {
                let message = "a parameter has the schema false, which allows no value";
                return Err(Error::invalid(message));
            }
            _ => Map::new(),
        };
        for keyword in ["$defs", "x-guidance"] {
            if let Some(value) = self.root.get(keyword) {
                schema.insert(keyword.into(), value.clone());
            }
        }
        let (end, schema) =
            (self.context.sequence(&self.end())?, Value::Object(schema).to_string());
        self.bytes += schema.len();
        let most = limits::MAX_PARAMETER_BYTES;
        if self.bytes > most {
            return Err(Error::too_complex(format!(
                "the schemas of the parameters, each with all definitions, have more than {most} bytes together; use fewer \
                 definitions"
            )));
        }
        Ok(Written::Other(format!("%json {schema} {end}")))
    }

    /// A text without quotes.
    fn text(&mut self, schema: &Map<String, Value>) -> Result<Written, Error> {
        let count = |name: &str| schema.get(name).and_then(Value::as_u64);
        let (least, most) = (count("minLength").unwrap_or(0), count("maxLength"));
        // The line break before the end is no part of the text.
        let line_break = if self.syntax.own_lines { "\\n" } else { "" };
        let text = match (least, most) {
            (0, None) => "(?s:.*)".into(),
            (least, None) => format!("(?s:.{{{least},}}){line_break}"),
            (least, Some(most)) => format!("(?s:.{{{least},{most}}}){line_break}"),
        };
        // A lazy rule ends as soon as it matches, so the text does not have its end in it.
        let end = &self.syntax.value_end;
        self.texts.push(format!("/{text}{}/", escaped(end)));
        let mut rule = format!("{}t{}", self.prefix, self.texts.len() - 1);
        if let Some((token, "")) = self.context.control_prefix(end)? {
            // A control token cannot be a part of an expression.
            rule = format!("{rule} | /{text}/ <[{token}]>");
        }
        Ok(Written::Text(rule))
    }

    /// The text that ends a value that is not free.
    fn end(&self) -> String {
        [if self.syntax.own_lines { "\n" } else { "" }, &self.syntax.value_end].concat()
    }
}

/// One of these values.
fn alternatives(values: Vec<Written>) -> Result<Written, Error> {
    let mut all: Vec<String> = Vec::new();
    for value in values {
        match value {
            Written::Text(_) => return Ok(value),
            Written::Other(rule) if !all.contains(&rule) => all.push(rule),
            Written::Other(_) => {}
        }
    }
    if all.is_empty() {
        return Err(Error::invalid("a parameter has a list of no values"));
    }
    Ok(Written::Other(format!("({})", all.join(" | "))))
}
