//! Requests: [`request`].

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};
use rbee_core::{CorrelationId, Message, Priority, Request, Role, TenantId, request::Sampling};

use crate::options::Options;

/// A turn of a chat: a mapping with `role` and `content`, and perhaps `name`.
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
            other => {
                let message =
                    format!("role is {other:?}; allowed are system, developer, user and assistant");
                return Err(PyValueError::new_err(message));
            }
        };
        let mut message = Message::new(role, text("content")?.ok_or_else(|| missing("content"))?);
        message.name = text("name")?;
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
        (None, Some(prompt)) => match arguments.get::<bool>("raw")?.unwrap_or(false) {
            true => Request::completion(model, prompt).raw(),
            false => Request::chat(model).user(prompt),
        },
    };
    let mut sampling = Sampling::default();
    change(&arguments, &mut sampling)?;
    common(request.sampling(|all| *all = sampling), &arguments)
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
