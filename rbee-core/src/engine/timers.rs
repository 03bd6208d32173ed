//! Alarms: at most one of each kind for each thing, and a way back from the thing to its alarm.

use std::collections::{BTreeSet, HashMap};

use crate::{HiveId, JobId, LeaseId, ModelRef, Time, WorkerId};

/// What an alarm is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A job that never started has waited for as long as it may.
    QueueWait(JobId),
    /// A job has run for as long as it may.
    Run(JobId),
    /// The client's own deadline.
    Deadline(JobId),
    /// A retry is due.
    Retry(JobId),
    /// The end of a job is to be recorded once more.
    Rerecord(JobId),
    /// An attempt that was told to end has not.
    Abort(LeaseId),
    /// A worker is not ready in time.
    Spawn(WorkerId),
    /// A failed worker is to be probed.
    Probe(WorkerId),
    /// A worker has been loaded for as long as it must before it may make room.
    Settle(WorkerId),
    /// A download made no progress.
    Provision(HiveId, ModelRef),
    /// A hive that failed to start a model may be asked again.
    Respawn(ModelRef),
    /// A hive has been away for too long.
    HiveLost(HiveId),
    /// Match waiting jobs with workers although nothing changed.
    Optimise,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Time, Alarm)>,
    /// Only ever looked into, so its order does not matter.
    due: HashMap<Alarm, Time>,
}

impl Timers {
    /// Sets the alarm, in the place of an earlier one of the same name.
    pub(super) fn arm(&mut self, at: Time, alarm: Alarm) {
        self.disarm(&alarm);
        self.due.insert(alarm.clone(), at);
        self.queue.insert((at, alarm));
    }

    pub(super) fn disarm(&mut self, alarm: &Alarm) {
        if let Some((alarm, at)) = self.due.remove_entry(alarm) {
            self.queue.remove(&(at, alarm));
        }
    }

    pub(super) fn is_armed(&self, alarm: &Alarm) -> bool {
        self.due.contains_key(alarm)
    }

    /// The next alarm that is due, taken out.
    pub(super) fn pop(&mut self, now: Time) -> Option<Alarm> {
        if self.queue.first()?.0 > now {
            return None;
        }
        let (_, alarm) = self.queue.pop_first()?;
        self.due.remove(&alarm);
        Some(alarm)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_set_again_goes_off_once_and_at_the_later_time() {
        let mut timers = Timers::default();
        let alarm = Alarm::QueueWait(JobId::from_random_bits(1));
        timers.arm(Time::from_micros(5), alarm.clone());
        timers.arm(Time::from_micros(9), alarm.clone());
        assert_eq!(timers.pop(Time::from_micros(8)), None);
        assert_eq!(timers.pop(Time::from_micros(9)), Some(alarm.clone()));
        timers.disarm(&alarm);
        assert_eq!((timers.len(), timers.next()), (0, None));
    }
}
