//! What is being fetched and loaded at this moment, for those who want to show it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, HiveId, ModelRef, Progress, ProgressUpdate, WorkerId};

/// Failures that are remembered; the oldest goes first.
const REMEMBERED: usize = 64;

/// A model on its way: being fetched to a hive, or loaded by a worker there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where.
    pub hive: HiveId,
    /// What.
    pub model: ModelRef,
    /// The worker that loads it; `None` while it is only fetched.
    pub worker: Option<WorkerId>,
    /// How far it has come.
    pub progress: ProgressUpdate,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Loads(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    loads: BTreeMap<u64, Load>,
    failed: VecDeque<(WorkerId, Error)>,
}

impl Loads {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Load> {
        self.lock().loads.values().cloned().collect()
    }

    /// Why the worker was not there in the end, where that was lately.
    pub(super) fn failure(&self, worker: WorkerId) -> Option<Error> {
        let inner = self.lock();
        let mut failed = inner.failed.iter().rev();
        failed.find(|(id, _)| *id == worker).map(|(_, error)| error.clone())
    }

    pub(super) fn fail(&self, worker: WorkerId, error: Error) {
        let mut inner = self.lock();
        if inner.failed.len() == REMEMBERED {
            inner.failed.pop_front();
        }
        inner.failed.push_back((worker, error));
    }

    /// One more; it is listed until the guard is dropped.
    pub(super) fn begin(
        &self,
        hive: HiveId,
        model: ModelRef,
        worker: Option<WorkerId>,
    ) -> LoadGuard {
        let mut inner = self.lock();
        inner.next += 1;
        let key = inner.next;
        let progress = ProgressUpdate::default();
        inner.loads.insert(key, Load { hive, model, worker, progress });
        drop(inner);
        LoadGuard { loads: self.clone(), key }
    }
}

pub(super) struct LoadGuard {
    loads: Loads,
    key: u64,
}

impl LoadGuard {
    /// Where the backend tells how far it has come; `also` hears of it too.
    pub(super) fn progress(&self, also: impl Fn() + Send + Sync + 'static) -> Progress {
        let (loads, key) = (self.loads.clone(), self.key);
        Progress::new(move |update| {
            if let Some(load) = loads.lock().loads.get_mut(&key) {
                load.progress = update;
            }
            also();
        })
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.loads.lock().loads.remove(&self.key);
    }
}
