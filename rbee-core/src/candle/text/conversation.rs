//! A conversation as the values that a chat template reads.

use std::collections::HashMap;

use minijinja::{Value, value::ValueKind};

use super::prompt::Exhausted;
use crate::{
    answer::ToolFormat,
    chat::{Chat, Message, Role, Tool},
    prefix,
};

/// A text of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The content of a message of the model.
    Answer,
    /// A key of a JSON object. A template may look for it.
    Key,
    /// Any other text.
    Text,
}

/// Gives the text that a template reads instead of one of the request.
pub(super) type Put<'p> = dyn FnMut(&str, Place) -> Result<String, Exhausted> + 'p;

/// The values of a conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    messages: Vec<(Message, Vec<Value>)>,
    tools: Vec<(Tool, Value)>,
    thinking: Option<bool>,
}

impl Conversation {
    /// Parses the JSON of a checked conversation.
    pub(super) fn new(chat: &Chat, format: ToolFormat) -> Self {
        let calls = chat.messages.iter().flat_map(|message| &message.tool_calls);
        let names: HashMap<&str, &str> = calls.map(|call| (&*call.id, &*call.name)).collect();
        let messages = chat.messages.iter().map(|message| {
            let calls = message.tool_calls.iter().map(|call| json(&call.arguments));
            let mut message = message.clone();
            let called = message.tool_call_id.as_deref().and_then(|id| names.get(id));
            if message.role == Role::Tool && message.name.is_none() {
                message.name = called.map(|name| (*name).to_owned());
            }
            if matches!(format, ToolFormat::Mistral | ToolFormat::MistralArgs) {
                let ids = message.tool_calls.iter_mut().map(|call| &mut call.id);
                ids.chain(&mut message.tool_call_id).for_each(|id| *id = short_id(id));
            }
            (message, calls.collect())
        });
        // A tool that must not be called is not described.
        let tools = if chat.can_call() { chat.tools.as_slice() } else { &[] };
        let tools = tools.iter().map(|tool| {
            let schema = tool.parameters.as_deref().unwrap_or(NO_PARAMETERS);
            (tool.clone(), json(schema))
        });
        Self { messages: messages.collect(), tools: tools.collect(), thinking: chat.thinking }
    }

    /// All texts of the request.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let mut put = |text: &str, _: Place| {
            texts.push(text.to_owned());
            Ok(String::new())
        };
        // Nothing is exhausted, because nothing is replaced.
        let _ = self.messages(&mut put).and_then(|_| self.tools(&mut put));
        texts
    }

    /// The value `messages` of a template, with each text as `put` gives it.
    pub(super) fn messages(&self, put: &mut Put<'_>) -> Result<Value, Exhausted> {
        self.messages.iter().map(|(message, calls)| turn(message, calls, put)).collect()
    }

    /// Whether the model thinks; undefined if the request leaves that to the template.
    pub(super) fn thinking(&self) -> Value {
        self.thinking.map_or(Value::UNDEFINED, Value::from)
    }

    /// The value `tools` of a template; undefined if there are none.
    pub(super) fn tools(&self, put: &mut Put<'_>) -> Result<Value, Exhausted> {
        if self.tools.is_empty() {
            return Ok(Value::UNDEFINED);
        }
        self.tools.iter().map(|(tool, parameters)| function(tool, parameters, put)).collect()
    }
}

/// The schema of a function without parameters.
const NO_PARAMETERS: &str = r#"{"type": "object", "properties": {}}"#;

/// The value of a JSON text; it keeps the order of keys.
fn json(text: &str) -> Value {
    // The text was checked.
    serde_json::from_str(text).unwrap_or_default()
}

/// The id of a call for templates of Mistral, which want nine letters and digits. One that is so already stays.
fn short_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // 36 bits are enough to tell the calls of a conversation apart.
    format!("{:09x}", prefix::hash(prefix::START, id.as_bytes()) & 0xf_ffff_ffff)
}

fn turn(message: &Message, calls: &[Value], put: &mut Put<'_>) -> Result<Value, Exhausted> {
    let place = match message.role {
        Role::Assistant => Place::Answer,
        Role::System | Role::User | Role::Tool => Place::Text,
    };
    let mut pairs = vec![
        ("role", Value::from(message.role.as_str())),
        ("content", Value::from(put(&message.content, place)?)),
    ];
    // What a message does not have is no key of it: a template may ask for it with `in` or `is defined`.
    if let Some(name) = &message.name {
        pairs.push(("name", Value::from(put(name, Place::Text)?)));
    }
    if !calls.is_empty() {
        let calls = message.tool_calls.iter().zip(calls);
        let calls: Result<Value, Exhausted> = calls
            .map(|(call, arguments)| {
                let function = Value::from_pairs([
                    ("name", Value::from(put(&call.name, Place::Text)?)),
                    ("arguments", replaced(arguments, put)?),
                ]);
                Ok(Value::from_pairs([
                    ("id", Value::from(put(&call.id, Place::Text)?)),
                    ("type", Value::from("function")),
                    ("function", function),
                ]))
            })
            .collect();
        pairs.push(("tool_calls", calls?));
    }
    if let Some(id) = &message.tool_call_id {
        pairs.push(("tool_call_id", Value::from(put(id, Place::Text)?)));
    }
    Ok(Value::from_pairs(pairs))
}

fn function(tool: &Tool, parameters: &Value, put: &mut Put<'_>) -> Result<Value, Exhausted> {
    let mut pairs = vec![("name", Value::from(put(&tool.name, Place::Text)?))];
    if let Some(description) = &tool.description {
        pairs.push(("description", Value::from(put(description, Place::Text)?)));
    }
    pairs.push(("parameters", replaced(parameters, put)?));
    let function = Value::from_pairs(pairs);
    Ok(Value::from_pairs([("type", Value::from("function")), ("function", function)]))
}

/// The same value with other texts. It is at most as deep as JSON is read.
fn replaced(value: &Value, put: &mut Put<'_>) -> Result<Value, Exhausted> {
    if let Some(text) = value.as_str() {
        return put(text, Place::Text).map(Value::from);
    }
    match value.kind() {
        ValueKind::Seq => {
            value.try_iter().into_iter().flatten().map(|item| replaced(&item, put)).collect()
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pairs: Result<Vec<(Value, Value)>, Exhausted> = keys
                .map(|key| {
                    let name = put(key.as_str().unwrap_or_default(), Place::Key)?;
                    let item = value.get_item(&key).unwrap_or_default();
                    Ok((Value::from(name), replaced(&item, put)?))
                })
                .collect();
            Ok(Value::from_pairs(pairs?))
        }
        _ => Ok(value.clone()),
    }
}
