//! The progress of downloads and loads, for display.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    error::Error,
    id::{HiveId, WorkerId},
    model_ref::ModelRef,
    progress::{Progress, ProgressUpdate},
};

/// The number of failures that are kept; the oldest is dropped first.
const REMEMBERED: usize = 64;

/// The progress of a model that is being fetched to a hive, or loaded by a worker there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The hive.
    pub hive: HiveId,
    /// The model.
    pub model: ModelRef,
    /// The worker that loads the model; `None` while it is only fetched.
    pub worker: Option<WorkerId>,
    /// The progress.
    pub progress: ProgressUpdate,
}

/// All work on models that is in progress, and the latest failures.
#[derive(Clone, Debug, Default)]
pub(super) struct LoadTracker(Arc<Mutex<Inner>>);

/// The kind of work on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The model is put on a disk, or loaded by a worker.
    Load,
    /// The files of the model are read again. Not listed, because the model does not move.
    Verify,
}

#[derive(Debug)]
struct LoadEntry {
    load: LoadProgress,
    work: Work,
    /// The other receivers of the progress.
    listeners: Vec<Progress>,
}

/// A receiver of the progress of work on a model on a hive.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) work: Work,
    pub(super) hive: HiveId,
    pub(super) model: ModelRef,
    pub(super) progress: Progress,
}

impl Listener {
    fn is_for(&self, LoadEntry { load, work, .. }: &LoadEntry) -> bool {
        *work == self.work
            && load.worker.is_none()
            && load.hive == self.hive
            && load.model == self.model
    }
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    loads: BTreeMap<u64, LoadEntry>,
    /// The listener of the order that is being given at this moment.
    listener: Option<Listener>,
    failed: VecDeque<(WorkerId, Error)>,
}

impl LoadTracker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<LoadProgress> {
        let inner = self.lock();
        let listed = inner.loads.values().filter(|entry| entry.work == Work::Load);
        listed.map(|entry| entry.load.clone()).collect()
    }

    /// The reason why a worker failed to start; `None` if it is not among the latest failures.
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

    /// Sends the progress of ordered work to the listener: from its start if `order` starts it, else from now on if it
    /// is already in progress. Only the task of the driver gives orders.
    pub(super) fn listen(&self, listener: Listener, order: impl FnOnce()) {
        self.lock().listener = Some(listener);
        order();
        let mut inner = self.lock();
        let Some(listener) = inner.listener.take() else { return };
        let entry = inner.loads.values_mut().find(|entry| listener.is_for(entry));
        let Some(entry) = entry else { return };
        let so_far = entry.load.progress;
        entry.listeners.push(listener.progress.clone());
        drop(inner);
        listener.progress.update(so_far.done, so_far.total);
    }

    /// Starts to track work, until the guard is dropped.
    pub(super) fn begin(
        &self,
        work: Work,
        hive: HiveId,
        model: ModelRef,
        worker: Option<WorkerId>,
    ) -> LoadProgressGuard {
        let mut inner = self.lock();
        inner.next += 1;
        let key = inner.next;
        let load = LoadProgress { hive, model, worker, progress: ProgressUpdate::default() };
        let mut entry = LoadEntry { load, work, listeners: Vec::new() };
        if let Some(listener) = inner.listener.take_if(|listener| listener.is_for(&entry)) {
            entry.listeners.push(listener.progress);
        }
        inner.loads.insert(key, entry);
        drop(inner);
        LoadProgressGuard { loads: self.clone(), key }
    }
}

/// Tracks work until it is dropped.
pub(super) struct LoadProgressGuard {
    loads: LoadTracker,
    key: u64,
}

impl LoadProgressGuard {
    /// The callback to which the backend reports its progress. `also` is called after each report.
    pub(super) fn progress(&self, also: impl Fn() + Send + Sync + 'static) -> Progress {
        let (loads, key) = (self.loads.clone(), self.key);
        Progress::new(move |update| {
            let listeners = match loads.lock().loads.get_mut(&key) {
                Some(entry) => {
                    entry.load.progress = update;
                    entry.listeners.clone()
                }
                None => Vec::new(),
            };
            // Outside the lock, because the listeners may do anything.
            for listener in listeners {
                listener.update(update.done, update.total);
            }
            also();
        })
    }
}

impl Drop for LoadProgressGuard {
    fn drop(&mut self) {
        self.loads.lock().loads.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelRef {
        "bee".parse().unwrap()
    }

    fn listener(work: Work) -> (Listener, Arc<Mutex<Vec<u64>>>) {
        let told = Arc::<Mutex<Vec<u64>>>::default();
        let tell = told.clone();
        let progress = Progress::new(move |update| tell.lock().unwrap().push(update.done));
        (Listener { work, hive: HiveId::local(), model: model(), progress }, told)
    }

    #[test]
    fn everybody_who_waits_for_a_download_gets_its_progress() {
        let loads = LoadTracker::default();
        let ((first, to_first), (second, to_second)) = (listener(Work::Load), listener(Work::Load));
        let (verifier, to_verifier) = listener(Work::Verify);
        let mut begun = None;
        loads.listen(first, || {
            let load = loads.begin(Work::Load, HiveId::local(), model(), None);
            let progress = load.progress(|| {});
            progress.update(1, Some(9));
            begun = Some((load, progress));
        });
        let (load, progress) = begun.unwrap();
        loads.listen(second, || {});
        loads.listen(verifier, || {});
        progress.update(2, Some(9));
        drop(load);
        progress.update(3, Some(9));
        assert_eq!(*to_first.lock().unwrap(), [1, 2]);
        assert_eq!(*to_second.lock().unwrap(), [1, 2]);
        assert_eq!((to_verifier.lock().unwrap().len(), loads.all().len()), (0, 0));
    }

    #[test]
    fn what_is_verified_is_not_listed_as_loading() {
        let loads = LoadTracker::default();
        let _verified = loads.begin(Work::Verify, HiveId::local(), model(), None);
        assert_eq!(loads.all(), []);
        let _load = loads.begin(Work::Load, HiveId::local(), model(), None);
        assert_eq!(loads.all().len(), 1);
    }
}
