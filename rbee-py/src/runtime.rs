//! The runtime on which everything runs, and waiting on it from Python.

use std::{
    future::Future,
    pin::pin,
    sync::{Condvar, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// How long a wait lasts before signals are looked at.
const SLICE: Duration = Duration::from_millis(50);
/// How long the runtime has to end with the interpreter.
const END: Duration = Duration::from_secs(2);

struct Running {
    /// The process that started it: its threads are not in a process that was forked from that one.
    process: u32,
    /// `None` once the interpreter ends.
    runtime: Option<Runtime>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// The runtime, which the first call starts.
///
/// # Errors
/// `RuntimeError` in a process that was forked after the first call, and while the interpreter ends.
pub(crate) fn handle() -> PyResult<Handle> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    let running = match &mut *running {
        Some(running) => running,
        none => {
            let runtime =
                Builder::new_multi_thread().thread_name("rbee").enable_all().build().map_err(
                    |cause| {
                        PyRuntimeError::new_err(format!("rbee cannot start its threads: {cause}"))
                    },
                )?;
            none.insert(Running { process, runtime: Some(runtime) })
        }
    };
    if running.process != process {
        return Err(PyRuntimeError::new_err(format!(
            "rbee was used in process {}, and this process was forked from it: its threads are not here. Use rbee \
             only after the fork, or start processes with multiprocessing.get_context(\"spawn\")",
            running.process
        )));
    }
    match &running.runtime {
        Some(runtime) => Ok(runtime.handle().clone()),
        None => Err(PyRuntimeError::new_err("the interpreter ends; rbee has ended")),
    }
}

/// The threads that wait.
static WAITING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
/// Cancelled when the interpreter ends.
static ENDING: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// A thread that waits: the runtime does not end before it.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        *WAITING.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *WAITING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        WAITING.1.notify_all();
    }
}

/// Waits in this thread, without the interpreter's lock. Ctrl-C interrupts it.
///
/// # Errors
/// `KeyboardInterrupt`, and whatever else a handler of a signal raises. `RuntimeError` if the interpreter ends.
pub(crate) fn wait<T: Send>(py: Python<'_>, work: impl Future<Output = T> + Send) -> PyResult<T> {
    let _waiting = Waiting::begin();
    let handle = handle()?;
    let mut work = pin!(work);
    loop {
        let slice = || {
            handle.block_on(async {
                tokio::select! {
                    biased;
                    done = work.as_mut() => Some(Some(done)),
                    () = ENDING.cancelled() => None,
                    () = sleep(SLICE) => Some(None),
                }
            })
        };
        match py.detach(slice) {
            Some(Some(done)) => return Ok(done),
            Some(None) => py.check_signals()?,
            None => return Err(PyRuntimeError::new_err("the interpreter ends; rbee has ended")),
        }
    }
}

/// Ends the runtime, with everything that runs on it. Threads that wait get an error first.
pub(crate) fn end() {
    ENDING.cancel();
    let is_own = |running: &mut Running| running.process == std::process::id();
    let running = RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_mut()
        .and_then(|running| is_own(running).then(|| running.runtime.take()).flatten());
    let waiting = WAITING.0.lock().unwrap_or_else(PoisonError::into_inner);
    // One that does not end has the lock of the interpreter for long, and then it does not use the runtime.
    let _ = WAITING.1.wait_timeout_while(waiting, END, |count| *count > 0);
    if let Some(runtime) = running {
        runtime.shutdown_timeout(END);
    }
}
