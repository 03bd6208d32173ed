//! Descriptions of fleets and jobs in YAML.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::{fleet::Fleet, sketch::JobSketch};
use crate::{
    error::{Error, ErrorKind, Result},
    yaml::{self, Malformed, Node, Value},
};

/// The most bytes of a description.
const MOST_BYTES: usize = 64 * 1024;

impl Fleet {
    /// Reads a description in YAML, or in JSON, which is valid YAML.
    ///
    /// ```
    /// use rbee_core::sim::Fleet;
    ///
    /// let fleet = Fleet::from_yaml("
    /// hives:
    ///   - id: attic
    ///     labels: {region: eu}
    ///     devices: [{kind: cuda, memory_total: 24000000000}]
    ///     models: {llama-3-8b: 16000000000}
    /// ")?;
    /// assert_eq!(fleet.view()?.hives().count(), 1);
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the part that is invalid.
    pub fn from_yaml(text: &str) -> Result<Self> {
        described("fleet", text)
    }
}

impl JobSketch {
    /// Reads a description in YAML, or in JSON, which is valid YAML.
    ///
    /// ```
    /// let job = rbee_core::sim::JobSketch::from_yaml("model: llama-3-8b\npriority: batch\n")?;
    /// assert_eq!(job.model.as_str(), "llama-3-8b");
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the part that is invalid.
    pub fn from_yaml(text: &str) -> Result<Self> {
        described("job", text)
    }
}

fn described<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    let wrong = |message: String| {
        let message = format!("the description of the {what} is not understood: {message}");
        Error::new(ErrorKind::InvalidRequest, message).with_param(what)
    };
    if text.len() > MOST_BYTES {
        return Err(wrong(format!("it has {} bytes; allowed are {MOST_BYTES}", text.len())));
    }
    let parsed = yaml::parse(text)
        .map_err(|Malformed { line, message }| wrong(format!("line {line}: {message}")))?;
    let json = parsed.as_ref().map_or(Json::Null, json);
    serde_json::from_value(json).map_err(|error| wrong(error.to_string()))
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, plain: true } => plain(text),
        Value::Scalar { text, plain: false } => Json::String(text.clone()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.clone(), json(&entry.node)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
    }
}

/// A value without quotes: a number, a bool or null if it looks like one, otherwise a text.
fn plain(text: &str) -> Json {
    match text {
        "" | "~" | "null" => Json::Null,
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ => match serde_json::from_str::<serde_json::Number>(&text.replace('_', "")) {
            Ok(number) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                Json::Number(number)
            }
            _ => Json::String(text.to_owned()),
        },
    }
}
