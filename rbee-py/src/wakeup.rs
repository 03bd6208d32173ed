//! What a task waits for until a reader may have more: [`Wakeup`].

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pyo3::{PyTraverseError, PyVisit, exceptions::PyRuntimeError, intern, prelude::*};

/// A future, as far as tasks of `asyncio` use one. It calls the task in the callback of the gate, where a future of
/// `asyncio` would make the loop do that in its next turn: a turn is what a token costs most.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct Wakeup {
    event_loop: Py<PyAny>,
    /// Says to the task that it is waited for, and that this is a future.
    blocking: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_done: bool,
    is_cancelled: bool,
    /// The callback of the task, and its context.
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Wakeup {
    pub(crate) fn new(event_loop: Py<PyAny>) -> Self {
        Self { event_loop, blocking: AtomicBool::new(true), state: Mutex::default() }
    }

    /// Returns true if nobody waits: it was woken or cancelled, or its loop was closed.
    pub(crate) fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        let is_done = self.done();
        Ok(is_done || self.event_loop.call_method0(py, intern!(py, "is_closed"))?.is_truthy(py)?)
    }

    /// Lets the task go on, in the thread of its loop.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` of the task.
    pub(crate) fn wake(slf: &Py<Self>, py: Python<'_>) -> PyResult<()> {
        let callback = {
            let mut state = slf.get().state();
            if state.is_done {
                return Ok(());
            }
            state.is_done = true;
            state.callback.take()
        };
        match callback {
            Some((callback, context)) => {
                context.call_method1(py, intern!(py, "run"), (callback, slf)).map(drop)
            }
            None => Ok(()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the loop call the callback in its next turn.
    fn call_soon(
        slf: &Bound<'_, Self>,
        (callback, context): (Py<PyAny>, Py<PyAny>),
    ) -> PyResult<()> {
        let py = slf.py();
        let options = pyo3::types::PyDict::new(py);
        options.set_item(intern!(py, "context"), context)?;
        let event_loop = slf.get().event_loop.bind(py);
        let arguments = (callback, slf);
        event_loop.call_method(intern!(py, "call_soon"), arguments, Some(&options)).map(drop)
    }
}

#[pymethods]
impl Wakeup {
    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// One task waits, so there is one callback.
    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let context = match context {
            Some(context) => context,
            None => py.import("contextvars")?.call_method0("copy_context")?.unbind(),
        };
        {
            let mut state = slf.get().state();
            if !state.is_done {
                let before = state.callback.replace((callback, context));
                drop(state);
                return match before {
                    None => Ok(()),
                    Some(_) => Err(PyRuntimeError::new_err("another task waits for this")),
                };
            }
        }
        Self::call_soon(slf, (callback, context))
    }

    fn remove_done_callback(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<usize> {
        let known = self.state().callback.take();
        let Some((known, context)) = known else { return Ok(0) };
        if known.bind(py).eq(callback)? {
            return Ok(1);
        }
        self.state().callback = Some((known, context));
        Ok(0)
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let _ = msg;
        let callback = {
            let mut state = slf.get().state();
            if state.is_done {
                return Ok(false);
            }
            (state.is_done, state.is_cancelled) = (true, true);
            state.callback.take()
        };
        if let Some(callback) = callback {
            Self::call_soon(slf, callback)?;
        }
        Ok(true)
    }

    pub(crate) fn done(&self) -> bool {
        self.state().is_done
    }

    fn cancelled(&self) -> bool {
        self.state().is_cancelled
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        if !self.cancelled() {
            return Ok(());
        }
        let class = py.import("asyncio")?.getattr("CancelledError")?;
        Err(PyErr::from_value(class.call0()?))
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.result(py).map(|()| None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // Without the lock another thread changes it at this moment, and holds what it has.
        if let Ok(state) = self.state.try_lock()
            && let Some((callback, context)) = &state.callback
        {
            visit.call(callback)?;
            visit.call(context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.state().callback = None;
    }
}
