//! Jobs: [`Job`], and the objects that iterate over it.

use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
};

use pyo3::{IntoPyObjectExt, prelude::*, types::PyDict};
use rbee_core::{
    JobId, Queen,
    answer::ParsedAnswer,
    event::{EventKind, JobEvent, Logprobs, TokenLogprob, Usage},
};

use crate::{
    answer_parts::tool_call,
    error::to_python,
    pending::Pending,
    reader::{Answer, Next, Reader, What},
    runtime,
};

/// The classes of `rbee.types`, by their names.
static TYPES: OnceLock<Py<PyDict>> = OnceLock::new();

/// Sets the classes of what jobs give, by their names.
#[pyfunction]
pub(crate) fn set_types(types: Py<PyDict>) {
    // The package is imported once.
    let _ = TYPES.set(types);
}

/// Makes an object of one of the package's classes.
pub(crate) fn object<'py>(
    py: Python<'py>,
    class: &str,
    values: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let missing =
        || pyo3::exceptions::PyRuntimeError::new_err(format!("rbee.types has no {class}"));
    let types = TYPES.get().ok_or_else(missing)?.bind(py);
    types.get_item(class)?.ok_or_else(missing)?.call1(values)
}

/// A job that is read.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct Job {
    id: JobId,
    queen: Queen,
    reader: Arc<Reader>,
}

impl Job {
    pub(crate) fn new(id: JobId, queen: Queen, reader: Arc<Reader>) -> Self {
        Self { id, queen, reader }
    }
}

#[pymethods]
impl Job {
    #[getter]
    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cancel(&self) {
        if self.reader.with_submitted(|job| job.cancel()).is_none() {
            self.queen.cancel(self.id);
        }
    }

    fn detach(&self) {
        self.reader.with_submitted(|job| job.detach());
    }

    fn result(&self) -> Pending {
        Pending::making(self.reader.clone().answer(), answer)
    }

    fn text(&self) -> Items {
        Items { reader: self.reader.clone(), what: What::Text }
    }

    fn events(&self) -> Items {
        Items { reader: self.reader.clone(), what: What::Event }
    }

    fn deltas(&self) -> Items {
        Items { reader: self.reader.clone(), what: What::Part }
    }
}

/// The texts or the events of a job, for `for` and `async for`.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct Items {
    reader: Arc<Reader>,
    what: What,
}

#[pymethods]
impl Items {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (reader, what) = (&self.reader, self.what);
        let next = runtime::wait(py, poll_fn(|context| reader.poll_next(context, what)))?;
        let item = next.map_err(|error| to_python(py, &error))?;
        item.map(|item| item.into_python(py)).transpose()
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self) -> Next {
        Next::new(self.reader.clone(), self.what)
    }
}

fn answer(py: Python<'_>, (answer, parsed): (Answer, ParsedAnswer)) -> PyResult<Py<PyAny>> {
    let Some(Ok((finish, counted))) = answer.end else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err("the events ended without an end"));
    };
    let logprobs: Vec<_> =
        answer.logprobs.iter().map(|one| logprobs(py, one)).collect::<PyResult<_>>()?;
    let calls = parsed.tool_calls.into_iter();
    let calls: Vec<_> = calls.map(|call| tool_call(py, call)).collect::<PyResult<_>>()?;
    let values = (
        answer.text,
        finish.as_str(),
        usage(py, counted)?,
        answer.tokens,
        logprobs,
        answer.vectors.as_ref().clone(),
        answer.queue_wait,
        answer.worker.map(|worker| worker.to_string()),
        parsed.content,
        parsed.reasoning,
        calls,
        answer.stop_text.as_deref(),
    );
    object(py, "JobAnswer", values).map(Bound::unbind)
}

fn usage(py: Python<'_>, usage: Usage) -> PyResult<Bound<'_, PyAny>> {
    object(py, "Usage", (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens))
}

fn logprobs<'py>(py: Python<'py>, of: &Logprobs) -> PyResult<Bound<'py, PyAny>> {
    let token = |one: &TokenLogprob| {
        object(py, "TokenLogprob", (one.id, &*one.text, one.as_bytes(), one.logprob))
    };
    let top = of.top.iter().map(token).collect::<PyResult<Vec<_>>>()?;
    object(py, "Logprobs", (token(&of.chosen)?, top))
}

/// An event as an object of Python. An error is no event there, but raised.
pub(crate) fn event(py: Python<'_>, event: &JobEvent) -> PyResult<Py<PyAny>> {
    let seq = event.seq;
    let made = match &event.kind {
        EventKind::Started(started) => {
            let worker = started.worker.map(|worker| worker.to_string());
            object(py, "Started", (seq, worker, started.queue_wait.as_secs_f64()))
        }
        EventKind::Token { id, text, logprobs: of } => {
            let of = of.as_ref().map(|of| logprobs(py, of)).transpose()?;
            object(py, "Token", (seq, &**text, *id, of))
        }
        EventKind::Vectors(vectors) => object(py, "Vectors", (seq, vectors.as_ref().clone())),
        EventKind::Metrics(metrics) => {
            let prefill = metrics.prefill.as_secs_f64();
            object(py, "Metrics", (seq, metrics.prompt_tokens, prefill, metrics.cached_tokens))
        }
        EventKind::End { finish, usage: counted, stop_text } => {
            object(py, "End", (seq, finish.as_str(), usage(py, *counted)?, stop_text.as_deref()))
        }
        EventKind::Error(error) => return Err(to_python(py, error)),
    };
    made?.into_py_any(py)
}
