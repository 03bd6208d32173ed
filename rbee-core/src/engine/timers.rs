//! Alarms: at most one of each kind for each thing, and a way back from the thing to its alarm.
//!
//! A job keeps the places of its own alarms. Looking them up by the job's name would go to a place of memory by chance
//! for every job, which a million others that wait would make dear.

use std::collections::{BTreeMap, HashMap};

use crate::{HiveId, JobId, LeaseId, ModelRef, Time, WorkerId};

/// What an alarm is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Alarm {
    /// Something about a job. Set with [`Timers::arm_job`].
    Job(JobAlarm, JobId),
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
    /// The end of a job of an earlier life is not recorded yet: tell it. Named by the number of the record.
    LostEnd(u64),
    /// Match waiting jobs with workers although nothing changed.
    Optimise,
}

impl Alarm {
    fn is_settle(&self) -> bool {
        matches!(self, Self::Settle(_))
    }
}

/// What an alarm of a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum JobAlarm {
    /// It never started, and has waited for as long as it may.
    QueueWait,
    /// It has run for as long as it may.
    Run,
    /// The client's own deadline.
    Deadline,
    /// A retry is due.
    Retry,
    /// Its end is not recorded yet: hand it in once more, or tell it.
    Ending,
}

/// When an alarm goes off; of equal times the one that was set first.
type Turn = (Time, u64);

/// The alarms of one job. A turn that has passed is of nobody any more, so it may stay here.
#[derive(Debug, Default)]
pub(super) struct JobAlarms([Option<Turn>; 5]);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<Turn, Alarm>,
    /// Only ever looked into, so its order does not matter.
    due: HashMap<Alarm, Turn>,
    last: u64,
    /// Alarms of the kind [`Alarm::Settle`].
    settling: usize,
}

impl Timers {
    /// Sets the alarm, in the place of an earlier one of the same name.
    pub(super) fn arm(&mut self, at: Time, alarm: Alarm) {
        self.disarm(&alarm);
        let turn = self.turn(at);
        self.settling += usize::from(alarm.is_settle());
        self.due.insert(alarm.clone(), turn);
        self.queue.insert(turn, alarm);
    }

    pub(super) fn disarm(&mut self, alarm: &Alarm) {
        if let Some(turn) = self.due.remove(alarm) {
            self.settling -= usize::from(alarm.is_settle());
            self.queue.remove(&turn);
        }
    }

    pub(super) fn is_armed(&self, alarm: &Alarm) -> bool {
        self.due.contains_key(alarm)
    }

    /// Sets an alarm of this job, whose others are these, in the place of an earlier one for the same.
    pub(super) fn arm_job(
        &mut self,
        alarms: &mut JobAlarms,
        at: Time,
        alarm: JobAlarm,
        job: JobId,
    ) {
        self.disarm_job(alarms, alarm);
        let turn = self.turn(at);
        alarms.0[alarm as usize] = Some(turn);
        self.queue.insert(turn, Alarm::Job(alarm, job));
    }

    pub(super) fn disarm_job(&mut self, alarms: &mut JobAlarms, alarm: JobAlarm) {
        if let Some(turn) = alarms.0[alarm as usize].take() {
            self.queue.remove(&turn);
        }
    }

    /// Nothing of this job goes off any more.
    pub(super) fn disarm_all(&mut self, alarms: &mut JobAlarms) {
        for turn in alarms.0.iter_mut().filter_map(Option::take) {
            self.queue.remove(&turn);
        }
    }

    fn turn(&mut self, at: Time) -> Turn {
        self.last += 1;
        (at, self.last)
    }

    /// The next alarm that is due, taken out.
    pub(super) fn pop(&mut self, now: Time) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        let (_, alarm) = self.queue.pop_first()?;
        if !matches!(alarm, Alarm::Job(..)) {
            self.settling -= usize::from(alarm.is_settle());
            self.due.remove(&alarm);
        }
        Some(alarm)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many of them are for workers that are going to have been loaded for long enough.
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
    fn an_alarm_set_again_goes_off_once_and_at_the_later_time() {
        let mut timers = Timers::default();
        let alarm = Alarm::Spawn(WorkerId::from_random_bits(1));
        timers.arm(at(5), alarm.clone());
        timers.arm(at(9), alarm.clone());
        assert_eq!(timers.pop(at(8)), None);
        assert_eq!(timers.pop(at(9)), Some(alarm.clone()));
        timers.disarm(&alarm);
        assert_eq!((timers.len(), timers.next()), (0, None));
    }

    #[test]
    fn workers_that_settle_are_counted() {
        let mut timers = Timers::default();
        let [one, other] = [1, 2].map(|bits| Alarm::Settle(WorkerId::from_random_bits(bits)));
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
    fn an_alarm_of_a_job_set_again_goes_off_once_and_what_has_passed_takes_nothing_with_it() {
        let (mut timers, mut alarms) = (Timers::default(), JobAlarms::default());
        let [job, other] = [1, 2].map(JobId::from_random_bits);
        timers.arm_job(&mut alarms, at(5), JobAlarm::Run, job);
        timers.arm_job(&mut alarms, at(9), JobAlarm::Run, job);
        timers.arm_job(&mut alarms, at(7), JobAlarm::Deadline, job);
        let mut others = JobAlarms::default();
        timers.arm_job(&mut others, at(9), JobAlarm::Run, other);
        assert_eq!(timers.pop(at(6)), None);
        assert_eq!(timers.pop(at(9)), Some(Alarm::Job(JobAlarm::Deadline, job)));
        assert_eq!(timers.pop(at(9)), Some(Alarm::Job(JobAlarm::Run, job)));
        timers.disarm_all(&mut alarms);
        assert_eq!(timers.pop(at(9)), Some(Alarm::Job(JobAlarm::Run, other)));
        assert_eq!((timers.len(), timers.next()), (0, None));
    }
}
