//! The end of the interpreter: queens that are still open are closed, and every thread ends before it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use pyo3::prelude::*;
use rbee_core::Queen;

use crate::{delivery, logs, queen::QueenCore, runtime};

/// How long the queens have to end their hives when the interpreter ends.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Open {
    is_registered: bool,
    queens: Vec<Py<pyo3::types::PyAny>>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { is_registered: false, queens: Vec::new() });

/// Registers what happens at the end. It happens before Python joins its own threads.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let is_registered = std::mem::replace(
        &mut OPEN.lock().unwrap_or_else(PoisonError::into_inner).is_registered,
        true,
    );
    if !is_registered {
        let end = pyo3::wrap_pyfunction!(end, py)?;
        py.import("atexit")?.call_method1("register", (end,))?;
    }
    Ok(())
}

/// Remembers a queen, weakly.
pub(crate) fn opened(py: Python<'_>, core: &Py<QueenCore>) {
    let reference = py.import("weakref").and_then(|weakref| weakref.call_method1("ref", (core,)));
    let Ok(reference) = reference else { return };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.queens.retain(|known| known.call0(py).is_ok_and(|core| !core.is_none(py)));
    open.queens.push(reference.unbind());
}

#[pyfunction]
fn end(py: Python<'_>) -> PyResult<()> {
    let known = std::mem::take(&mut OPEN.lock().unwrap_or_else(PoisonError::into_inner).queens);
    let queens: Vec<Queen> = known
        .iter()
        .filter_map(|reference| reference.call0(py).ok())
        .filter_map(|core| {
            core.cast_bound::<QueenCore>(py).ok().and_then(|core| core.get().queen().ok())
        })
        .collect();
    if !queens.is_empty() && runtime::handle().is_ok() {
        let ending = queens.iter().map(|queen| queen.shutdown(Duration::ZERO));
        let all = async { tokio::time::timeout(LIMIT, join_all(ending)).await };
        // A failure of the end has no reader any more.
        let _ = runtime::wait(py, all);
    }
    drop(queens);
    delivery::end(py);
    py.detach(runtime::end);
    py.detach(logs::end);
    Ok(())
}
