//! A registry that is an object of Python: [`PyRegistry`].

mod changes;
mod rows;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pyo3::{IntoPyObjectExt, prelude::*, types::PyTuple};
use rbee_core::{
    Error, ErrorKind, Registry,
    id::{Epoch, QueenId},
    registry::{Change, JobFilter, JobRecord, PolicyFilter, PolicyRecord, Snapshot},
};
use tokio::sync::Semaphore;

use crate::part::{Call, Part};

/// The methods that a registry has.
const NEEDED: [&str; 6] = ["open", "record", "renew", "release", "jobs", "policies"];

/// How long a call may take, with the time until earlier calls have returned. Then the store counts as failed.
const LIMIT: Duration = Duration::from_secs(60);

/// An object with the methods of `rbee.Registry`. They are called one at a time, so the object needs no locks.
#[derive(Debug)]
pub(crate) struct PyRegistry {
    part: Part,
    turn: Arc<Semaphore>,
    keeps_ends: bool,
}

impl PyRegistry {
    /// Takes the object.
    ///
    /// # Errors
    /// `TypeError` if it lacks a method.
    pub(crate) fn new(object: &Bound<'_, PyAny>, event_loop: Option<Py<PyAny>>) -> PyResult<Self> {
        let part =
            Part::new(object, "a registry is a path, or an object that", &NEEDED, event_loop)?;
        let keeps_ends = part.has(object.py(), "keep_ends");
        Ok(Self { part, turn: Arc::new(Semaphore::new(1)), keeps_ends })
    }

    /// Calls a method. Whatever it raises that is no error of rbee is an error of the store: the queen then keeps the
    /// changes, and hands them in again.
    async fn call<T, A, R>(
        &self,
        method: &'static str,
        arguments: A,
        read: R,
    ) -> rbee_core::Result<T>
    where
        T: Send + 'static,
        A: FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> + Send + 'static,
        R: FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    {
        let call = Call { method, kind: ErrorKind::Storage, turns: &self.turn };
        let called = tokio::time::timeout(LIMIT, self.part.call(call, arguments, read)).await;
        called.unwrap_or_else(|_| {
            let message = format!("{}.{method} did not return within {LIMIT:?}", self.part.name());
            Err(Error::new(ErrorKind::Storage, message))
        })
    }
}

/// The arguments of a method.
fn arguments<'py, const N: usize>(
    py: Python<'py>,
    all: [Bound<'py, PyAny>; N],
) -> PyResult<Py<PyTuple>> {
    Ok(PyTuple::new(py, all)?.unbind())
}

/// For methods that return nothing.
fn nothing(_: &Bound<'_, PyAny>) -> PyResult<()> {
    Ok(())
}

#[async_trait]
impl Registry for PyRegistry {
    async fn open(&self, queen: &QueenId, lease: Duration) -> rbee_core::Result<Snapshot> {
        let (queen, lease) = (queen.to_string(), lease.as_secs_f64());
        self.call(
            "open",
            move |py: Python<'_>| {
                arguments(py, [queen.into_bound_py_any(py)?, lease.into_bound_py_any(py)?])
            },
            rows::snapshot,
        )
        .await
    }

    async fn record(&self, epoch: Epoch, changes: &[Change]) -> rbee_core::Result<()> {
        let changes = changes.to_vec();
        let made = move |py: Python<'_>| {
            arguments(py, [epoch.0.into_bound_py_any(py)?, changes::all(py, &changes)?.into_any()])
        };
        self.call("record", made, nothing).await
    }

    async fn keep_ends(&self, epoch: Epoch, ends: &[Change]) -> rbee_core::Result<()> {
        if !self.keeps_ends {
            let message = format!("{} has no keep_ends", self.part.name());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let ends = ends.to_vec();
        let made = move |py: Python<'_>| {
            arguments(py, [epoch.0.into_bound_py_any(py)?, changes::all(py, &ends)?.into_any()])
        };
        self.call("keep_ends", made, nothing).await
    }

    async fn renew(&self, epoch: Epoch) -> rbee_core::Result<Snapshot> {
        let made = move |py: Python<'_>| arguments(py, [epoch.0.into_bound_py_any(py)?]);
        self.call("renew", made, rows::snapshot).await
    }

    async fn release(&self, epoch: Epoch) -> rbee_core::Result<()> {
        let made = move |py: Python<'_>| arguments(py, [epoch.0.into_bound_py_any(py)?]);
        self.call("release", made, nothing).await
    }

    async fn jobs(&self, filter: &JobFilter) -> rbee_core::Result<Vec<JobRecord>> {
        let filter = filter.clone();
        let made = move |py: Python<'_>| arguments(py, [changes::job_filter(py, &filter)?]);
        self.call("jobs", made, |found| rows::list(found, rows::job)).await
    }

    async fn policies(&self, filter: &PolicyFilter) -> rbee_core::Result<Vec<PolicyRecord>> {
        let filter = *filter;
        let made = move |py: Python<'_>| arguments(py, [changes::policy_filter(py, &filter)?]);
        self.call("policies", made, |found| rows::list(found, rows::policy)).await
    }
}
