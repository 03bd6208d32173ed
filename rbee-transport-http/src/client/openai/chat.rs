//! Conversations, tools and formats of answers, as OpenAI's API has them.

use rbee_core::{
    Error, ErrorKind, Message, Result, Role,
    request::{Chat, Grammar, ToolCall, ToolChoice},
};
use serde::Serialize;
use serde_json::value::RawValue;

/// The part of a request that only a conversation has.
#[derive(Debug, Serialize)]
pub(super) struct ChatWords<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Typed<FunctionTool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<TemplateValues>,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: Role,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(flatten)]
    function: Typed<Called<'a>>,
}

/// `{"type": "function", "function": …}`
#[derive(Debug, Serialize)]
struct Typed<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: T,
}

#[derive(Debug, Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
struct FunctionTool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named(Typed<Named<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: Schema<'a> },
}

#[derive(Debug, Serialize)]
struct Schema<'a> {
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

#[derive(Debug, Serialize)]
struct TemplateValues {
    enable_thinking: bool,
}

impl<'a> ChatWords<'a> {
    /// A conversation without messages.
    pub(super) fn empty() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            response_format: None,
            chat_template_kwargs: None,
        }
    }

    /// `extended`: the server knows `chat_template_kwargs`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a grammar that OpenAI's API does not have.
    pub(super) fn new(
        chat: &'a Chat,
        grammar: Option<&'a Grammar>,
        extended: bool,
    ) -> Result<Self> {
        let tools = chat.tools.iter().map(|tool| {
            let parameters = tool.parameters.as_deref().map(|schema| raw(schema, "tools"));
            Ok(function(FunctionTool {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: parameters.transpose()?,
            }))
        });
        let has_tools = !chat.tools.is_empty();
        let choice = match &chat.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(Choice::Word("none")),
            ToolChoice::Required => Some(Choice::Word("required")),
            ToolChoice::Named(name) => Some(Choice::Named(function(Named { name }))),
        };
        Ok(Self {
            messages: chat.messages.iter().map(turn).collect(),
            tools: tools.collect::<Result<_>>()?,
            tool_choice: choice.filter(|_| has_tools),
            parallel_tool_calls: (has_tools && !chat.parallel_tool_calls).then_some(false),
            response_format: grammar.map(response_format).transpose()?,
            chat_template_kwargs: chat
                .thinking
                .filter(|_| extended)
                .map(|enable_thinking| TemplateValues { enable_thinking }),
        })
    }
}

fn function<T>(function: T) -> Typed<T> {
    Typed { kind: "function", function }
}

fn turn(message: &Message) -> Turn<'_> {
    Turn {
        role: message.role,
        content: &message.content,
        name: message.name.as_deref(),
        tool_calls: message.tool_calls.iter().map(call).collect(),
        tool_call_id: message.tool_call_id.as_deref(),
    }
}

fn call(call: &ToolCall) -> Call<'_> {
    let called = Called { name: &call.name, arguments: &call.arguments };
    Call { id: &call.id, function: function(called) }
}

fn response_format(grammar: &Grammar) -> Result<ResponseFormat<'_>> {
    let what = match grammar {
        Grammar::JsonObject => return Ok(ResponseFormat::JsonObject),
        Grammar::JsonSchema(schema) => {
            let schema = raw(schema, "response_format")?;
            let json_schema = Schema { name: "answer", schema, strict: true };
            return Ok(ResponseFormat::JsonSchema { json_schema });
        }
        Grammar::Regex(_) => "regex",
        Grammar::Lark(_) => "lark",
    };
    Err(refused(what))
}

/// The error for a format that the server does not have.
pub(super) fn refused(what: &str) -> Error {
    let message = format!(
        "response_format is {what}; the engine of this model knows json_object and json_schema, in a chat"
    );
    Error::for_client(ErrorKind::Unsupported, message).with_param("response_format")
}

fn raw<'a>(schema: &'a str, param: &'static str) -> Result<&'a RawValue> {
    serde_json::from_str(schema).map_err(|cause| {
        let message = format!("a schema is not JSON: {cause}");
        Error::for_client(ErrorKind::InvalidRequest, message).with_param(param).with_source(cause)
    })
}
