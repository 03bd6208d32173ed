//! Operations that Python waits for: [`Pending`].

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyRuntimeError, PyTimeoutError},
    prelude::*,
};
use tokio::task::AbortHandle;

use crate::{
    delivery::{Delivery, LoopFuture, Value},
    error::to_python,
    runtime,
};

type Work = Pin<Box<dyn Future<Output = rbee_core::Result<Value>> + Send>>;

/// An operation. It begins when it is awaited in an event loop, or waited for in a thread. It ends if its task is
/// cancelled.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct Pending(Mutex<Option<Work>>);

impl Pending {
    /// An operation whose result becomes an object of Python when it is there.
    pub(crate) fn new<T, W>(work: W) -> Self
    where
        W: Future<Output = rbee_core::Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self::making(work, |py, value| value.into_py_any(py))
    }

    /// An operation whose result is made by a function.
    pub(crate) fn making<T, W, M>(work: W, make: M) -> Self
    where
        W: Future<Output = rbee_core::Result<T>> + Send + 'static,
        T: Send + 'static,
        M: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        let work = async move {
            let value = work.await?;
            Ok(Box::new(move |py: Python<'_>| make(py, value)) as Value)
        };
        Self(Mutex::new(Some(Box::pin(work))))
    }

    fn take(&self) -> PyResult<Work> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.ok_or_else(|| PyRuntimeError::new_err("this operation was waited for already"))
    }
}

#[pymethods]
impl Pending {
    /// Waits in this thread, for at most `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let limit = timeout.map(seconds).transpose()?;
        let work = self.take()?;
        let done = match limit {
            None => runtime::wait(py, work)?,
            Some(limit) => {
                let limited = async { tokio::time::timeout(limit, work).await };
                runtime::wait(py, limited)?.map_err(|_| {
                    PyTimeoutError::new_err(format!(
                        "it took longer than {} s",
                        limit.as_secs_f64()
                    ))
                })?
            }
        };
        done.map_err(|error| to_python(py, &error))?(py)
    }

    fn __await__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let runtime = runtime::handle()?;
        let target = LoopFuture::new(py)?;
        let future = target.future.clone_ref(py);
        let work = self.take()?;
        let gate = target.gate.clone();
        let task = runtime.spawn(async move {
            gate.deliver(Delivery::Ended(target, work.await));
        });
        let cancel = Cancel(task.abort_handle());
        future.call_method1(py, pyo3::intern!(py, "add_done_callback"), (cancel,))?;
        future.call_method0(py, pyo3::intern!(py, "__await__"))
    }
}

/// Ends the task of an operation with the future of its result.
#[pyclass(frozen, module = "rbee._rbee")]
struct Cancel(AbortHandle);

#[pymethods]
impl Cancel {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0(pyo3::intern!(future.py(), "cancelled"))?.is_truthy()? {
            self.0.abort();
        }
        Ok(())
    }
}

/// A time in seconds.
///
/// # Errors
/// `ValueError` if it is negative, too long, or not a number.
pub(crate) fn seconds(number: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(number).map_err(|_| {
        let message = format!("{number} s is not a time; allowed is a number of seconds from 0");
        pyo3::exceptions::PyValueError::new_err(message)
    })
}
