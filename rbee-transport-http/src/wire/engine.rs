//! Engines other than rbee's own: programs that serve a model over OpenAI's API.

use std::{collections::BTreeMap, fmt};

use rbee_core::{
    Error, ErrorKind, ModelRef, Result,
    hive::{EngineSupport, matches_pattern},
    models::ModelTask,
};
use serde::{Deserialize, Deserializer, Serialize};

/// A program that serves one model over HTTP, and how it is started.
///
/// ```
/// use rbee_transport_http::wire::engine::EngineCommand;
///
/// let engine: EngineCommand = serde_json::from_str(
///     r#"{
///         "name": "llama.cpp",
///         "models": ["*.gguf"],
///         "command": "llama-server -m {model_path} --port {port} -np {slots} -c {total_context}"
///     }"#,
/// )?;
/// assert!(engine.serves(&"file:/models/bee.gguf".parse()?));
/// assert!(!engine.serves(&"file:/models/bee".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineCommand {
    /// Its name; workers report it as their backend.
    pub name: Box<str>,
    /// The models it serves: patterns over the whole reference, `*` for any characters and `?` for one.
    pub models: Vec<Box<str>>,
    /// The program and its arguments, as a list or as one line, with quotes around words that contain spaces. There
    /// is no shell. `{model_path}`, `{port}`, `{device}`, `{slots}`, `{context}` and `{total_context}` are replaced;
    /// the last is the context of all slots together.
    pub command: Command,
    /// Additional environment variables; placeholders are replaced in their values too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Box<str>, Box<str>>,
    /// The path of which a `GET` responds with 200 once the model is loaded.
    #[serde(default = "health")]
    pub health: Box<str>,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The `model` in requests to it; placeholders are replaced.
    #[serde(default = "model_path")]
    pub model: Box<str>,
    /// Its tasks.
    #[serde(default = "generate")]
    pub tasks: Vec<Task>,
    /// The longest prompt and answer of one run together, in tokens, unless the worker gets another limit.
    #[serde(default = "context")]
    pub context: u32,
    /// True if it knows `min_tokens`, as vLLM does. Otherwise jobs that use it do not run on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub min_tokens: bool,
    /// True if it knows `tools` in a chat. Otherwise jobs with tools do not run on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tools: bool,
    /// True if it enforces a `response_format` with a JSON schema, and calls of tools that a request requires. Otherwise
    /// jobs that use one of them do not run on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub json_schema: bool,
}

/// The protocol of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OpenAI's API, under `/v1`.
    #[default]
    OpenAi,
}

/// A task of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Continues text.
    Generate,
    /// Makes vectors.
    Embed,
    /// Scores documents by their relevance to a query, at `/v1/rerank`.
    Rerank,
}

fn health() -> Box<str> {
    "/health".into()
}

fn model_path() -> Box<str> {
    "{model_path}".into()
}

fn generate() -> Vec<Task> {
    vec![Task::Generate]
}

fn context() -> u32 {
    4096
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl EngineCommand {
    /// True if it serves this model.
    pub fn serves(&self, model: &ModelRef) -> bool {
        self.models
            .iter()
            .any(|pattern| matches_pattern(pattern.as_bytes(), model.as_str().as_bytes()))
    }

    /// The models that it can run. The formats that it reads are unknown.
    pub fn support(&self) -> EngineSupport {
        let tasks = self.tasks.iter().map(|task| match task {
            Task::Generate => ModelTask::Generate,
            Task::Embed => ModelTask::Embed,
            Task::Rerank => ModelTask::Rerank,
        });
        EngineSupport::new(&*self.name).for_models(self.models.iter().cloned()).with_tasks(tasks)
    }

    /// Checks everything that can be checked without starting it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the engine, the field, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| {
            Err(Error::new(ErrorKind::Config, format!("engine {:?}: {message}", self.name)))
        };
        if self.name.is_empty() || self.name.len() > 64 {
            return wrong(format!("name has {} bytes; allowed are 1 to 64", self.name.len()));
        }
        if self.models.is_empty() {
            return wrong(
                "models is empty; allowed is at least one pattern, for example \"*.gguf\"".into(),
            );
        }
        if self.command.0.first().is_none_or(|program| program.is_empty()) {
            return wrong("command is empty; allowed is a program with its arguments".into());
        }
        if !self.command.0.iter().any(|word| word.contains("{port}"))
            && !self.environment.values().any(|value| value.contains("{port}"))
        {
            return wrong(
                "command does not contain {port}; the engine must listen on the given port".into(),
            );
        }
        if !self.health.starts_with('/') {
            return wrong(format!(
                "health is {:?}; allowed is a path such as /health",
                self.health
            ));
        }
        if self.tasks.is_empty() {
            return wrong("tasks is empty; allowed are generate, embed and rerank".into());
        }
        let values = self.environment.values().map(|value| ("environment", value));
        let words = self.command.0.iter().map(|word| ("command", word));
        for (field, text) in words.chain(values).chain([("model", &self.model)]) {
            if let Some(bad) = unknown_placeholder(text) {
                return wrong(format!("{field} has the placeholder {bad}; allowed are {ALLOWED}"));
            }
        }
        Ok(())
    }
}

const ALLOWED: &str = "{model_path}, {port}, {device}, {slots}, {context} and {total_context}";

/// The values of the placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    /// The path of the model's file or directory.
    pub model_path: &'a str,
    /// The port to listen on.
    pub port: u16,
    /// The first device, in CUDA's numbering within the process; `cpu` for the CPU.
    pub device: &'a str,
    /// Concurrent runs.
    pub slots: u32,
    /// The longest prompt and answer of one run together, in tokens.
    pub context: u32,
}

impl Values<'_> {
    /// The text with every placeholder replaced, once: replaced text is not searched again.
    pub fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let filled = [
                ("{model_path}", self.model_path.to_owned()),
                ("{port}", self.port.to_string()),
                ("{device}", self.device.to_owned()),
                ("{slots}", self.slots.to_string()),
                ("{context}", self.context.to_string()),
                ("{total_context}", (u64::from(self.context) * u64::from(self.slots)).to_string()),
            ]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
            let (length, value) = filled.map_or((1, "{".to_owned()), |(name, v)| (name.len(), v));
            out.push_str(&value);
            rest = &rest[length..];
        }
        out.push_str(rest);
        out
    }
}

/// A word in braces that looks like a placeholder and is not one. Other braces belong to the engine, for example
/// JSON.
fn unknown_placeholder(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let end = rest.find('}')?;
        let inside = &rest[1..end];
        let known = ALLOWED.contains(&rest[..=end]);
        let like = |c: char| c.is_ascii_lowercase() || c == '_';
        if !known && !inside.is_empty() && inside.chars().all(like) {
            return Some(&rest[..=end]);
        }
        rest = &rest[1..];
    }
    None
}

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(pub Vec<Box<str>>);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a command must be a line or a list of words")]
        enum Form {
            Line(String),
            Words(Vec<Box<str>>),
        }
        match Form::deserialize(deserializer)? {
            Form::Line(line) => split(&line).map(Self).map_err(serde::de::Error::custom),
            Form::Words(words) => Ok(Self(words)),
        }
    }
}

/// Splits a line at spaces. Quotes of both kinds keep words together; a backslash takes the next character literally,
/// except within single quotes.
fn split(line: &str) -> Result<Vec<Box<str>>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("the command ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take().map(String::into_boxed_str)),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the command has a {open} that is not closed"));
    }
    words.extend(word.map(String::into_boxed_str));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_line_is_split_as_a_shell_would() {
        let words = |line: &str| split(line).unwrap().join("|");
        assert_eq!(words("a  b\tc "), "a|b|c");
        assert_eq!(words(r#"a "b c" 'd "e' f\ g"#), r#"a|b c|d "e|f g"#);
        assert_eq!(words(r#"a '' x"y\"z""#), r#"a||xy"z"#);
        assert!(split("a 'b").unwrap_err().contains("not closed"));
        assert!(split("a\\").is_err());
    }

    #[test]
    fn placeholders_are_replaced_once() {
        let values = Values { model_path: "/m/{port}", port: 7, device: "0", slots: 2, context: 9 };
        assert_eq!(
            values.fill("{model_path}:{port} {\"x\":{slots}} {device}{context}{total_context}{"),
            "/m/{port}:7 {\"x\":2} 0918{"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = EngineCommand {
            name: "e".into(),
            models: vec!["*".into()],
            command: Command(vec!["e".into(), "{port}".into()]),
            environment: BTreeMap::new(),
            health: health(),
            protocol: Protocol::OpenAi,
            model: model_path(),
            tasks: generate(),
            context: 1,
            min_tokens: false,
            tools: false,
            json_schema: false,
        };
        good.validate().unwrap();
        let refused = |change: fn(&mut EngineCommand)| {
            let mut engine = good.clone();
            change(&mut engine);
            let error = engine.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            error.message().to_owned()
        };
        assert!(refused(|e| e.models.clear()).contains("models is empty"));
        assert!(refused(|e| e.command.0.clear()).contains("command is empty"));
        assert!(refused(|e| e.command.0.truncate(1)).contains("{port}"));
        assert!(refused(|e| e.command.0.push("{prot}".into())).contains("{prot}"));
        assert!(refused(|e| e.health = "x".into()).contains("health is \"x\""));
        assert!(serde_json::from_str::<EngineCommand>(r#"{"name":"x","modles":[]}"#).is_err());
    }

    /// The meaning of a pattern, without backtracking.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| plainly(rest, &text[at..])),
            ([b'?', rest @ ..], [_, text @ ..]) => plainly(rest, text),
            ([byte, rest @ ..], [first, text @ ..]) => byte == first && plainly(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_what_they_mean(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches_pattern(pattern, text), plainly(pattern, text));
        }
    }
}
