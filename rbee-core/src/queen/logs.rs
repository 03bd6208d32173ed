//! The logs of all jobs, within a limit of memory and of time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::log::EventLog;
use crate::{
    event::Started,
    id::{IdMap, JobId},
    registry::Snapshot,
    settings::Settings,
};

#[derive(Debug, Default)]
struct Inner {
    logs: IdMap<JobId, Arc<EventLog>>,
    /// Ended jobs, in the order in which they ended.
    ended: VecDeque<(Instant, JobId, usize)>,
    ended_bytes: usize,
    /// Logs that were read back from the store, as long as they have readers.
    read_back: IdMap<JobId, Weak<EventLog>>,
}

/// Logs of live jobs, and of ended ones as long as readers may come back for them.
#[derive(Debug)]
pub(super) struct Logs {
    inner: Mutex<Inner>,
    settings: Arc<Settings>,
}

impl Logs {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { inner: Mutex::default(), settings }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every job of a previous run its log, with the recorded part of its answer.
    pub(super) fn restore(&self, snapshot: &Snapshot) -> Vec<JobId> {
        for job in &snapshot.jobs {
            let started = (!job.chunks.is_empty())
                .then(|| Started { worker: job.status.worker(), queue_wait: Duration::ZERO });
            let log = EventLog::taken_over(&job.chunks, started).of_tenant(job.tenant.clone());
            self.insert(job.id, Arc::new(log));
        }
        snapshot.jobs.iter().map(|job| job.id).collect()
    }

    pub(super) fn insert(&self, job: JobId, log: Arc<EventLog>) {
        self.lock().logs.insert(job, log);
    }

    pub(super) fn get(&self, job: JobId) -> Option<Arc<EventLog>> {
        let inner = self.lock();
        inner.logs.get(&job).cloned().or_else(|| inner.read_back.get(&job)?.upgrade())
    }

    /// Shares a log that was read back from the store: all readers of the job use it, and it is dropped with the last
    /// of them.
    pub(super) fn share(&self, job: JobId, log: EventLog) -> Arc<EventLog> {
        let mut inner = self.lock();
        if let Some(shared) = inner.read_back.get(&job).and_then(Weak::upgrade) {
            return shared;
        }
        inner.read_back.retain(|_, log| log.strong_count() > 0);
        let log = Arc::new(log);
        inner.read_back.insert(job, Arc::downgrade(&log));
        log
    }

    /// The job has ended: from now on its log may be dropped to make room.
    pub(super) fn ended(&self, job: JobId) {
        let mut inner = self.lock();
        let Some(bytes) = inner.logs.get(&job).map(|log| log.bytes()) else {
            return;
        };
        inner.ended.push_back((Instant::now(), job, bytes));
        inner.ended_bytes += bytes;
        self.trim_locked(&mut inner);
    }

    /// Drops logs that are too old or take too much memory, oldest first.
    pub(super) fn trim(&self) {
        self.trim_locked(&mut self.lock());
    }

    fn trim_locked(&self, inner: &mut Inner) {
        while let Some((at, job, bytes)) = inner.ended.front().copied() {
            if at.elapsed() < self.settings.events_kept
                && inner.ended_bytes <= self.settings.events_bytes
            {
                return;
            }
            inner.ended.pop_front();
            inner.ended_bytes -= bytes;
            inner.logs.remove(&job);
        }
    }

    /// The logs of jobs that have not ended.
    pub(super) fn live(&self) -> Vec<(JobId, Arc<EventLog>)> {
        let inner = self.lock();
        let ended: std::collections::HashSet<_> =
            inner.ended.iter().map(|(_, job, _)| *job).collect();
        let live = inner.logs.iter().filter(|(job, _)| !ended.contains(job));
        live.map(|(job, log)| (*job, log.clone())).collect()
    }
}
