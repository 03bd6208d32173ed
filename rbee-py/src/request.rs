//! Requests: [`request`].

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};
use rbee_core::{
    CorrelationId, Message, Priority, Request, Role, TenantId,
    request::{Grammar, Sampling, Tool, ToolCall, ToolChoice},
};

use crate::options::Options;

/// A turn of a chat: a mapping with `role` and `content`, and perhaps `name`, `tool_calls` and `tool_call_id`.
struct Turn(Message);

impl<'py> FromPyObject<'_, 'py> for Turn {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let item = |name: &str| match object.get_item(name) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyKeyError>(object.py()) => {
                Ok(None)
            }
            Err(_) => {
                Err(PyTypeError::new_err("a message must be a mapping with role and content"))
            }
        };
        let text = |name: &str| -> PyResult<Option<String>> {
            let Some(value) = item(name)?.filter(|value| !value.is_none()) else { return Ok(None) };
            let wrong = |_| PyTypeError::new_err(format!("{name} of a message must be a str"));
            value.extract().map(Some).map_err(wrong)
        };
        let missing = |name: &str| PyTypeError::new_err(format!("a message has no {name}"));
        let role = match text("role")?.ok_or_else(|| missing("role"))?.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let message = format!(
                    "role is {other:?}; allowed are system, developer, user, assistant and tool"
                );
                return Err(PyValueError::new_err(message));
            }
        };
        let mut message = Message::new(role, text("content")?.ok_or_else(|| missing("content"))?);
        message.name = text("name")?;
        message.tool_call_id = text("tool_call_id")?;
        let calls = item("tool_calls")?.filter(|calls| !calls.is_none());
        let calls = calls.map_or(Ok(Vec::new()), |calls| {
            calls.extract::<Vec<(String, String, String)>>().map_err(|_| {
                PyTypeError::new_err("tool_calls of a message must be a sequence of tool calls")
            })
        })?;
        let call = |(id, name, arguments)| ToolCall { id, name, arguments };
        message.tool_calls = calls.into_iter().map(call).collect();
        Ok(Self(message))
    }
}

/// One text, or several.
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl<'py> FromPyObject<'_, 'py> for Stop {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.extract().map(Self::One).or_else(|_| object.extract().map(Self::Several))
    }
}

/// The request of these keyword arguments; see `Queen.submit`.
///
/// # Errors
/// `TypeError` and `ValueError` with the name of the argument.
pub(crate) fn request(model: &str, arguments: Bound<'_, PyDict>) -> PyResult<Request> {
    let arguments = Options::new(arguments);
    let messages = arguments.get::<Vec<Turn>>("messages")?;
    let prompt = arguments.get::<String>("prompt")?;
    let request = match (messages, prompt) {
        (Some(_), Some(_)) | (None, None) => {
            return Err(PyTypeError::new_err("either messages or prompt must be given"));
        }
        (Some(messages), None) => {
            messages.into_iter().fold(Request::chat(model), |request, turn| request.turn(turn.0))
        }
        (None, Some(prompt)) => {
            let raw = arguments.get::<bool>("raw")?.unwrap_or(false);
            match arguments.get::<String>("suffix")? {
                Some(suffix) => Request::infill(model, prompt, suffix),
                None if raw => Request::completion(model, prompt).raw(),
                None => Request::chat(model).user(prompt),
            }
        }
    };
    let request = with_tools(request, &arguments)?;
    let mut sampling = Sampling::default();
    change(&arguments, &mut sampling)?;
    sampling.grammar = grammar(&arguments)?;
    common(request.sampling(|all| *all = sampling), &arguments)
}

/// Adds the tools, which the package has brought into this form.
fn with_tools(mut request: Request, arguments: &Options<'_>) -> PyResult<Request> {
    type Given = (String, Option<String>, Option<String>);
    for (name, description, parameters) in arguments.get::<Vec<Given>>("tools")?.unwrap_or_default()
    {
        request = request.tool(Tool { name, description, parameters });
    }
    if let Some((word, name)) = arguments.get::<(String, Option<String>)>("tool_choice")? {
        request = request.tool_choice(match (word.as_str(), name) {
            ("none", _) => ToolChoice::None,
            ("required", _) => ToolChoice::Required,
            (_, Some(name)) => ToolChoice::Named(name),
            (_, None) => ToolChoice::Auto,
        });
    }
    if let Some(parallel) = arguments.get("parallel_tool_calls")? {
        request = request.parallel_tool_calls(parallel);
    }
    Ok(match arguments.get("thinking")? {
        Some(thinking) => request.thinking(thinking),
        None => request,
    })
}

/// The format of the answer, which the package has brought into this form.
fn grammar(arguments: &Options<'_>) -> PyResult<Option<Grammar>> {
    let given = arguments.get::<(String, Option<String>)>("response_format")?;
    Ok(given.map(|(kind, text)| match (kind.as_str(), text.unwrap_or_default()) {
        ("json_schema", schema) => Grammar::JsonSchema(schema),
        ("regex", pattern) => Grammar::Regex(pattern),
        ("lark", grammar) => Grammar::Lark(grammar),
        _ => Grammar::JsonObject,
    }))
}

/// The request for vectors of these texts; see `Queen.embed`.
///
/// # Errors
/// As [`request`].
pub(crate) fn embedding(
    model: &str,
    texts: Vec<String>,
    arguments: Bound<'_, PyDict>,
) -> PyResult<Request> {
    let arguments = Options::new(arguments);
    let mut request = Request::embed(model, texts);
    if let Some(length) = arguments.get("dimensions")? {
        request = request.dimensions(length);
    }
    common(request, &arguments)
}

/// The request for scores of these documents; see `Queen.rerank`.
///
/// # Errors
/// As [`request`].
pub(crate) fn rerank(
    model: &str,
    query: String,
    documents: Vec<String>,
    arguments: Bound<'_, PyDict>,
) -> PyResult<Request> {
    common(Request::rerank(model, query, documents), &Options::new(arguments))
}

fn change(arguments: &Options<'_>, sampling: &mut Sampling) -> PyResult<()> {
    macro_rules! set {
        ($($name:ident),*) => {
            $(if let Some(value) = arguments.get(stringify!($name))? {
                sampling.$name = value;
            })*
        };
    }
    set!(
        temperature,
        top_p,
        top_k,
        min_p,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias,
        min_tokens
    );
    sampling.logprobs = arguments.get("logprobs")?;
    sampling.max_tokens = arguments.get("max_tokens")?;
    sampling.stop = match arguments.get("stop")? {
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Several(texts)) => texts,
        None => Vec::new(),
    };
    Ok(())
}

fn common(mut request: Request, arguments: &Options<'_>) -> PyResult<Request> {
    if let Some(seed) = arguments.get("seed")? {
        request = request.seed(seed);
    }
    if let Some(priority) = arguments.get::<String>("priority")? {
        request = request.priority(match priority.as_str() {
            "interactive" => Priority::Interactive,
            "batch" => Priority::Batch,
            other => {
                let message = format!("priority is {other:?}; allowed are interactive and batch");
                return Err(PyValueError::new_err(message));
            }
        });
    }
    if let Some(tenant) = arguments.parsed::<TenantId>("tenant")? {
        request = request.tenant(tenant);
    }
    if let Some(timeout) = arguments.seconds("timeout")? {
        request = request.timeout(timeout);
    }
    if let Some(deadline) = arguments.seconds("deadline")? {
        request = request.deadline(deadline);
    }
    if arguments.get::<bool>("detached")?.unwrap_or(false) {
        request = request.detached();
    }
    if let Some(id) = arguments.parsed::<CorrelationId>("correlation_id")? {
        request = request.correlation_id(id);
    }
    if let Some(key) = arguments.get::<String>("idempotency_key")? {
        request = request.idempotency_key(key);
    }
    Ok(request)
}
