//! Objects of Python that are parts of a queen: [`Part`] calls their methods.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{exceptions::PyTypeError, prelude::*, types::PyTuple};
use rbee_core::{Error, ErrorKind};
use tokio::sync::{Semaphore, oneshot};

use crate::error::from_python;

/// An object of Python, and the event loop in which its asynchronous methods run.
///
/// A plain method runs in a thread that may wait, because the interpreter's lock may be held for long. An
/// asynchronous one runs in the event loop in which the queen was opened, or in one of rbee's.
#[derive(Clone)]
pub(crate) struct Part {
    object: Arc<Py<PyAny>>,
    name: Arc<str>,
    event_loop: Option<Arc<Py<PyAny>>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

/// A call of a method. The turn is held until the method has returned, also if its caller has gone, so that the calls
/// that run at the same time are never more than the turns.
pub(crate) struct Call<'a> {
    pub(crate) method: &'static str,
    /// The kind of the error if the method raises what is no error of rbee, or returns what cannot be read.
    pub(crate) kind: ErrorKind,
    pub(crate) turns: &'a Arc<Semaphore>,
}

/// What takes the answer of a method.
type Take = Box<dyn FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) + Send>;

impl Part {
    /// Takes the object, which must have these attributes.
    ///
    /// # Errors
    /// `TypeError` with what is missing.
    pub(crate) fn new(
        object: &Bound<'_, PyAny>,
        what: &str,
        needed: &[&str],
        event_loop: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let name = object.get_type().name()?.to_string();
        for attribute in needed {
            if !object.hasattr(*attribute)? {
                let all = needed.join(", ");
                let message = format!("{what} has {all}, and {name} has no {attribute}");
                return Err(PyTypeError::new_err(message));
            }
        }
        Ok(Self {
            object: Arc::new(object.clone().unbind()),
            name: name.into(),
            event_loop: event_loop.map(Arc::new),
        })
    }

    /// The name of its class.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The event loop of its asynchronous methods.
    pub(crate) fn event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py))
    }

    /// Calls a method, and reads what it returns.
    ///
    /// # Errors
    /// What the method raises, with the exception as the source. Nothing that the method raises is lost: if the caller
    /// does not wait any more, the method still runs to its end.
    pub(crate) async fn call<T, A, R>(
        &self,
        call: Call<'_>,
        arguments: A,
        read: R,
    ) -> rbee_core::Result<T>
    where
        T: Send + 'static,
        A: FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> + Send + 'static,
        R: FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    {
        let Call { method, kind, turns } = call;
        let gone =
            |why: &str| Error::new(kind, format!("{}.{method} did not return: {why}", self.name));
        let turn = turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| gone("the queen has ended"))?;
        let (sender, receiver) = oneshot::channel();
        let part = self.clone();
        tokio::task::spawn_blocking(move || {
            let name = part.name.clone();
            let take: Take = Box::new(move |py, answer| {
                let answer = answer.map_err(|raised| (format!("{name}.{method}"), raised));
                let read = answer.and_then(|value| {
                    read(&value).map_err(|wrong| (format!("the answer of {name}.{method}"), wrong))
                });
                // The turn ends before the caller goes on, which may call the next method.
                drop(turn);
                let read = read.map_err(|(what, raised)| from_python(py, &what, raised, kind));
                // Whoever waited may have gone.
                let _ = sender.send(read);
            });
            // If the interpreter has ended, the sender is dropped, and the caller knows.
            let _ = Python::try_attach(|py| part.begin(py, method, arguments, take));
        });
        receiver
            .await
            .unwrap_or_else(|_| Err(gone("its event loop, or the interpreter, has ended")))
    }

    /// Calls the method. What it returns is taken now, or when it can be awaited, in the event loop.
    fn begin<A>(&self, py: Python<'_>, method: &str, arguments: A, take: Take)
    where
        A: FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>,
    {
        let called = arguments(py)
            .and_then(|arguments| self.object.bind(py).call_method1(method, arguments));
        let value = match called {
            Ok(value) if value.hasattr("__await__").unwrap_or(false) => value,
            called => return take(py, called),
        };
        let answer = Answer(Mutex::new(Some(take)));
        let begun = Py::new(py, answer).and_then(|answer| {
            let drive = py.import("rbee._drive")?;
            drive.call_method1("answer", (value, answer.clone_ref(py), self.event_loop(py)))?;
            Ok(())
        });
        // If it could not begin, the answer is dropped, and with it the sender.
        if let Err(error) = begun {
            error.write_unraisable(py, Some(self.object.bind(py)));
        }
    }

    /// Returns true if the object has the attribute. Needs the interpreter, so it is called when the object is taken.
    pub(crate) fn has(&self, py: Python<'_>, attribute: &str) -> bool {
        self.object.bind(py).hasattr(attribute).unwrap_or(false)
    }
}

/// Takes what an asynchronous method returns.
#[pyclass(frozen, module = "rbee._rbee")]
struct Answer(Mutex<Option<Take>>);

#[pymethods]
impl Answer {
    fn set(&self, value: Bound<'_, PyAny>) {
        self.put(value.py(), Ok(value.clone()));
    }

    fn fail(&self, error: Bound<'_, PyAny>) {
        self.put(error.py(), Err(PyErr::from_value(error.clone())));
    }
}

impl Answer {
    fn put(&self, py: Python<'_>, answer: PyResult<Bound<'_, PyAny>>) {
        let take = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(take) = take {
            take(py, answer);
        }
    }
}
