//! A conversation, and the tools that the model may call in it.

pub(crate) mod callable;

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::callable::CallableTool;
use crate::error::{Result, invalid};

/// The most tools of a conversation.
const MAX_TOOLS: usize = 512;
/// The longest name of a tool, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The longest schema of a tool's parameters, in bytes.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// The author of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool: the result of a call.
    Tool,
}

impl Role {
    /// The name in chat templates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its author.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// The name of its author, to tell apart several authors with one role. It is up to the model's chat template
    /// whether the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The calls that the model made in this turn; only for [`Role::Assistant`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The [id](ToolCall::id) of the call with this result; only for [`Role::Tool`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message whose author has no name.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// The result of a tool call.
    pub fn tool_result(call: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call.into()), ..Self::new(Role::Tool, content) }
    }

    /// The size of its text, in bytes.
    fn text_bytes(&self) -> usize {
        let calls = self.tool_calls.iter().map(ToolCall::text_bytes);
        let others = [&self.name, &self.tool_call_id].into_iter().flatten().map(String::len);
        self.content.len() + others.sum::<usize>() + calls.sum::<usize>()
    }

    /// The texts that the prompt depends on besides the role, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let calls = self.tool_calls.iter();
        let calls = calls.flat_map(|call| [&*call.id, &*call.name, &*call.arguments]);
        let author = self.name.as_deref().into_iter().chain(self.tool_call_id.as_deref());
        [&*self.content].into_iter().chain(author).chain(calls)
    }
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name: 1 to 128 letters, digits, `_`, `-`, `.`, `:` and `/`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object, as JSON text; `None`: it has no arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
}

impl Tool {
    /// A tool whose parameters have this JSON schema, as JSON text.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            description: Some(description.into()),
            parameters: Some(parameters.into()),
        }
    }

    fn text_bytes(&self) -> usize {
        let texts = [self.description.as_ref(), self.parameters.as_ref()];
        self.name.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Its id: the [result](Message::tool_call_id) names it.
    pub id: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments, a JSON object, as JSON text.
    pub arguments: String,
}

impl ToolCall {
    fn text_bytes(&self) -> usize {
        self.id.len() + self.name.len() + self.arguments.len()
    }
}

/// Which tools the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None: the answer is text.
    None,
    /// At least one: the answer is calls.
    Required,
    /// This one: the answer is one call of it.
    Named(String),
}

/// A conversation for a model to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The turns so far.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it calls.
    pub tool_choice: ToolChoice,
    /// True if an answer may have several calls.
    pub parallel_tool_calls: bool,
    /// Whether the model thinks before it answers; `None`: as it does by default. Only a model whose chat template has
    /// a switch for it (`enable_thinking` or `thinking`) follows this.
    pub thinking: Option<bool>,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            thinking: None,
        }
    }
}

impl From<Vec<Message>> for Chat {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }
}

impl Chat {
    /// True if the model may call a tool.
    pub fn can_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// The tools that the model may call.
    pub fn callable(&self) -> Vec<CallableTool> {
        let tools = self.tools.iter().filter(|tool| match &self.tool_choice {
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::None => false,
            ToolChoice::Named(name) => tool.name == *name,
        });
        tools.map(CallableTool::from).collect()
    }

    /// True if the answer must be a call.
    pub fn requires_call(&self) -> bool {
        matches!(self.tool_choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// True if the model reads tools, calls or results of tools.
    pub(crate) fn has_tools(&self) -> bool {
        let is_of_tool =
            |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
        self.can_call() || self.messages.iter().any(is_of_tool)
    }

    /// The size of all its text, in bytes.
    pub(crate) fn text_bytes(&self) -> usize {
        self.messages_bytes() + self.tools.iter().map(Tool::text_bytes).sum::<usize>()
    }

    /// The size of the text of its messages, in bytes.
    pub(crate) fn messages_bytes(&self) -> usize {
        self.messages.iter().map(Message::text_bytes).sum()
    }

    /// Checks messages and tools.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) with the place, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if self.messages.is_empty() {
            let message = "messages is empty; allowed is at least one message";
            return Err(invalid(message.into()).with_param("messages"));
        }
        self.check_tools()?;
        self.check_choice()?;
        let mut called = HashSet::new();
        for (at, message) in self.messages.iter().enumerate() {
            check_calls(message, at)?;
            called.extend(message.tool_calls.iter().map(|call| &*call.id));
            check_result(message, at, &called)?;
        }
        Ok(())
    }

    fn check_tools(&self) -> Result<()> {
        let count = self.tools.len();
        if count > MAX_TOOLS {
            let message = format!("tools has {count} tools; allowed are at most {MAX_TOOLS}");
            return Err(invalid(message).with_param("tools"));
        }
        let mut names = HashSet::new();
        for (at, tool) in self.tools.iter().enumerate() {
            let place = format!("tools[{at}].function.name");
            check_name(&tool.name, &place)?;
            if !names.insert(&*tool.name) {
                let message = format!(
                    "{place} is {:?}, as of another tool; each tool needs its own name",
                    tool.name
                );
                return Err(invalid(message).with_param(place));
            }
            if let Some(schema) = &tool.parameters {
                check_schema(schema, &format!("tools[{at}].function.parameters"))?;
            }
        }
        Ok(())
    }

    fn check_choice(&self) -> Result<()> {
        let message = match &self.tool_choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(()),
            ToolChoice::Required if !self.tools.is_empty() => return Ok(()),
            ToolChoice::Named(name) if self.tools.iter().any(|tool| tool.name == *name) => {
                return Ok(());
            }
            ToolChoice::Required => {
                "tool_choice is \"required\", and there are no tools; add some, or leave it out"
                    .to_owned()
            }
            ToolChoice::Named(name) => {
                let known: Vec<&str> = self.tools.iter().map(|tool| &*tool.name).take(20).collect();
                format!(
                    "tool_choice names {:?}, which is no tool of this request; allowed are {}",
                    shown(name),
                    if known.is_empty() {
                        "none: it has no tools".into()
                    } else {
                        known.join(", ")
                    }
                )
            }
        };
        Err(invalid(message).with_param("tool_choice"))
    }
}

fn check_name(name: &str, place: &str) -> Result<()> {
    let is_good =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_good) {
        return Ok(());
    }
    let message = format!(
        "{place} is {:?}; allowed are 1 to {MAX_NAME_BYTES} letters, digits, '_', '-', '.', ':' and '/'",
        shown(name)
    );
    Err(invalid(message).with_param(place.to_owned()))
}

fn check_schema(schema: &str, place: &str) -> Result<()> {
    let refused = |message: String| Err(invalid(message).with_param(place.to_owned()));
    if schema.len() > MAX_SCHEMA_BYTES {
        return refused(format!(
            "{place} has {} bytes; allowed are at most {MAX_SCHEMA_BYTES}",
            schema.len()
        ));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(schema) {
        Ok(_) => Ok(()),
        Err(cause) => refused(format!("{place} is not a JSON schema, an object: {cause}")),
    }
}

fn check_calls(message: &Message, at: usize) -> Result<()> {
    if message.tool_calls.is_empty() {
        return Ok(());
    }
    if message.role != Role::Assistant {
        let place = format!("messages[{at}].tool_calls");
        let message = format!(
            "{place} is in a message of role {:?}; allowed is it in one of role \"assistant\"",
            message.role.as_str()
        );
        return Err(invalid(message).with_param(place));
    }
    for (index, call) in message.tool_calls.iter().enumerate() {
        let place = format!("messages[{at}].tool_calls[{index}].function");
        check_name(&call.name, &format!("{place}.name"))?;
        let arguments = &call.arguments;
        let parsed = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments);
        if let Err(cause) = parsed {
            let place = format!("{place}.arguments");
            let message =
                format!("{place} is {:?}; it must be a JSON object: {cause}", shown(arguments));
            return Err(invalid(message).with_param(place));
        }
    }
    Ok(())
}

fn check_result(message: &Message, at: usize, called: &HashSet<&str>) -> Result<()> {
    let place = format!("messages[{at}].tool_call_id");
    let said = match (&message.tool_call_id, message.role) {
        (None, Role::Tool) => {
            format!("{place} is missing; a result of a tool names the call that it is for")
        }
        (Some(id), Role::Tool) if called.contains(&**id) => return Ok(()),
        (Some(id), Role::Tool) => {
            format!("{place} is {:?}, and no message before it has a call with this id", shown(id))
        }
        (Some(_), role) => {
            format!("{place} is in a message of role {:?}; allowed is \"tool\"", role.as_str())
        }
        (None, _) => return Ok(()),
    };
    Err(invalid(said).with_param(place))
}

/// The beginning of a text of a request, for an error.
fn shown(text: &str) -> String {
    crate::error::cut(text.into(), 80).into_owned()
}

/// A conversation without options is written as the list of its messages, as by versions that had no options.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form<M, T, C> {
    Messages(M),
    WithOptions {
        messages: M,
        tools: T,
        tool_choice: C,
        parallel_tool_calls: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking: Option<bool>,
    },
}

impl Serialize for Chat {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self { messages, tools, tool_choice, parallel_tool_calls, thinking } = self;
        let (parallel_tool_calls, thinking) = (*parallel_tool_calls, *thinking);
        let has_tool_options =
            !tools.is_empty() || *tool_choice != ToolChoice::Auto || !parallel_tool_calls;
        if !has_tool_options && thinking.is_none() {
            return Form::Messages::<_, (), ()>(messages).serialize(serializer);
        }
        Form::WithOptions { messages, tools, tool_choice, parallel_tool_calls, thinking }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Chat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        type Read = Form<Vec<Message>, Vec<Tool>, ToolChoice>;
        Ok(match Read::deserialize(deserializer)? {
            Form::Messages(messages) => messages.into(),
            Form::WithOptions { messages, tools, tool_choice, parallel_tool_calls, thinking } => {
                Self { messages, tools, tool_choice, parallel_tool_calls, thinking }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    fn chat() -> Chat {
        let asked = Message {
            tool_calls: vec![call("a", "weather", r#"{"city":"Bern"}"#)],
            ..Message::new(Role::Assistant, "")
        };
        Chat {
            messages: vec![
                Message::new(Role::User, "Will it rain?"),
                asked,
                Message::tool_result("a", "yes"),
            ],
            tools: vec![Tool::new("weather", "Tells the weather.", r#"{"type":"object"}"#)],
            ..Chat::default()
        }
    }

    #[test]
    fn a_chat_without_options_is_written_as_its_messages_and_each_comes_back() {
        let plain: Chat = vec![Message::new(Role::User, "Hi")].into();
        let json = serde_json::to_string(&plain).unwrap();
        assert_eq!(json, r#"[{"role":"user","content":"Hi"}]"#);
        let choices = [
            ToolChoice::Auto,
            ToolChoice::None,
            ToolChoice::Required,
            ToolChoice::Named("weather".into()),
        ];
        let with_tools = choices.map(|tool_choice| Chat { tool_choice, ..chat() });
        let alone = Chat { parallel_tool_calls: false, ..plain.clone() };
        let thoughtless = Chat { thinking: Some(false), ..plain.clone() };
        for chat in [plain, alone, thoughtless].into_iter().chain(with_tools) {
            let json = serde_json::to_string(&chat).unwrap();
            assert_eq!(serde_json::from_str::<Chat>(&json).unwrap(), chat, "{json}");
        }
    }

    #[test]
    fn a_chat_with_tools_calls_and_results_is_valid() {
        chat().validate().unwrap();
        let named = Chat { tool_choice: ToolChoice::Named("weather".into()), ..chat() };
        named.validate().unwrap();
    }

    #[test]
    fn what_is_wrong_is_refused_by_its_place() {
        type Change = fn(&mut Chat);
        let cases: [(&str, Change); 13] = [
            ("messages", |chat| chat.messages.clear()),
            ("tools[0].function.name", |chat| chat.tools[0].name = "no spaces".into()),
            ("tools[0].function.name", |chat| chat.tools[0].name.clear()),
            ("tools[1].function.name", |chat| chat.tools.push(chat.tools[0].clone())),
            ("tools[0].function.parameters", |chat| chat.tools[0].parameters = Some("7".into())),
            ("tools[0].function.parameters", |chat| {
                chat.tools[0].parameters = Some(format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000)));
            }),
            ("tool_choice", |chat| chat.tool_choice = ToolChoice::Named("other".into())),
            ("tool_choice", |chat| {
                chat.tools.clear();
                chat.tool_choice = ToolChoice::Required;
            }),
            ("messages[1].tool_calls[0].function.arguments", |chat| {
                chat.messages[1].tool_calls[0].arguments = "{".into();
            }),
            ("messages[1].tool_calls", |chat| chat.messages[1].role = Role::User),
            ("messages[2].tool_call_id", |chat| chat.messages[2].tool_call_id = Some("b".into())),
            ("messages[2].tool_call_id", |chat| chat.messages[2].tool_call_id = None),
            ("messages[0].tool_call_id", |chat| chat.messages[0].tool_call_id = Some("a".into())),
        ];
        for (place, change) in cases {
            let mut chat = chat();
            change(&mut chat);
            let error = chat.validate().unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(place)));
            assert!(error.message().starts_with(place), "{error}");
        }
    }

    #[test]
    fn a_result_after_its_call_is_valid_and_one_before_it_is_not() {
        let mut chat = chat();
        chat.messages.swap(1, 2);
        assert_eq!(chat.validate().unwrap_err().param(), Some("messages[1].tool_call_id"));
    }
}
