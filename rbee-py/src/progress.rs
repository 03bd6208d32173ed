//! Functions of Python that get reports of progress: [`Calls`].

use std::sync::{Mutex, PoisonError, mpsc};

use pyo3::{IntoPyObjectExt, prelude::*};
use rbee_core::hive::Progress;
use rbee_transport_ssh::SshEvent;

type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Calls a function of Python, in a thread that ends with it. The caller does not wait; what it reports while the
/// function still runs is reported afterwards, at most 1,000 of it.
pub(crate) struct Calls(Mutex<mpsc::SyncSender<Make>>);

/// The most reports that wait for the function.
const MOST_WAITING: usize = 1_000;

impl Calls {
    pub(crate) fn new(function: Py<PyAny>) -> Self {
        let (sender, reports) = mpsc::sync_channel::<Make>(MOST_WAITING);
        std::thread::spawn(move || {
            for report in reports {
                let called = Python::try_attach(|py| {
                    let called = report(py).and_then(|value| function.call1(py, (value,)));
                    if let Err(error) = called {
                        // There is nobody to raise it to, as with a function of `signal` or `weakref`.
                        error.write_unraisable(py, Some(function.bind(py)));
                    }
                });
                if called.is_none() {
                    return;
                }
            }
        });
        Self(Mutex::new(sender))
    }

    /// Reports something, unless too much waits.
    pub(crate) fn call(
        &self,
        make: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static,
    ) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What does not fit is followed by newer figures.
        let _ = sender.try_send(Box::new(make));
    }
}

/// The progress of a model, for a function that gets `rbee.Progress`.
pub(crate) fn of_model(function: Option<Py<PyAny>>) -> Progress {
    let Some(function) = function else { return Progress::ignore() };
    let calls = Calls::new(function);
    Progress::new(move |update| {
        calls.call(move |py| {
            crate::job::object(py, "Progress", (update.done, update.total)).map(Bound::unbind)
        });
    })
}

/// A step of a connection.
pub(crate) fn step(py: Python<'_>, event: &SshEvent) -> PyResult<Py<PyAny>> {
    let values = match event {
        SshEvent::Started { host, step } => {
            (host.clone(), step.name().to_owned(), "started", None, None)
        }
        SshEvent::Finished { host, step, duration, detail } => {
            let seconds = Some(duration.as_secs_f64());
            (host.clone(), step.name().to_owned(), "finished", seconds, Some(detail.clone()))
        }
        SshEvent::Sent { host, file, done, total } => {
            let sent = format!("{file}: {done} of {total} bytes");
            (host.clone(), "copy the programs".to_owned(), "sent", None, Some(sent))
        }
        other => (String::new(), format!("{other:?}"), "other", None, None),
    };
    crate::job::object(py, "Step", values)?.into_py_any(py)
}
