//! Reads the items of a request, and makes the messages of a conversation of them.

use std::collections::HashSet;

use rbee_core::{Error, ErrorKind, JobId, Message, Result, Role, request::ToolCall};
use serde_json::{Map, Value, value::RawValue};

use super::{
    extras::{from_hex, full_name},
    rules,
    tools::custom_arguments,
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, not_allowed, parse},
};

const ITEMS: &str = "a text, or a list of items";
const CONTENT: &str = "a text, or a list of parts of type \"input_text\"";
const TYPES: &str = "\"message\", \"function_call\", \"function_call_output\", \"custom_tool_call\", \
                     \"custom_tool_call_output\", \"reasoning\" or \"item_reference\"";

/// The types of items that say nothing that the model has to read: its reasoning in earlier turns, and calls of tools
/// that a server has run.
const LEFT_OUT: [&str; 5] = [
    "reasoning",
    "web_search_call",
    "image_generation_call",
    "tool_search_call",
    "tool_search_output",
];

/// An item of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A message.
    Message(Role, String),
    /// A call of a tool.
    Call(ToolCall),
    /// The result of the call with this id.
    Result(String, String),
    /// The item of this number of the answer of a job.
    Reference(JobId, usize),
}

/// The items of a request with their places.
pub(super) type Items = Vec<(String, Item)>;

/// Reads the items.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place: `input[2].content[0].type`.
pub(super) fn read(value: &RawValue) -> Result<Items> {
    match value.get().as_bytes().first() {
        Some(b'"') => {
            let text = parse(value, "input", ITEMS)?;
            Ok(vec![("input".into(), Item::Message(Role::User, text))])
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(value, "input", ITEMS)?;
            let mut read = Vec::with_capacity(items.len());
            for (at, value) in items.into_iter().enumerate() {
                let place = format!("input[{at}]");
                if let Some(item) = item(value, &place)? {
                    read.push((place, item));
                }
            }
            Ok(read)
        }
        _ => Err(not_allowed(value, "input", ITEMS)),
    }
}

fn item(value: &RawValue, place: &str) -> Result<Option<Item>> {
    let mut fields = Fields::of(value, place)?;
    let role = fields.take_raw("role");
    let kind: Option<String> = fields.take("type", TYPES)?;
    // A message and a reference may have no type.
    let kind = kind
        .unwrap_or_else(|| if role.is_some() { "message" } else { "item_reference" }.to_owned());
    Ok(Some(match kind.as_str() {
        "message" => message(fields, role)?,
        "function_call" => call(fields, false)?,
        "custom_tool_call" => call(fields, true)?,
        "function_call_output" | "custom_tool_call_output" => result(fields)?,
        "item_reference" => {
            const ID: &str = "the id of an item of a stored response";
            let place = fields.name("id");
            let value = fields.take_raw("id").ok_or_else(|| missing(&place, ID))?;
            let id: String = parse(value, &place, ID)?;
            finish(fields, &[])?;
            let (job, index) = reference(&id).ok_or_else(|| not_allowed(value, &place, ID))?;
            Item::Reference(job, index)
        }
        kind if LEFT_OUT.contains(&kind) => return Ok(None),
        other => {
            let place = fields.name("type");
            let shown: String = other.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {TYPES}");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
        }
    }))
}

/// The job and the number in an id like `msg_67e5504410b1426f9247bb680e5fe0c8_0`.
fn reference(id: &str) -> Option<(JobId, usize)> {
    let (_, rest) = id.split_once('_')?;
    let (job, index) = rest.split_once('_')?;
    Some((from_hex(job)?, index.parse().ok()?))
}

fn message(mut fields: Fields<'_>, role: Option<&RawValue>) -> Result<Item> {
    const ROLES: &str = "\"user\", \"assistant\", \"system\" or \"developer\"";
    let place = fields.name("role");
    let value = role.ok_or_else(|| missing(&place, ROLES))?;
    let role = match &*parse::<String>(value, &place, ROLES)? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return Err(not_allowed(value, &place, ROLES)),
    };
    let place = fields.name("content");
    let content = fields.take_raw("content").ok_or_else(|| missing(&place, CONTENT))?;
    finish(fields, &[rules::MESSAGE])?;
    Ok(Item::Message(role, text(content, &place)?))
}

fn call(mut fields: Fields<'_>, is_custom: bool) -> Result<Item> {
    let id = fields.require("call_id", "the id of the call")?;
    let name: String = fields.require("name", "the name of a tool")?;
    let namespace: Option<String> = fields.take("namespace", "the name of a namespace")?;
    let arguments = if is_custom {
        custom_arguments(&fields.require::<String>("input", "a text")?)
    } else {
        const ARGUMENTS: &str = "a JSON object, as a text";
        let place = fields.name("arguments");
        let value = fields.take_raw("arguments").ok_or_else(|| missing(&place, ARGUMENTS))?;
        let text: String = parse(value, &place, ARGUMENTS)?;
        // A call without arguments, as some models write it.
        let text = if text.trim().is_empty() { "{}".into() } else { text };
        if !is_object(&text) {
            return Err(not_allowed(value, &place, ARGUMENTS));
        }
        text
    };
    finish(fields, &[rules::CALL])?;
    Ok(Item::Call(ToolCall { id, name: full_name(namespace.as_deref(), &name), arguments }))
}

/// True for a JSON object, as arguments have to be.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text).is_ok()
}

fn result(mut fields: Fields<'_>) -> Result<Item> {
    let id = fields.require("call_id", "the id of the call")?;
    // The call has the name too.
    for name in ["name", "namespace"] {
        fields.take::<String>(name, "a text")?;
    }
    let place = fields.name("output");
    let output = fields.take_raw("output").ok_or_else(|| missing(&place, CONTENT))?;
    finish(fields, &[rules::CALL])?;
    Ok(Item::Result(id, text(output, &place)?))
}

/// A text, or the texts of its parts, joined without a separator.
fn text(value: &RawValue, place: &str) -> Result<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => parse(value, place, CONTENT),
        Some(b'[') => {
            let parts: Vec<&RawValue> = parse(value, place, CONTENT)?;
            let parts = parts.into_iter().enumerate();
            parts.map(|(at, item)| part(item, &format!("{place}[{at}]"))).collect()
        }
        _ => Err(not_allowed(value, place, CONTENT)),
    }
}

fn part(value: &RawValue, place: &str) -> Result<String> {
    const PARTS: &str = "\"input_text\", \"output_text\" or \"refusal\": rbee reads text alone";
    let mut fields = Fields::of(value, place)?;
    let kind: String = fields.require("type", PARTS)?;
    let text = match kind.as_str() {
        "input_text" | "output_text" | "text" => fields.require("text", "a text")?,
        "refusal" => fields.require("refusal", "a text")?,
        _ => {
            let place = fields.name("type");
            let shown: String = kind.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {PARTS}");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
        }
    };
    finish(fields, &[rules::PART])?;
    Ok(text)
}

/// The messages of a conversation, made of its items.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    /// The place of each message in the request: that of its first item.
    pub(super) places: Vec<String>,
    /// The ids of its calls.
    calls: HashSet<String>,
}

impl Conversation {
    /// Adds messages as they are.
    pub(super) fn extend(&mut self, messages: &[Message], place: &str) {
        let calls = messages.iter().flat_map(|message| &message.tool_calls);
        self.calls.extend(calls.map(|call| call.id.clone()));
        self.messages.extend_from_slice(messages);
        self.places.resize(self.messages.len(), place.to_owned());
    }

    /// Adds an item. Calls belong to the message of the model before them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a result without its call.
    pub(super) fn add(&mut self, item: Item, place: &str) -> Result<()> {
        let message = match item {
            Item::Message(role, text) => Message::new(role, text),
            Item::Call(call) => {
                if let Some(last) =
                    self.messages.last_mut().filter(|last| last.role == Role::Assistant)
                {
                    self.calls.insert(call.id.clone());
                    last.tool_calls.push(call);
                    return Ok(());
                }
                Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") }
            }
            Item::Result(id, text) => {
                if !self.calls.contains(&id) {
                    let place = format!("{place}.call_id");
                    let shown: String = id.chars().take(80).collect();
                    let message = format!(
                        "{place} is {shown:?}, and no item before it is a call with this id"
                    );
                    return Err(
                        Error::for_client(ErrorKind::InvalidRequest, message).with_param(place)
                    );
                }
                Message::tool_result(id, text)
            }
            // They are replaced by what they stand for.
            Item::Reference(..) => return Ok(()),
        };
        self.extend(&[message], place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(input: Value) -> Result<Items> {
        read(&serde_json::value::to_raw_value(&input).unwrap())
    }

    fn messages(input: Value) -> Result<Vec<Message>> {
        let mut conversation = Conversation::default();
        for (place, item) in items(input)? {
            conversation.add(item, &place)?;
        }
        assert_eq!(conversation.messages.len(), conversation.places.len());
        Ok(conversation.messages)
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn items_become_the_messages_of_a_chat() {
        let read = messages(json!([
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Rain"}, {"type": "input_text", "text": "?"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []},
            ]},
            {"type": "function_call", "id": "fc", "call_id": "a", "name": "weather", "arguments": "{\"x\": 1}", "status": "completed"},
            {"type": "custom_tool_call", "call_id": "b", "name": "patch", "namespace": "n", "input": "+1"},
            {"type": "function_call_output", "call_id": "a", "output": "dry"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "done"}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": ""},
        ]))
        .unwrap();
        let answer = Message {
            tool_calls: vec![
                call("a", "weather", "{\"x\": 1}"),
                call("b", "n__patch", "{\"input\":\"+1\"}"),
            ],
            ..Message::new(Role::Assistant, "I look.")
        };
        let again = Message {
            tool_calls: vec![call("c", "weather", "{}")],
            ..Message::new(Role::Assistant, "")
        };
        assert_eq!(
            read,
            [
                Message::new(Role::System, "Be brief."),
                Message::new(Role::User, "Rain?"),
                answer,
                Message::tool_result("a", "dry"),
                Message::tool_result("b", "done"),
                again,
            ]
        );
        let text = messages(json!("Rain?")).unwrap();
        assert_eq!(text, [Message::new(Role::User, "Rain?")]);
    }

    #[test]
    fn a_reference_names_the_job_and_the_item() {
        let job: JobId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        let id = "msg_67e5504410b1426f9247bb680e5fe0c8_3";
        for input in [json!([{"type": "item_reference", "id": id}]), json!([{"id": id}])] {
            assert_eq!(items(input).unwrap()[0].1, Item::Reference(job, 3));
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_its_place() {
        let message = |content: Value| json!([{"role": "user", "content": content}]);
        let object = |fields: Value| json!([fields]);
        for (input, place) in [
            (json!(7), "input"),
            (json!([7]), "input[0]"),
            (object(json!({"type": "shell_call"})), "input[0].type"),
            (object(json!({"type": "message", "content": "x"})), "input[0].role"),
            (object(json!({"role": "tool", "content": "x"})), "input[0].role"),
            (object(json!({"role": "user"})), "input[0].content"),
            (object(json!({"role": "user", "content": "x", "color": 1})), "input[0].color"),
            (message(json!([{"type": "input_image"}])), "input[0].content[0].type"),
            (message(json!([{"type": "input_text"}])), "input[0].content[0].text"),
            (object(json!({"type": "item_reference", "id": "msg_1"})), "input[0].id"),
            (object(json!({"type": "function_call", "call_id": "a"})), "input[0].name"),
            (
                object(
                    json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "[]"}),
                ),
                "input[0].arguments",
            ),
            (
                object(json!({"type": "function_call_output", "call_id": "a", "output": "x"})),
                "input[0].call_id",
            ),
        ] {
            let error = messages(input.clone()).unwrap_err();
            assert_eq!(error.param(), Some(place), "{input}");
            assert!(error.message().contains(place), "{error}");
        }
    }
}
