//! The workers of a hive in Python: [`PyFactory`] starts them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pyo3::{IntoPyObjectExt, prelude::*};
use rbee_core::{
    Error, ErrorKind, HiveId, Worker, WorkerId, WorkerSpec,
    hive::{Progress, WorkerFactory},
};
use tokio::sync::oneshot;

use super::{
    data::{ProgressView, of_spec},
    object::{HiveObject, tuple},
};
use crate::{part::Call, worker::PyWorker};

/// How long a worker has to end that nobody needs any more when it has started.
const GRACE: Duration = Duration::from_secs(5);

/// What is under way on a hive.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// The orders whose loads have not begun.
    orders: Mutex<HashMap<WorkerId, WorkerSpec>>,
    /// The number of loads and stops of a worker that run. The object may have such a worker, and it is none that the
    /// hive should find.
    busy: Mutex<HashMap<WorkerId, usize>>,
}

impl Loads {
    pub(super) fn order(&self, id: WorkerId, spec: WorkerSpec) {
        self.orders().insert(id, spec);
    }

    /// Removes the order of a load that has begun, or begins no more.
    pub(super) fn forget(&self, id: WorkerId) -> Option<WorkerSpec> {
        self.orders().remove(&id)
    }

    pub(super) fn is_busy(&self, id: WorkerId) -> bool {
        self.all_busy().contains_key(&id)
    }

    /// Counts a load or a stop, until the result is dropped.
    pub(super) fn busy(self: &Arc<Self>, id: WorkerId) -> Busy {
        *self.all_busy().entry(id).or_default() += 1;
        Busy { loads: self.clone(), id }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<WorkerId, WorkerSpec>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_busy(&self) -> MutexGuard<'_, HashMap<WorkerId, usize>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load or a stop that runs.
pub(super) struct Busy {
    loads: Arc<Loads>,
    id: WorkerId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut all = self.loads.all_busy();
        if let Some(count) = all.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.id);
            }
        }
    }
}

/// Starts workers by the method `spawn` of an object.
#[derive(Debug)]
pub(super) struct PyFactory {
    pub(super) object: Arc<HiveObject>,
    pub(super) loads: Arc<Loads>,
}

#[async_trait]
impl WorkerFactory for PyFactory {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> rbee_core::Result<Arc<dyn Worker>> {
        let spec = self.loads.forget(id).unwrap_or_else(|| spec.clone());
        let (object, busy, hive) = (self.object.clone(), self.loads.busy(id), hive.clone());
        let (sender, receiver) = oneshot::channel();
        // The method runs to its end, whoever waits. If nobody does any more, the worker is stopped again.
        tokio::spawn(async move {
            let _busy = busy;
            let spawned = spawn(&object, id, hive, spec, progress).await;
            if let Err(Ok(_)) = sender.send(spawned)
                && let Err(error) = object.stop(id, GRACE).await
            {
                tracing::warn!(worker = %id, %error, "a worker that is not needed could not be stopped");
            }
        });
        let lost = |_| Err(Error::new(ErrorKind::WorkerFault, "the start of the worker was lost"));
        let worker = receiver.await.unwrap_or_else(lost)?;
        Ok(Arc::new(worker))
    }
}

async fn spawn(
    object: &HiveObject,
    id: WorkerId,
    hive: HiveId,
    spec: WorkerSpec,
    progress: Progress,
) -> rbee_core::Result<PyWorker> {
    let call = Call { method: "spawn", kind: ErrorKind::WorkerFault, turns: &object.loads };
    let (part, ordered) = (object.part.clone(), spec.clone());
    let arguments = move |py: Python<'_>| {
        let progress = ProgressView::new(progress).into_bound_py_any(py)?;
        tuple(py, [id.to_string().into_bound_py_any(py)?, of_spec(py, &spec)?, progress])
    };
    let read = move |worker: &Bound<'_, PyAny>| {
        PyWorker::of_hive(worker, part.event_loop(worker.py()), id, hive, Some(&ordered))
    };
    object.part.call(call, arguments, read).await
}
