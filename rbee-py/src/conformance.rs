//! The suites that parts written in Python must pass.

mod hive;
mod registry;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use pyo3::{exceptions::PyAssertionError, prelude::*};
use rbee_core::{conformance, request::Prompt};

pub(crate) use self::{
    hive::{check_hive, check_worker_exit},
    registry::check_registry,
};
use crate::{pending::Pending, runtime, scheduler::PyScheduler, worker::PyWorker};

/// Checks a scheduler.
#[pyfunction]
pub(crate) fn check_scheduler(py: Python<'_>, scheduler: &Bound<'_, PyAny>) -> PyResult<()> {
    let scheduler = PyScheduler::new(scheduler)?;
    let check = || catch_unwind(AssertUnwindSafe(|| conformance::scheduler::check(&scheduler)));
    py.detach(check).map_err(|panic| PyAssertionError::new_err(message(&*panic)))
}

/// Checks a worker, which must give an answer of 24 tokens or more to the prompt.
#[pyfunction]
pub(crate) fn check_worker(
    worker: &Bound<'_, PyAny>,
    prompt: String,
    seed: u64,
    promptness: f64,
    event_loop: Option<Py<PyAny>>,
) -> PyResult<Pending> {
    crate::exit::register(worker.py())?;
    let worker = Arc::new(PyWorker::new(worker, event_loop)?);
    let mut subject = conformance::worker::Subject::new(worker, Prompt::Text(prompt));
    subject.seed = seed;
    subject.promptness = Duration::try_from_secs_f64(promptness).unwrap_or(subject.promptness);
    let runtime = runtime::handle()?;
    let suite = async move { conformance::worker::check(&subject).await };
    Ok(checked(async move { runtime.spawn(suite).await }))
}

/// A suite that runs. A rule that is broken is a panic, which becomes an `AssertionError`.
fn checked(
    suite: impl Future<Output = Result<(), tokio::task::JoinError>> + Send + 'static,
) -> Pending {
    let work = async move {
        Ok(suite.await.err().map(|error| match error.try_into_panic() {
            Ok(panic) => message(&*panic),
            Err(error) => error.to_string(),
        }))
    };
    Pending::making(work, |py, broken| match broken {
        None => Ok(py.None()),
        Some(message) => Err(PyAssertionError::new_err(message)),
    })
}

/// The text of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the check panicked".into())
}
