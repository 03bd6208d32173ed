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

/// What is done with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It is put on a disk, or loaded by a worker.
    Load,
    /// Its files are read again. Not listed: the model stays where it is.
    Verify,
}

#[derive(Debug)]
struct Entry {
    load: Load,
    work: Work,
    /// Who else is told how far it has come.
    listeners: Vec<Progress>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    loads: BTreeMap<u64, Entry>,
    failed: VecDeque<(WorkerId, Error)>,
}

impl Loads {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Load> {
        let inner = self.lock();
        let listed = inner.loads.values().filter(|entry| entry.work == Work::Load);
        listed.map(|entry| entry.load.clone()).collect()
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

    /// One more; it is there until the guard is dropped.
    pub(super) fn begin(
        &self,
        work: Work,
        hive: HiveId,
        model: ModelRef,
        worker: Option<WorkerId>,
    ) -> LoadGuard {
        let mut inner = self.lock();
        inner.next += 1;
        let key = inner.next;
        let load = Load { hive, model, worker, progress: ProgressUpdate::default() };
        inner.loads.insert(key, Entry { load, work, listeners: Vec::new() });
        drop(inner);
        LoadGuard { loads: self.clone(), key }
    }
}

impl Loads {
    /// Tells `progress` how far this has come, from now until its end, if it is under way.
    pub(super) fn listen(&self, work: Work, hive: &HiveId, model: &ModelRef, progress: Progress) {
        let mut inner = self.lock();
        let found = inner.loads.values_mut().find(|entry| {
            let load = &entry.load;
            entry.work == work
                && load.worker.is_none()
                && load.hive == *hive
                && load.model == *model
        });
        if let Some(entry) = found {
            entry.listeners.push(progress);
        }
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
            let listeners = match loads.lock().loads.get_mut(&key) {
                Some(entry) => {
                    entry.load.progress = update;
                    entry.listeners.clone()
                }
                None => Vec::new(),
            };
            // Outside the lock: what they do is not ours to know.
            for listener in listeners {
                listener.update(update.done, update.total);
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
