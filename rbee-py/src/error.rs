//! Errors of rbee as exceptions of Python, and the other way round.

use std::{fmt, sync::OnceLock};

use pyo3::{prelude::*, types::PyDict};
use rbee_core::{Error, ErrorKind};

use crate::pending::seconds;

/// The class of each kind, by its code.
static CLASSES: OnceLock<Py<PyDict>> = OnceLock::new();

/// The codes of all kinds of errors.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<(&'static str, &'static str, bool)> {
    ErrorKind::ALL.iter().map(|kind| (kind.code(), kind.summary(), kind.is_retryable())).collect()
}

/// Sets the classes of exceptions: the code of a kind, and its class.
#[pyfunction]
pub(crate) fn set_error_classes(classes: Py<PyDict>) {
    // The package is imported once.
    let _ = CLASSES.set(classes);
}

/// The exception of this error. If an exception of Python caused it, that one is its `__cause__`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) => {
            let exception = PyErr::from_value(exception);
            if let Some(cause) = raised(error) {
                exception.set_cause(py, Some(cause.clone_ref(py)));
            }
            exception
        }
        Err(error) => error,
    }
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let classes = CLASSES.get().map(|classes| classes.bind(py));
    let class = classes.and_then(|classes| classes.get_item(error.kind().code()).ok().flatten());
    let Some(class) = class else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err(error.to_string()));
    };
    let exception = class.call1((error.to_string(),))?;
    exception.setattr("param", error.param())?;
    exception.setattr("retry_after", error.retry_after().map(|after| after.as_secs_f64()))?;
    Ok(exception)
}

/// An exception of a part that is written in Python, as the source of an error. Its text is made at once, because it
/// may be printed where the interpreter is not at hand.
pub(crate) struct Raised {
    exception: PyErr,
    text: String,
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Raised").field(&self.text).finish()
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Raised {}

fn raised(error: &Error) -> Option<&PyErr> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(raised) = cause.downcast_ref::<Raised>() {
            return Some(&raised.exception);
        }
        source = cause.source();
    }
    None
}

/// The error of an exception that a part in Python has raised: of the same kind if it is one of rbee's, with what it
/// says of the next try and of the parameter, else of `kind`.
pub(crate) fn from_python(py: Python<'_>, what: &str, exception: PyErr, kind: ErrorKind) -> Error {
    let value = exception.value(py);
    let code: Option<String> = value.getattr("kind").and_then(|kind| kind.extract()).ok();
    let own = code.as_deref().and_then(ErrorKind::from_code);
    let name = exception.get_type(py);
    let name = name.name().map(|name| name.to_string()).unwrap_or_default();
    let message = value.str().map(|text| text.to_string()).unwrap_or_default();
    let text = if message.is_empty() { name } else { format!("{name}: {message}") };
    let mut error = Error::new(own.unwrap_or(kind), format!("{what} raised {text}"));
    if own.is_some() {
        if let Some(after) = attribute::<f64>(value, "retry_after").and_then(|s| seconds(s).ok()) {
            error = error.with_retry_after(after);
        }
        if let Some(param) = attribute::<String>(value, "param") {
            error = error.with_param(param);
        }
    }
    error.with_source(Raised { exception, text })
}

/// An attribute of an exception, if it has one of this type.
fn attribute<T>(value: &Bound<'_, pyo3::exceptions::PyBaseException>, name: &str) -> Option<T>
where
    T: for<'a, 'py> FromPyObject<'a, 'py>,
{
    value.getattr(name).ok()?.extract().ok()
}

/// An error that is nobody's request.
pub(crate) fn internal(message: String) -> Error {
    Error::new(ErrorKind::Internal, message)
}
