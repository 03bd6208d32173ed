//! The backlog: entries that are written, in order, once the store can be written again.
//!
//! Its size depends on the number of things it is about, not on how long the store fails: of several changes of the
//! same thing only those that make a difference are kept. Ends of jobs are bounded because no job is admitted in the
//! meantime.

use std::collections::{BTreeMap, HashMap};

use super::WriteEntry;
use crate::{
    id::{HiveId, JobId, WorkerId},
    model_ref::ModelRef,
    registry::Change,
    time::WallTime,
};

/// What a change is about. A later change with the same key replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Running(JobId),
    Requeued(JobId),
    HivePut(HiveId),
    HiveGone(HiveId),
    Model(HiveId, ModelRef),
    Worker(HiveId, WorkerId),
}

impl Key {
    fn of(change: &Change) -> Option<Self> {
        Some(match change {
            Change::JobRunning { job, .. } => Self::Running(*job),
            Change::JobRequeued { job, .. } => Self::Requeued(*job),
            Change::HivePut(record) => Self::HivePut(record.id.clone()),
            Change::HiveGone(hive) => Self::HiveGone(hive.clone()),
            Change::ModelPut(record) => Self::Model(record.hive.clone(), record.model.clone()),
            Change::ModelGone { hive, model } => Self::Model(hive.clone(), model.clone()),
            Change::WorkerPut(record) => Self::Worker(record.hive.clone(), record.worker),
            Change::WorkerGone { hive, worker } => Self::Worker(hive.clone(), *worker),
            Change::JobQueued(_)
            | Change::JobTokens { .. }
            | Change::JobVectors { .. }
            | Change::JobEnded { .. }
            | Change::JobErased { .. }
            | Change::TenantPut(_)
            | Change::TenantGone(_)
            | Change::PolicyPut(_) => return None,
        })
    }

    /// The key whose changes become obsolete after a change of this key.
    fn outdates(&self) -> Option<Self> {
        match self {
            // The attempt before it was requeued.
            Self::Running(job) => Some(Self::Requeued(*job)),
            // Not the other way round: a hive that is added again after it was removed has lost its models.
            Self::HiveGone(hive) => Some(Self::HivePut(hive.clone())),
            _ => None,
        }
    }
}

/// Entries in the order in which they were handed in.
#[derive(Default)]
pub(super) struct Backlog {
    entries: BTreeMap<u64, WriteEntry>,
    latest: HashMap<Key, u64>,
    next: u64,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Appends an entry. An entry that nothing waits for is split: each of its changes is independent.
    pub(super) fn push(&mut self, entry: WriteEntry) {
        let is_plain = entry.n.is_none() && entry.tokens.is_none();
        if !is_plain {
            return self.append(None, entry);
        }
        for mut change in entry.changes {
            let key = Key::of(&change);
            if let Some(key) = &key {
                let before = self.remove(key);
                keep_start(&mut change, before);
                key.outdates().map(|outdated| self.remove(&outdated));
            }
            self.append(key, WriteEntry::plain(vec![change]));
        }
    }

    fn append(&mut self, key: Option<Key>, entry: WriteEntry) {
        self.next += 1;
        self.entries.insert(self.next, entry);
        if let Some(key) = key {
            self.latest.insert(key, self.next);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<WriteEntry> {
        self.entries.remove(&self.latest.remove(key)?)
    }

    /// Removes and returns the first entries, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> Vec<WriteEntry> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, entry)) = self.entries.pop_first()
        {
            if let [change] = &entry.changes[..]
                && let Some(key) = Key::of(change)
            {
                self.latest.remove(&key);
            }
            taken.push(entry);
        }
        taken
    }

    /// Puts entries that were taken and not written back in front of everything else.
    pub(super) fn put_back(&mut self, taken: Vec<WriteEntry>) {
        let rest = std::mem::take(&mut self.entries);
        self.latest.clear();
        taken.into_iter().chain(rest.into_values()).for_each(|entry| self.push(entry));
    }

    /// The jobs whose ends are in it with a waiter: they are kept nowhere else.
    pub(super) fn unkept_ends(&self) -> Vec<JobId> {
        let awaited = self.entries.values().filter(|entry| entry.n.is_some());
        let changes = awaited.flat_map(|entry| &entry.changes);
        let end = |change: &Change| match change {
            Change::JobEnded { job, .. } => Some(*job),
            _ => None,
        };
        changes.filter_map(end).collect()
    }
}

/// Keeps the time of a job's first start.
fn keep_start(change: &mut Change, before: Option<WriteEntry>) {
    let Change::JobRunning { at, .. } = change else { return };
    let earlier = before.and_then(|entry| match entry.changes.first() {
        Some(Change::JobRunning { at, .. }) => Some(*at),
        _ => None,
    });
    *at = earlier.map_or(*at, |earlier: WallTime| earlier.min(*at));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::AnswerFormat, event::Outcome};

    fn job(n: u128) -> JobId {
        JobId::from_random_bits(n)
    }

    fn running(n: u128, attempt: u32) -> Change {
        Change::JobRunning {
            job: job(n),
            worker: WorkerId::from_random_bits(attempt.into()),
            attempt,
            at: WallTime::from_millis(attempt.into()),
            numerics: "n".into(),
            format: AnswerFormat::default(),
        }
    }

    fn ended(n: u128) -> WriteEntry {
        let change = Change::JobEnded {
            job: job(n),
            outcome: Outcome::Cancelled,
            at: WallTime::from_millis(9),
            used_tokens: 0,
            keep_request: false,
            keep_output: false,
        };
        WriteEntry { n: Some(1), ..WriteEntry::plain(vec![change]) }
    }

    fn changes(mut backlog: Backlog) -> Vec<Change> {
        backlog.take(usize::MAX).into_iter().flat_map(|entry| entry.changes).collect()
    }

    #[test]
    fn a_job_that_is_tried_for_ever_takes_no_more_room_than_one_that_is_tried_twice() {
        let mut backlog = Backlog::default();
        for attempt in 1..=1_000 {
            backlog.push(WriteEntry::plain(vec![running(1, attempt)]));
            backlog.push(WriteEntry::plain(vec![Change::JobRequeued { job: job(1), attempts: 1 }]));
            backlog.push(WriteEntry::plain(vec![running(2, attempt)]));
        }
        assert!(backlog.len() <= 3, "{} entries", backlog.len());
        let started = |attempt, n| match running(n, attempt) {
            Change::JobRunning { job, worker, attempt, numerics, .. } => Change::JobRunning {
                job,
                worker,
                attempt,
                at: WallTime::from_millis(1),
                numerics,
                format: AnswerFormat::default(),
            },
            other => other,
        };
        let requeued = Change::JobRequeued { job: job(1), attempts: 1 };
        assert_eq!(changes(backlog), [started(1_000, 1), requeued, started(1_000, 2)]);
    }

    #[test]
    fn what_was_taken_out_and_not_written_comes_first_again() {
        let mut backlog = Backlog::default();
        backlog.push(WriteEntry::plain(vec![running(1, 1)]));
        backlog.push(ended(1));
        backlog.push(ended(2));
        let taken = backlog.take(2);
        backlog.push(ended(3));
        backlog.put_back(taken);
        assert_eq!(backlog.unkept_ends(), [job(1), job(2), job(3)]);
        assert_eq!(changes(backlog)[0], running(1, 1));
    }

    #[test]
    fn a_hive_that_was_removed_and_added_again_is_removed_first() {
        let hive: HiveId = "h".parse().unwrap();
        let model: ModelRef = "m".parse().unwrap();
        let gone = || Change::HiveGone(hive.clone());
        let model_gone = || Change::ModelGone { hive: hive.clone(), model: model.clone() };
        let mut backlog = Backlog::default();
        for _ in 0..10 {
            backlog.push(WriteEntry::plain(vec![gone(), model_gone(), model_gone()]));
        }
        assert_eq!(changes(backlog), [gone(), model_gone()]);
    }
}
