//! Errors of rbee as exceptions of Python, and the other way round.

use std::{fmt, sync::OnceLock};

use pyo3::{prelude::*, types::PyDict};
use rbee_core::{Error, ErrorKind};

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

/// The error of an exception that a part in Python has raised: of the same kind if it is one of rbee's, else of
/// `kind`.
pub(crate) fn from_python(py: Python<'_>, what: &str, exception: PyErr, kind: ErrorKind) -> Error {
    let value = exception.value(py);
    let code: Option<String> = value.getattr("kind").and_then(|kind| kind.extract()).ok();
    let kind = code.as_deref().and_then(ErrorKind::from_code).unwrap_or(kind);
    let name = exception.get_type(py);
    let name = name.name().map(|name| name.to_string()).unwrap_or_default();
    let message = value.str().map(|text| text.to_string()).unwrap_or_default();
    let text = if message.is_empty() { name } else { format!("{name}: {message}") };
    Error::new(kind, format!("{what} raised {text}")).with_source(Raised { exception, text })
}

/// An error that is nobody's request.
pub(crate) fn internal(message: String) -> Error {
    Error::new(ErrorKind::Internal, message)
}
