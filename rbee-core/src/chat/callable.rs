//! A tool that the model may call, and the types of its parameters: [`CallableTool`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Tool;

/// The most parts of a schema, and values in its lists, that are looked at for the types of its parameters. In a larger
/// one, the other parameters can have any type.
const MAX_PARTS: usize = 10_000;

/// The most references and combinations within each other.
const MAX_NESTED: usize = 16;

/// A tool that the model may call, with what the syntax of its calls depends on.
///
/// ```
/// use rbee_core::request::{CallableTool, Tool};
///
/// let schema = r#"{"type": "object", "properties": {"city": {"type": "string"}}}"#;
/// let tool = CallableTool::from(&Tool::new("weather", "Tells the weather.", schema));
/// assert_eq!(tool.name(), "weather");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallableTool {
    name: String,
    parameters: BTreeMap<String, ValueTypes>,
    /// The types of parameters that the schema does not name.
    others: ValueTypes,
}

impl CallableTool {
    /// The name of the tool.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The types that a parameter can have.
    pub(crate) fn types(&self, parameter: &str) -> ValueTypes {
        self.parameters.get(parameter).copied().unwrap_or(self.others)
    }
}

impl From<&Tool> for CallableTool {
    fn from(tool: &Tool) -> Self {
        let none = Self::from(&*tool.name);
        let Some(text) = &tool.parameters else { return none };
        // A schema that is not valid is refused elsewhere.
        let Ok(root) = serde_json::from_str::<Value>(text) else { return none };
        let none_of_all = Map::new();
        let mut reader = TypeReader::new(root.as_object().unwrap_or(&none_of_all));
        let properties = root.get("properties").and_then(Value::as_object);
        let parameters = properties.into_iter().flatten();
        let parameters = parameters.map(|(key, schema)| (key.clone(), reader.types_of(schema)));
        let parameters = parameters.collect();
        let others = root.get("additionalProperties").filter(|schema| schema.is_object());
        let others = others.map_or(ValueTypes::ANY, |schema| reader.types_of(schema));
        Self { parameters, others, ..none }
    }
}

/// A tool whose parameters can have any type.
impl From<&str> for CallableTool {
    fn from(name: &str) -> Self {
        Self { name: name.into(), parameters: BTreeMap::new(), others: ValueTypes::ANY }
    }
}

/// A set of types of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueTypes(u8);

impl ValueTypes {
    const NONE: Self = Self(0);
    pub(crate) const TEXT: Self = Self(1);
    pub(crate) const NULL: Self = Self(2);
    pub(crate) const BOOLEAN: Self = Self(4);
    pub(crate) const NUMBER: Self = Self(8);
    pub(crate) const OBJECT: Self = Self(16);
    pub(crate) const ARRAY: Self = Self(32);
    pub(crate) const ANY: Self = Self(63);

    /// True if one of the others is among them.
    pub(crate) fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// The type of a value.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::TEXT,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The type with this name in a schema.
    fn named(name: &str) -> Self {
        match name {
            "string" => Self::TEXT,
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "number" | "integer" => Self::NUMBER,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            _ => Self::NONE,
        }
    }
}

/// Reads types from schemas. All that one looks at counts together.
pub(crate) struct TypeReader<'s> {
    root: &'s Map<String, Value>,
    /// The parts that were looked at.
    parts: usize,
}

impl<'s> TypeReader<'s> {
    /// Reads schemas whose references are found in this root.
    pub(crate) fn new(root: &'s Map<String, Value>) -> Self {
        Self { root, parts: 0 }
    }

    /// The types that a schema allows; all types if it does not say.
    pub(crate) fn types_of(&mut self, schema: &Value) -> ValueTypes {
        self.types(schema, 0).unwrap_or(ValueTypes::ANY)
    }

    /// True if a schema was not read to its end, because there was too much to look at.
    #[cfg(any(feature = "candle", test))]
    pub(crate) fn is_exhausted(&self) -> bool {
        self.parts > MAX_PARTS
    }

    /// The types that a schema allows, or `None` if it is too large or allows none.
    fn types(&mut self, schema: &Value, nested: usize) -> Option<ValueTypes> {
        self.parts += 1;
        if self.parts > MAX_PARTS || nested > MAX_NESTED {
            return None;
        }
        let Value::Object(schema) = schema else { return Some(ValueTypes::ANY) };
        let mut types = own_types(schema);
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            self.parts += values.len();
            if self.parts > MAX_PARTS {
                return None;
            }
            let of_values = values.iter().map(ValueTypes::of);
            types = types.and(of_values.fold(ValueTypes::NONE, ValueTypes::or));
        }
        if let Some(value) = schema.get("const") {
            types = types.and(ValueTypes::of(value));
        }
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        if let Some(target) = target.and_then(|path| pointed(self.root, path)) {
            types = types.and(self.types(target, nested + 1)?);
        }
        for name in ["anyOf", "oneOf"] {
            let Some(options) = schema.get(name).and_then(Value::as_array) else { continue };
            let mut any = ValueTypes::NONE;
            for option in options {
                any = any.or(self.types(option, nested + 1)?);
            }
            types = types.and(any);
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            types = types.and(self.types(part, nested + 1)?);
        }
        (types != ValueTypes::NONE).then_some(types)
    }
}

/// The part of a schema that a reference names.
fn pointed<'s>(root: &'s Map<String, Value>, path: &str) -> Option<&'s Value> {
    let (first, rest) =
        path.strip_prefix('/')?.split_at_checked(path[1..].find('/').unwrap_or(path.len() - 1))?;
    root.get(first)?.pointer(rest)
}

/// The types by the keywords of the schema itself.
fn own_types(schema: &Map<String, Value>) -> ValueTypes {
    let types = match schema.get("type") {
        Some(Value::String(name)) => ValueTypes::named(name),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).map(ValueTypes::named);
            names.fold(ValueTypes::NONE, ValueTypes::or)
        }
        // By the standard these allow other types, too, but nobody who writes them means that.
        _ if schema.contains_key("properties") => ValueTypes::OBJECT,
        _ if schema.contains_key("items") => ValueTypes::ARRAY,
        _ => ValueTypes::ANY,
    };
    if types == ValueTypes::NONE { ValueTypes::ANY } else { types }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_types_of_a_parameter_are_those_that_its_schema_allows() {
        let nullable = ValueTypes::TEXT.or(ValueTypes::NULL);
        let root = json!({"$defs": {
            "text": {"enum": ["a", "b"]},
            "loop": {"$ref": "#/$defs/loop"},
        }});
        for (schema, types) in [
            (json!({"type": "string"}), ValueTypes::TEXT),
            (json!({"type": "integer", "minimum": 3}), ValueTypes::NUMBER),
            (json!({"type": ["string", "null"]}), nullable),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}], "title": "x"}), nullable),
            (json!({"oneOf": [{"$ref": "#/$defs/text"}, {"const": null}]}), nullable),
            (json!({"enum": ["a", 1]}), ValueTypes::TEXT.or(ValueTypes::NUMBER)),
            (
                json!({"allOf": [{"type": ["string", "number"]}, {"type": "number"}]}),
                ValueTypes::NUMBER,
            ),
            (json!({"properties": {"a": {}}}), ValueTypes::OBJECT),
            (json!({"items": {}}), ValueTypes::ARRAY),
            (json!({}), ValueTypes::ANY),
            (json!(true), ValueTypes::ANY),
            (json!({"type": "file"}), ValueTypes::ANY),
            (json!({"$ref": "#/$defs/nothing"}), ValueTypes::ANY),
            (json!({"$ref": "#/$defs/loop"}), ValueTypes::ANY),
            (json!({"type": "string", "const": 1}), ValueTypes::ANY),
        ] {
            let mut reader = TypeReader::new(root.as_object().unwrap());
            assert_eq!(reader.types_of(&schema), types, "{schema}");
            assert!(!reader.is_exhausted());
        }
    }

    #[test]
    fn parameters_without_a_schema_have_that_of_additional_ones() {
        let schema = json!({"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "boolean"}});
        let tool = CallableTool::from(&Tool::new("f", "", schema.to_string()));
        assert_eq!((tool.types("a"), tool.types("b")), (ValueTypes::TEXT, ValueTypes::BOOLEAN));
        let tool = CallableTool::from(&Tool::new(
            "f",
            "",
            json!({"additionalProperties": false}).to_string(),
        ));
        assert_eq!(tool.types("a"), ValueTypes::ANY);
        assert_eq!(CallableTool::from("f").types("a"), ValueTypes::ANY);
    }

    #[test]
    fn a_schema_that_multiplies_itself_is_read_in_bounded_time() {
        let mut defs = Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            defs.insert(level.to_string(), json!({"anyOf": vec![next; 20]}));
        }
        let root = json!({"$defs": defs});
        let root = root.as_object().unwrap();
        let mut reader = TypeReader::new(root);
        assert_eq!(reader.types_of(&json!({"$ref": "#/$defs/0"})), ValueTypes::ANY);
        assert!(reader.parts < MAX_PARTS + 100, "{}", reader.parts);
        // The values of a list count each time that it is looked at.
        let long = json!({"$defs": {"e": {"enum": vec![1; 3_000]}}});
        let mut reader = TypeReader::new(long.as_object().unwrap());
        let of_list = |reader: &mut TypeReader<'_>| reader.types_of(&json!({"$ref": "#/$defs/e"}));
        let found: Vec<_> = (0..5).map(|_| of_list(&mut reader)).collect();
        assert_eq!(found, [[ValueTypes::NUMBER; 3].as_slice(), &[ValueTypes::ANY; 2]].concat());
        assert!(reader.is_exhausted());
    }
}
