//! What the runtime brings to event loops of Python.
//!
//! The runtime's threads never wait for the interpreter's lock: they put what has happened into a list, and one thread
//! takes it from there to the event loops. What has happened meanwhile goes together, with one call for each loop.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{error::to_python, reader::Reader};

/// A result that is made in Python's memory when it is delivered.
pub(crate) type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A future of `asyncio`, and its loop.
pub(crate) struct LoopFuture {
    pub(crate) event_loop: Py<PyAny>,
    pub(crate) future: Py<PyAny>,
}

impl LoopFuture {
    /// A future of the loop that runs in this thread.
    ///
    /// # Errors
    /// `RuntimeError` if none runs.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        static RUNNING_LOOP: OnceLock<Py<PyAny>> = OnceLock::new();
        let running_loop = match RUNNING_LOOP.get() {
            Some(found) => found,
            None => {
                let found = py.import("asyncio")?.getattr("get_running_loop")?.unbind();
                RUNNING_LOOP.get_or_init(|| found)
            }
        };
        let event_loop = running_loop.bind(py).call0()?;
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?.unbind();
        Ok(Self { event_loop: event_loop.unbind(), future })
    }

    /// Sets the result, in the thread of the loop. A future that was cancelled stays so.
    pub(crate) fn resolve(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match result {
            Ok(value) => future.call_method1(pyo3::intern!(py, "set_result"), (value,)),
            Err(error) => {
                future.call_method1(pyo3::intern!(py, "set_exception"), (error.into_value(py),))
            }
        }
        .map(drop)
    }
}

/// What has happened.
pub(crate) enum Delivery {
    /// An operation has ended.
    Ended(LoopFuture, rbee_core::Result<Value>),
    /// A reader may have more to read.
    Ready(Arc<Reader>),
    /// A task is not needed any more.
    Cancelled(Py<PyAny>),
}

#[derive(Default)]
struct Waiting {
    deliveries: Vec<Delivery>,
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

static WAITING: Mutex<Waiting> =
    Mutex::new(Waiting { deliveries: Vec::new(), thread: None, ended: false });
static ARRIVED: Condvar = Condvar::new();

/// Hands something over. It never waits for the interpreter.
pub(crate) fn deliver(delivery: Delivery) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.ended {
        return;
    }
    waiting.deliveries.push(delivery);
    drop(waiting);
    ARRIVED.notify_one();
}

/// Starts the thread, unless it runs.
///
/// # Errors
/// `RuntimeError` if the system gives no thread.
pub(crate) fn start() -> PyResult<()> {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.thread.is_none() && !waiting.ended {
        let thread = std::thread::Builder::new().name("rbee-python".into()).spawn(run);
        let failed =
            |cause| PyRuntimeError::new_err(format!("rbee cannot start a thread: {cause}"));
        waiting.thread = Some(thread.map_err(failed)?);
    }
    Ok(())
}

/// Ends the thread. What was not delivered is dropped.
pub(crate) fn end(py: Python<'_>) {
    let (thread, rest) = {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.ended = true;
        (waiting.thread.take(), std::mem::take(&mut waiting.deliveries))
    };
    ARRIVED.notify_one();
    drop(rest);
    if let Some(thread) = thread {
        // It reports nothing that could be lost.
        let _ = py.detach(|| thread.join());
    }
}

fn run() {
    loop {
        let deliveries = {
            let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
            let mut waiting = ARRIVED
                .wait_while(waiting, |waiting| waiting.deliveries.is_empty() && !waiting.ended)
                .unwrap_or_else(PoisonError::into_inner);
            if waiting.ended {
                return;
            }
            std::mem::take(&mut waiting.deliveries)
        };
        if Python::try_attach(|py| hand_over(py, deliveries)).is_none() {
            return;
        }
    }
}

fn hand_over(py: Python<'_>, deliveries: Vec<Delivery>) {
    let mut batches: Vec<(Py<PyAny>, Vec<Delivery>)> = Vec::new();
    for delivery in deliveries {
        let event_loop = match &delivery {
            Delivery::Ended(future, _) => Some(future.event_loop.clone_ref(py)),
            Delivery::Ready(reader) => reader.event_loop(py),
            Delivery::Cancelled(task) => {
                // A future of `concurrent`, which can be cancelled in any thread. One that has ended stays so.
                let _ = task.call_method0(py, pyo3::intern!(py, "cancel"));
                None
            }
        };
        let Some(event_loop) = event_loop else { continue };
        match batches.iter_mut().find(|(known, _)| known.is(&event_loop)) {
            Some((_, batch)) => batch.push(delivery),
            None => batches.push((event_loop, vec![delivery])),
        }
    }
    for (event_loop, batch) in batches {
        let batch = Batch(Mutex::new(batch));
        let Ok(batch) = Py::new(py, batch) else { continue };
        // A loop that was closed has no use for it.
        let _ = event_loop.call_method1(py, pyo3::intern!(py, "call_soon_threadsafe"), (batch,));
    }
}

/// Deliveries for one loop, which calls this.
#[pyclass(frozen, module = "rbee._rbee")]
struct Batch(Mutex<Vec<Delivery>>);

#[pymethods]
impl Batch {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let batch = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for delivery in batch {
            match delivery {
                Delivery::Ended(future, result) => {
                    let result = result.map_err(|error| to_python(py, &error));
                    future.resolve(py, result.and_then(|value| value(py)))?;
                }
                Delivery::Ready(reader) => reader.resolve(py)?,
                Delivery::Cancelled(_) => {}
            }
        }
        Ok(())
    }
}
