//! Timers: at most one of each kind for each thing, and a lookup from the thing to its timer.
//!
//! A job stores the keys of its own timers. A lookup by the job's id would hit a random place in memory for each job,
//! which is expensive with a million waiting jobs.

use std::collections::BTreeMap;

use crate::{
    id::{HiveId, IdMap, JobId, LeaseId, WorkerId},
    model_ref::ModelRef,
    time::Time,
};

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Timer {
    /// Something about a job. Set with [`Timers::arm_job`].
    Job(JobTimer, JobId),
    /// An aborted attempt has not ended.
    Abort(LeaseId),
    /// A worker is not ready in time.
    Spawn(WorkerId),
    /// A failed worker must be probed.
    Probe(WorkerId),
    /// A worker has been loaded for the minimum time before it may be evicted.
    Settle(WorkerId),
    /// A download made no progress.
    Provision(HiveId, ModelRef),
    /// A hive that failed to start a model may be asked again.
    Respawn(ModelRef),
    /// A hive has been unreachable for too long.
    HiveLost(HiveId),
    /// The end of a job of a previous run is not recorded yet: send it to the readers. Named by the number of the
    /// record.
    LostEnd(u64),
    /// Match waiting jobs with workers although nothing changed.
    Autoscale,
}

impl Timer {
    fn is_settle(&self) -> bool {
        matches!(self, Self::Settle(_))
    }
}

/// What a timer of a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum JobTimer {
    /// It never started, and has waited for as long as it may.
    QueueWait,
    /// It has run for as long as it may.
    Run,
    /// The client's own deadline.
    Deadline,
    /// A retry is due.
    Retry,
    /// Its end is not recorded yet: hand it in again, or send it to the readers.
    Ending,
}

/// When a timer fires; at equal times the one set first comes first.
type TimerKey = (Time, u64);

/// The timers of one job. The key of a timer that has fired is never reused, so it may stay here.
#[derive(Debug, Default)]
pub(super) struct JobTimers([Option<TimerKey>; 5]);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<TimerKey, Timer>,
    /// Used only for lookups, so its order does not matter.
    due: IdMap<Timer, TimerKey>,
    last: u64,
    /// The number of timers of the kind [`Timer::Settle`].
    settling: usize,
}

impl Timers {
    /// Sets the timer, and replaces an earlier one of the same name.
    pub(super) fn arm(&mut self, at: Time, timer: Timer) {
        self.disarm(&timer);
        let key = self.key(at);
        self.settling += usize::from(timer.is_settle());
        self.due.insert(timer.clone(), key);
        self.queue.insert(key, timer);
    }

    pub(super) fn disarm(&mut self, timer: &Timer) {
        if let Some(key) = self.due.remove(timer) {
            self.settling -= usize::from(timer.is_settle());
            self.queue.remove(&key);
        }
    }

    pub(super) fn is_armed(&self, timer: &Timer) -> bool {
        self.due.contains_key(timer)
    }

    /// Sets a timer of this job, and replaces an earlier one of the same kind. `armed` holds the job's timers.
    pub(super) fn arm_job(&mut self, armed: &mut JobTimers, at: Time, timer: JobTimer, job: JobId) {
        self.disarm_job(armed, timer);
        let key = self.key(at);
        armed.0[timer as usize] = Some(key);
        self.queue.insert(key, Timer::Job(timer, job));
    }

    pub(super) fn disarm_job(&mut self, armed: &mut JobTimers, timer: JobTimer) {
        if let Some(key) = armed.0[timer as usize].take() {
            self.queue.remove(&key);
        }
    }

    /// Removes all timers of this job.
    pub(super) fn disarm_all(&mut self, armed: &mut JobTimers) {
        for key in armed.0.iter_mut().filter_map(Option::take) {
            self.queue.remove(&key);
        }
    }

    fn key(&mut self, at: Time) -> TimerKey {
        self.last += 1;
        (at, self.last)
    }

    /// Removes and returns the next timer that is due.
    pub(super) fn pop(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        if !matches!(timer, Timer::Job(..)) {
            self.settling -= usize::from(timer.is_settle());
            self.due.remove(&timer);
        }
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The number of timers for workers that have not been loaded for the minimum time yet.
    pub(super) fn settling(&self) -> usize {
        self.settling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn a_timer_set_again_goes_off_once_and_at_the_later_time() {
        let mut timers = Timers::default();
        let timer = Timer::Spawn(WorkerId::from_random_bits(1));
        timers.arm(at(5), timer.clone());
        timers.arm(at(9), timer.clone());
        assert_eq!(timers.pop(at(8)), None);
        assert_eq!(timers.pop(at(9)), Some(timer.clone()));
        timers.disarm(&timer);
        assert_eq!((timers.len(), timers.next()), (0, None));
    }

    #[test]
    fn workers_that_settle_are_counted() {
        let mut timers = Timers::default();
        let [one, other] = [1, 2].map(|bits| Timer::Settle(WorkerId::from_random_bits(bits)));
        timers.arm(at(5), one.clone());
        timers.arm(at(6), one.clone());
        timers.arm(at(7), other.clone());
        assert_eq!(timers.settling(), 2);
        timers.disarm(&other);
        timers.disarm(&other);
        assert_eq!((timers.settling(), timers.pop(at(6))), (1, Some(one)));
        assert_eq!((timers.settling(), timers.len()), (0, 0));
    }

    #[test]
    fn a_timer_of_a_job_set_again_goes_off_once_and_what_has_passed_takes_nothing_with_it() {
        let (mut timers, mut armed) = (Timers::default(), JobTimers::default());
        let [job, other] = [1, 2].map(JobId::from_random_bits);
        timers.arm_job(&mut armed, at(5), JobTimer::Run, job);
        timers.arm_job(&mut armed, at(9), JobTimer::Run, job);
        timers.arm_job(&mut armed, at(7), JobTimer::Deadline, job);
        let mut others = JobTimers::default();
        timers.arm_job(&mut others, at(9), JobTimer::Run, other);
        assert_eq!(timers.pop(at(6)), None);
        assert_eq!(timers.pop(at(9)), Some(Timer::Job(JobTimer::Deadline, job)));
        assert_eq!(timers.pop(at(9)), Some(Timer::Job(JobTimer::Run, job)));
        timers.disarm_all(&mut armed);
        assert_eq!(timers.pop(at(9)), Some(Timer::Job(JobTimer::Run, other)));
        assert_eq!((timers.len(), timers.next()), (0, None));
    }
}
