//! What a hive in Python reports by itself: [`Events`].

use std::sync::{Mutex, PoisonError};

use pyo3::{IntoPyObjectExt, exceptions::PyStopIteration, intern, prelude::*};
use rbee_core::{Error, ErrorKind, WorkerId, id::Epoch};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    data::{self, Machine},
    object::{HiveObject, tuple},
};
use crate::{
    delivery,
    error::{from_python, internal},
    pending::Pending,
};

/// The events that wait for their reader.
const WAITING: usize = 64;

/// An event of the object.
pub(super) enum Event {
    /// Nothing has happened: so a generator that waits can be ended.
    Nothing,
    Report(Machine),
    Exited(WorkerId, Error),
}

type Sender = mpsc::Sender<rbee_core::Result<Event>>;

/// The events of one subscription, from a generator or an asynchronous one. It is closed when this is dropped.
pub(super) struct Events {
    receiver: mpsc::Receiver<rbee_core::Result<Event>>,
    _cancel: DropGuard,
}

impl Events {
    /// Calls `watch`.
    ///
    /// # Errors
    /// What it raises.
    pub(super) async fn begin(object: &HiveObject, owner: Epoch) -> rbee_core::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let cancelled = CancellationToken::new();
        let what = format!("{}.watch", object.part.name());
        let (part, token) = (object.part.clone(), cancelled.clone());
        // A generator that does not end keeps its thread, so that others of this object wait.
        let turn = object.watches.clone().acquire_owned().await;
        let turn = turn.map_err(|_| internal("the subscriptions of a hive have ended".into()))?;
        // The answer can be read in the thread of an event loop, which does not know the runtime.
        let runtime = tokio::runtime::Handle::current();
        let read = move |events: &Bound<'_, PyAny>| {
            let py = events.py();
            if !events.hasattr("__anext__")? {
                let events = events.try_iter()?.into_any().unbind();
                runtime.spawn_blocking(move || {
                    let _turn = turn;
                    iterate(&events, &what, &sender);
                });
                return Ok(());
            }
            let sink = Py::new(py, EventSink { what, open: Mutex::new(Some(sender)) })?;
            let drive = py.import("rbee._drive")?;
            let task = drive.call_method1("start", (events, sink, part.event_loop(py)))?.unbind();
            runtime.spawn(async move {
                token.cancelled().await;
                delivery::cancel(task);
            });
            delivery::start()
        };
        let arguments = move |py: Python<'_>| tuple(py, [owner.0.into_bound_py_any(py)?]);
        object.call("watch", &object.others, arguments, read).await?;
        Ok(Self { receiver, _cancel: cancelled.drop_guard() })
    }

    pub(super) async fn next(&mut self) -> Option<rbee_core::Result<Event>> {
        self.receiver.recv().await
    }
}

fn read(event: &Bound<'_, PyAny>) -> PyResult<Event> {
    if event.is_none() {
        return Ok(Event::Nothing);
    }
    let kind = event.get_type().name()?.to_string();
    match kind.as_str() {
        "HiveReport" => data::machine(event).map(Event::Report),
        "Exited" => {
            let worker = data::worker_id(&event.getattr("worker")?)?;
            let reason: String = event.getattr("reason")?.extract()?;
            let message = format!("worker {worker} ended: {reason}");
            Ok(Event::Exited(worker, Error::new(ErrorKind::WorkerLost, message)))
        }
        _ => {
            let message = format!(
                "a hive gave {event} ({kind}); allowed are rbee.HiveReport, rbee.Exited and None"
            );
            Err(pyo3::exceptions::PyTypeError::new_err(message))
        }
    }
}

/// Reads a generator to its end, or until nobody reads its events any more.
fn iterate(events: &Py<PyAny>, what: &str, sender: &Sender) {
    loop {
        let next = Python::try_attach(|py| {
            if sender.is_closed() {
                // A generator gets `GeneratorExit`; other iterators have no `close`.
                if let Ok(close) = events.getattr(py, intern!(py, "close"))
                    && let Err(error) = close.call0(py)
                {
                    error.write_unraisable(py, Some(events.bind(py)));
                }
                return None;
            }
            match events.call_method0(py, intern!(py, "__next__")) {
                Ok(event) => Some(read(event.bind(py)).map_err(|error| raised(py, what, error))),
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => None,
                Err(error) => Some(Err(raised(py, what, error))),
            }
        });
        let Some(Some(event)) = next else { return };
        let is_end = event.is_err();
        // If nobody reads any more, the generator is closed in the next turn.
        if sender.blocking_send(event).is_ok() && is_end {
            return;
        }
    }
}

fn raised(py: Python<'_>, what: &str, error: PyErr) -> Error {
    from_python(py, what, error, ErrorKind::HiveUnreachable)
}

/// Takes the events of an asynchronous generator.
#[pyclass(frozen, module = "rbee._rbee")]
struct EventSink {
    what: String,
    /// `None` once it was closed.
    open: Mutex<Option<Sender>>,
}

#[pymethods]
impl EventSink {
    /// Takes an event. Returns `None`, or what to await if the reader is slow.
    fn send(&self, event: &Bound<'_, PyAny>) -> PyResult<Option<Pending>> {
        Ok(self.put(Ok(read(event)?)))
    }

    /// The generator has ended, perhaps by an exception.
    fn end(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) -> Option<Pending> {
        self.put(Err(raised(py, &self.what, PyErr::from_value(error?))))
    }

    fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl EventSink {
    fn put(&self, event: rbee_core::Result<Event>) -> Option<Pending> {
        let sender = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        match sender.try_send(event) {
            // If nobody reads any more, the task is cancelled soon.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(event)) => Some(Pending::new(async move {
                let _ = sender.send(event).await;
                Ok(())
            })),
        }
    }
}
