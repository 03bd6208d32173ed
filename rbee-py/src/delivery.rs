//! What the runtime brings to event loops of Python.
//!
//! The runtime's threads never wait for the interpreter's lock. Each event loop has a [`Gate`]: a list of what has
//! happened, and a socket that the loop watches. A thread of the runtime puts something into the list and writes a byte,
//! unless one is there already, and the loop takes all that has come meanwhile.

use std::{
    cell::RefCell,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use pyo3::{exceptions::PyRuntimeError, intern, prelude::*};

use crate::{error::to_python, reader::Reader};

/// A result that is made in Python's memory when it is delivered.
pub(crate) type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The loop that runs in this thread.
///
/// # Errors
/// `RuntimeError` if none runs.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING_LOOP: OnceLock<Py<PyAny>> = OnceLock::new();
    let running_loop = match RUNNING_LOOP.get() {
        Some(found) => found,
        None => {
            let found = py.import("asyncio")?.getattr("get_running_loop")?.unbind();
            RUNNING_LOOP.get_or_init(|| found)
        }
    };
    running_loop.bind(py).call0()
}

/// A future of `asyncio`, and the gate of its loop.
pub(crate) struct LoopFuture {
    pub(crate) future: Py<PyAny>,
    pub(crate) gate: Arc<Gate>,
}

impl LoopFuture {
    /// A future of the loop that runs in this thread.
    ///
    /// # Errors
    /// `RuntimeError` if none runs, and `NotImplementedError` if the loop cannot watch a socket.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let event_loop = running_loop(py)?;
        let gate = Gate::of(&event_loop)?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?.unbind();
        Ok(Self { future, gate })
    }

    /// Sets the result, in the thread of the loop. A future that was cancelled stays so.
    pub(crate) fn resolve(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match result {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => {
                future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))
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
}

/// The way to one event loop.
pub(crate) struct Gate {
    deliveries: Mutex<Vec<Delivery>>,
    /// A byte is on its way to the loop.
    is_signaled: AtomicBool,
    to_loop: UnixStream,
    in_loop: UnixStream,
}

thread_local! {
    /// The gate of the loop that this thread used last, with the address of the loop.
    static LAST: RefCell<Option<(Py<PyAny>, Arc<Gate>)>> = const { RefCell::new(None) };
}

impl Gate {
    /// The gate of a loop, which is made when it is first needed.
    ///
    /// # Errors
    /// `NotImplementedError` if the loop cannot watch a socket.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let last = LAST.with_borrow(|last| {
            let (known, gate) = last.as_ref()?;
            known.is(event_loop).then(|| gate.clone())
        });
        if let Some(gate) = last {
            return Ok(gate);
        }
        static GATES: OnceLock<Py<PyAny>> = OnceLock::new();
        let gates = match GATES.get() {
            Some(gates) => gates,
            None => {
                let made = py.import("weakref")?.getattr("WeakKeyDictionary")?.call0()?.unbind();
                GATES.get_or_init(|| made)
            }
        };
        let gates = gates.bind(py);
        let found = gates.call_method1("get", (event_loop,))?;
        let gate = if found.is_none() {
            let gate = Arc::new(Self::new().map_err(|cause| {
                PyRuntimeError::new_err(format!("rbee cannot make a socket: {cause}"))
            })?);
            let watcher = Py::new(py, Watcher(gate.clone()))?;
            event_loop.call_method1("add_reader", (gate.in_loop.as_raw_fd(), &watcher))?;
            gates.set_item(event_loop, watcher)?;
            gate
        } else {
            found.cast::<Watcher>()?.get().0.clone()
        };
        LAST.set(Some((event_loop.clone().unbind(), gate.clone())));
        Ok(gate)
    }

    fn new() -> std::io::Result<Self> {
        let (to_loop, in_loop) = UnixStream::pair()?;
        to_loop.set_nonblocking(true)?;
        in_loop.set_nonblocking(true)?;
        Ok(Self {
            deliveries: Mutex::default(),
            is_signaled: AtomicBool::new(false),
            to_loop,
            in_loop,
        })
    }

    /// Hands something over. It never waits for the interpreter.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        lock(&self.deliveries).push(delivery);
        if !self.is_signaled.swap(true, Ordering::AcqRel) {
            // If the loop was closed, nobody reads it, and nobody waits either.
            let _ = (&self.to_loop).write(&[1]);
        }
    }
}

/// What a loop calls if its gate has something.
#[pyclass(frozen, module = "rbee._rbee")]
struct Watcher(Arc<Gate>);

#[pymethods]
impl Watcher {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let gate = &self.0;
        let mut bytes = [0; 16];
        // Before the list is taken: what comes later writes a byte again.
        let _ = (&gate.in_loop).read(&mut bytes);
        gate.is_signaled.store(false, Ordering::Release);
        let mut deliveries = std::mem::take(&mut *lock(&gate.deliveries)).into_iter();
        while let Some(delivery) = deliveries.next() {
            let done = match delivery {
                Delivery::Ended(future, result) => {
                    let result = result.map_err(|error| to_python(py, &error));
                    future.resolve(py, result.and_then(|value| value(py)))
                }
                Delivery::Ready(reader) => reader.resolve(py),
            };
            // A task that exits must not take what others wait for with it.
            if done.is_err() {
                for delivery in deliveries {
                    gate.deliver(delivery);
                }
                return done;
            }
        }
        Ok(())
    }
}

/// Tasks of Python that are not needed any more, and the thread that cancels them.
#[derive(Default)]
struct Cancelling {
    tasks: Vec<Py<PyAny>>,
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

static CANCELLING: Mutex<Cancelling> =
    Mutex::new(Cancelling { tasks: Vec::new(), thread: None, ended: false });
static ARRIVED: Condvar = Condvar::new();

/// Cancels a task: a future of `concurrent`, which can be cancelled in any thread. The caller does not wait.
pub(crate) fn cancel(task: Py<PyAny>) {
    let mut cancelling = lock(&CANCELLING);
    if cancelling.ended {
        return;
    }
    cancelling.tasks.push(task);
    drop(cancelling);
    ARRIVED.notify_one();
}

/// Starts the thread that cancels tasks, unless it runs.
///
/// # Errors
/// `RuntimeError` if the system gives no thread.
pub(crate) fn start() -> PyResult<()> {
    let mut cancelling = lock(&CANCELLING);
    if cancelling.thread.is_none() && !cancelling.ended {
        let thread = std::thread::Builder::new().name("rbee-python".into()).spawn(run);
        let failed =
            |cause| PyRuntimeError::new_err(format!("rbee cannot start a thread: {cause}"));
        cancelling.thread = Some(thread.map_err(failed)?);
    }
    Ok(())
}

/// Ends the thread.
pub(crate) fn end(py: Python<'_>) {
    let (thread, rest) = {
        let mut cancelling = lock(&CANCELLING);
        cancelling.ended = true;
        (cancelling.thread.take(), std::mem::take(&mut cancelling.tasks))
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
        let tasks = {
            let mut cancelling = ARRIVED
                .wait_while(lock(&CANCELLING), |cancelling| {
                    cancelling.tasks.is_empty() && !cancelling.ended
                })
                .unwrap_or_else(PoisonError::into_inner);
            if cancelling.ended {
                return;
            }
            std::mem::take(&mut cancelling.tasks)
        };
        let cancelled = Python::try_attach(|py| {
            for task in tasks {
                // One that has ended stays so.
                let _ = task.call_method0(py, intern!(py, "cancel"));
            }
        });
        if cancelled.is_none() {
            return;
        }
    }
}
