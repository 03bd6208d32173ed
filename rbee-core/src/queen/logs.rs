//! The logs of all jobs, within a limit of memory and of time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::log::EventLog;
use crate::{
    error::{Error, ErrorKind},
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
    unread: Unread,
}

/// Logs of ended jobs that only their readers hold.
#[derive(Debug, Default)]
struct Unread {
    /// In the order in which they were added, with their bytes.
    logs: VecDeque<(Weak<EventLog>, usize)>,
    bytes: usize,
    /// Those without readers are removed when there are this many.
    sweep_at: usize,
}

impl Unread {
    /// Adds a log. Moves those for which there is no room to `discarded`: the oldest, but never this one.
    fn push(
        &mut self,
        log: &Arc<EventLog>,
        bytes: usize,
        most_bytes: usize,
        discarded: &mut Vec<Arc<EventLog>>,
    ) {
        self.bytes += bytes;
        self.logs.push_back((Arc::downgrade(log), bytes));
        if self.bytes > most_bytes || self.logs.len() >= self.sweep_at {
            self.logs.retain(|(log, _)| log.strong_count() > 0);
            self.bytes = self.logs.iter().map(|(_, bytes)| bytes).sum();
            self.sweep_at = 2 * self.logs.len() + 64;
        }
        let mut left = self.logs.len() - 1;
        while self.bytes > most_bytes
            && left > 0
            && let Some((log, bytes)) = self.logs.pop_front()
        {
            left -= 1;
            match log.upgrade() {
                // Its end, and with it the rest of its answer, is not recorded yet.
                Some(held) if held.is_held_by_others(1) => self.logs.push_back((log, bytes)),
                held => {
                    self.bytes -= bytes;
                    discarded.extend(held);
                }
            }
        }
    }
}

/// Readers of ended jobs whose logs are no longer kept hold this many times the bytes of those that are.
const UNREAD_FACTOR: usize = 8;

/// Logs of live jobs, and of ended ones as long as readers may come back for them. The memory of all ended ones is
/// bounded: beyond the bound for those that are kept, only their readers hold them; beyond a bound for those, the oldest
/// are discarded under readers that are slow.
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
            let started = (!job.chunks.is_empty()).then(|| Started {
                worker: job.status.worker(),
                queue_wait: Duration::ZERO,
                format: job.format,
            });
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
        let (bytes, mut discarded) = (log.bytes(), Vec::new());
        inner.unread.push(&log, bytes, self.most_unread_bytes(), &mut discarded);
        drop(inner);
        discard(&discarded);
        log
    }

    /// Drops the log of a job that has ended. Readers that have it already may read it to its end.
    pub(super) fn forget(&self, job: JobId) {
        let mut inner = self.lock();
        let is_ended = inner.ended.iter().any(|(_, ended, _)| *ended == job);
        let log = if is_ended { inner.logs.remove(&job) } else { None };
        let read_back = inner.read_back.remove(&job);
        drop(inner);
        // Dropped outside of the lock: they may be large.
        drop((log, read_back));
    }

    fn most_unread_bytes(&self) -> usize {
        self.settings.events_bytes.saturating_mul(UNREAD_FACTOR)
    }

    /// The job has ended: from now on its log may be dropped to make room.
    pub(super) fn ended(&self, job: JobId) {
        let mut inner = self.lock();
        let Some(bytes) = inner.logs.get(&job).map(|log| log.bytes()) else {
            return;
        };
        inner.ended.push_back((Instant::now(), job, bytes));
        inner.ended_bytes += bytes;
        let discarded = self.trim_locked(&mut inner);
        drop(inner);
        discard(&discarded);
    }

    /// Drops logs that are too old or take too much memory, oldest first.
    pub(super) fn trim(&self) {
        let discarded = self.trim_locked(&mut self.lock());
        discard(&discarded);
    }

    /// Returns the logs to discard, outside of the lock.
    fn trim_locked(&self, inner: &mut Inner) -> Vec<Arc<EventLog>> {
        let mut discarded = Vec::new();
        while let Some((at, job, bytes)) = inner.ended.front().copied() {
            if at.elapsed() < self.settings.events_kept
                && inner.ended_bytes <= self.settings.events_bytes
            {
                break;
            }
            inner.ended.pop_front();
            inner.ended_bytes -= bytes;
            // Nobody reads most of them any more.
            if let Some(log) = inner.logs.remove(&job)
                && Arc::strong_count(&log) > 1
            {
                inner.unread.push(&log, bytes, self.most_unread_bytes(), &mut discarded);
            }
        }
        discarded
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

fn discard(logs: &[Arc<EventLog>]) {
    for log in logs {
        let message =
            "the events of the job are no longer in memory, because they were read too slowly";
        log.discard(Error::for_client(ErrorKind::Interrupted, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::AnswerFormat,
        event::{Finish, Outcome, Output, Usage},
        id::LeaseId,
        queen::log::JobEvents,
    };

    const STARTED: Started = Started {
        worker: None,
        queue_wait: Duration::ZERO,
        format: AnswerFormat { tools: None, reasoning: None, calls_alone: false },
    };
    const TOKENS: usize = 100;

    fn settings() -> Arc<Settings> {
        Arc::new(Settings { events_bytes: 1 << 16, ..Settings::default() })
    }

    /// Adds a job that has ended, and returns a reader that has read nothing.
    fn ended(logs: &Logs) -> JobEvents {
        let (job, log) = (JobId::random(), Arc::new(EventLog::default()));
        logs.insert(job, log.clone());
        log.begin(LeaseId(1), STARTED);
        for _ in 0..TOKENS {
            let text = "0123456789012345678901234567890123456789".into();
            let token = Output::Token { id: Some(1), text, logprobs: None };
            log.push(LeaseId(1), token, usize::MAX);
        }
        let reader = log.read(None);
        log.close(&Outcome::Complete {
            finish: Finish::Stop,
            usage: Usage::default(),
            stop_text: None,
        });
        logs.ended(job);
        reader
    }

    /// Returns false if the events broke off.
    async fn is_whole(mut reader: JobEvents) -> bool {
        let mut count = 0;
        while reader.next().await.is_some() {
            count += 1;
        }
        if let Some(why) = reader.interruption() {
            assert_eq!((why.kind(), count), (ErrorKind::Interrupted, 1));
            return false;
        }
        assert_eq!(count, TOKENS + 2);
        true
    }

    #[tokio::test]
    async fn a_thousand_readers_that_read_nothing_hold_a_bounded_memory() {
        let settings = settings();
        let logs = Logs::new(settings.clone());
        let unrecorded = ended(&logs);
        let _writer = unrecorded.log().clone();
        let readers: Vec<_> = (0..1_000).map(|_| ended(&logs)).collect();
        let empty = Arc::new(EventLog::default()).read(None).log().bytes();
        let one = readers.last().unwrap().log().bytes();
        let held: usize = readers.iter().map(|reader| reader.log().bytes() - empty).sum();
        let most = (1 + UNREAD_FACTOR) * settings.events_bytes + one;
        assert!(1_000 * (one - empty) > 3 * most, "the readers could hold more");
        assert!((most / 2..=most).contains(&held), "{held} bytes of at most {most}");
        let mut whole = 0;
        for reader in readers {
            let is_whole = is_whole(reader).await;
            assert!(is_whole || whole == 0, "the oldest ones are cut off");
            whole += usize::from(is_whole);
        }
        assert!(whole > 50, "{whole}");
        assert!(is_whole(unrecorded).await, "the writer needs it");
    }

    #[tokio::test]
    async fn a_reader_that_reads_is_not_cut_off_by_those_before_it() {
        let logs = Logs::new(settings());
        let slow = ended(&logs);
        // More than are kept, so that only these readers hold some of the logs.
        let mut others: VecDeque<_> = (0..30).map(|_| ended(&logs)).collect();
        for _ in 0..1_000 {
            others.push_back(ended(&logs));
            assert!(is_whole(others.pop_front().unwrap()).await);
        }
        let left = logs.lock().unread.logs.len();
        assert!((20..200).contains(&left), "{left}");
        assert!(is_whole(slow).await);
    }

    #[tokio::test]
    async fn logs_that_are_read_back_count_too() {
        let logs = Logs::new(settings());
        let mut readers = Vec::new();
        for _ in 0..400 {
            let log = ended(&logs).log().clone();
            // As the store gives it back: a log of its own.
            let copy = EventLog::default();
            copy.begin(LeaseId(1), STARTED);
            for _ in 0..TOKENS {
                let text = "0123456789012345678901234567890123456789".into();
                copy.push(LeaseId(1), Output::Token { id: None, text, logprobs: None }, usize::MAX);
            }
            copy.close(&Outcome::Complete {
                finish: Finish::Stop,
                usage: Usage::default(),
                stop_text: None,
            });
            drop(log);
            readers.push(logs.share(JobId::random(), copy).read(None));
        }
        assert!(is_whole(readers.pop().unwrap()).await);
        assert!(!is_whole(readers.remove(0)).await);
    }
}
