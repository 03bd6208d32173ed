//! The object of a hive in Python: [`HiveObject`] calls its methods.

use std::{sync::Arc, time::Duration};

use pyo3::{IntoPyObjectExt, prelude::*, types::PyTuple};
use rbee_core::{ErrorKind, HiveId, Worker, WorkerId};
use tokio::sync::Semaphore;

use super::data::{self, Machine};
use crate::{
    part::{Call, Part},
    worker::PyWorker,
};

/// How many calls of a kind run at the same time. Each can need a thread for as long as it likes.
const LOADS: usize = 32;
const REPORTS: usize = 1;
const OTHERS: usize = 16;
const WATCHES: usize = 16;

/// The object, and how its methods are called.
#[derive(Debug)]
pub(super) struct HiveObject {
    pub(super) part: Part,
    pub(super) loads: Arc<Semaphore>,
    pub(super) reports: Arc<Semaphore>,
    pub(super) others: Arc<Semaphore>,
    pub(super) watches: Arc<Semaphore>,
    pub(super) has: Has,
}

/// The optional methods that the object has.
#[derive(Debug)]
pub(super) struct Has {
    pub(super) watch: bool,
    pub(super) shutdown: bool,
    pub(super) provision: bool,
    pub(super) remove_model: bool,
    pub(super) verify: bool,
}

impl HiveObject {
    pub(super) fn new(py: Python<'_>, part: Part) -> Self {
        let has = |method: &str| part.has(py, method);
        let has = Has {
            watch: has("watch"),
            shutdown: has("shutdown"),
            provision: has("provision"),
            remove_model: has("remove_model"),
            verify: has("verify"),
        };
        let turns = |count| Arc::new(Semaphore::new(count));
        Self {
            part,
            loads: turns(LOADS),
            reports: turns(REPORTS),
            others: turns(OTHERS),
            watches: turns(WATCHES),
            has,
        }
    }

    /// Calls a method. If it raises what is no error of rbee, the machine counts as unreachable.
    pub(super) async fn call<T, A, R>(
        &self,
        method: &'static str,
        turns: &Arc<Semaphore>,
        arguments: A,
        read: R,
    ) -> rbee_core::Result<T>
    where
        T: Send + 'static,
        A: FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> + Send + 'static,
        R: FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    {
        let call = Call { method, kind: ErrorKind::HiveUnreachable, turns };
        self.part.call(call, arguments, read).await
    }

    pub(super) async fn machine(&self) -> rbee_core::Result<Machine> {
        self.call("report", &self.reports, |py| Ok(PyTuple::empty(py).unbind()), data::machine)
            .await
    }

    /// A worker that the object has.
    pub(super) async fn worker(
        &self,
        id: WorkerId,
        hive: &HiveId,
    ) -> rbee_core::Result<Arc<dyn Worker>> {
        let (part, hive) = (self.part.clone(), hive.clone());
        let read = move |worker: &Bound<'_, PyAny>| {
            PyWorker::of_hive(worker, part.event_loop(worker.py()), id, hive, None)
        };
        let arguments = move |py: Python<'_>| tuple(py, [id.to_string().into_bound_py_any(py)?]);
        let worker = self.call("worker", &self.others, arguments, read).await?;
        Ok(Arc::new(worker))
    }

    pub(super) async fn stop(&self, id: WorkerId, grace: Duration) -> rbee_core::Result<()> {
        let arguments = move |py: Python<'_>| {
            let grace = grace.as_secs_f64();
            tuple(py, [id.to_string().into_bound_py_any(py)?, grace.into_bound_py_any(py)?])
        };
        self.call("stop", &self.others, arguments, |_| Ok(())).await
    }
}

/// The arguments of a method.
pub(super) fn tuple<'py, const N: usize>(
    py: Python<'py>,
    all: [Bound<'py, PyAny>; N],
) -> PyResult<Py<PyTuple>> {
    Ok(PyTuple::new(py, all)?.unbind())
}
