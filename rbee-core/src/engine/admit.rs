//! Admission: whether one more job may wait, and if not, when to try again.

use std::{collections::BTreeMap, time::Duration};

use super::lanes::LaneId;
use crate::{
    error::{Error, ErrorKind, Result},
    event::Usage,
    model_ref::ModelRef,
    settings::Settings,
    time::Time,
};

/// The rate at which jobs end, learned from those that have.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    last_end: Option<Time>,
    /// Smoothed time between two ends, in microseconds.
    interval: Option<f64>,
}

impl Throughput {
    /// Notes that a job has ended. Pauses in which nothing waited say nothing about how fast the fleet is.
    pub(super) fn ended(&mut self, now: Time, others_wait: bool) {
        if let Some(last) = self.last_end {
            let gap = (now - last).as_micros() as f64;
            self.interval = Some(self.interval.map_or(gap, |mean| mean + (gap - mean) / 16.0));
        }
        self.last_end = others_wait.then_some(now);
    }

    /// The time until this many jobs have ended; `None` if nothing was learned yet.
    fn time_for(&self, jobs: usize) -> Option<Duration> {
        Some(Duration::from_micros((self.interval? * jobs as f64) as u64))
    }

    /// True if jobs have ended, so that the age of those that have not is no estimate any more.
    pub(super) fn has_learned(&self) -> bool {
        self.interval.is_some()
    }

    /// When to try again if that takes the end of this many jobs. As long as no job has ended, the only thing that is
    /// known about how long a job takes is the age of the oldest one, so that is the estimate. It is rounded up to a
    /// power of two, because that job may be another tenant's.
    pub(super) fn retry_after(&self, jobs: usize, oldest: Duration) -> Duration {
        let time = self.time_for(jobs).unwrap_or_else(|| {
            let seconds = u64::try_from(oldest.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            Duration::from_secs(seconds.checked_next_power_of_two().unwrap_or(u64::MAX))
        });
        time.clamp(Duration::from_secs(1), Duration::from_secs(600))
    }
}

/// The shortest recent job of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortest {
    pub(super) took: Duration,
    /// Tokens of its answer.
    answer: u32,
}

impl Shortest {
    /// The least time for a job with an answer of at most this length: reduced in proportion if the shortest wrote
    /// more.
    pub(super) fn with_answer_up_to(self, most: Option<u32>) -> Self {
        match most {
            Some(most) if most < self.answer => {
                Self { took: self.took.saturating_mul(most) / self.answer, answer: most }
            }
            _ => self,
        }
    }
}

/// What jobs need, learned from those that have ended.
#[derive(Debug, Default)]
pub(super) struct ServiceTimes {
    /// The usual number of tokens of a model's jobs.
    tokens: BTreeMap<ModelRef, u64>,
    shortest: BTreeMap<LaneId, Shortest>,
}

impl ServiceTimes {
    /// The most models that are remembered.
    const MOST_MODELS: usize = 1_024;
    /// The most lanes that are remembered.
    const MOST_LANES: usize = 10_000;

    /// Learns from a job of this lane: how long it took, and how many tokens it used.
    pub(super) fn learn(&mut self, lane: &LaneId, took: Duration, usage: &Usage) {
        let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
        if let Some(mean) = self.tokens.get_mut(&lane.model) {
            *mean = mean.saturating_mul(15).saturating_add(tokens) / 16;
        } else if self.tokens.len() < Self::MOST_MODELS {
            self.tokens.insert(lane.model.clone(), tokens);
        }
        let this = Shortest { took, answer: usage.completion_tokens };
        if let Some(shortest) = self.shortest.get_mut(lane) {
            // Grows slowly, so that one short job is forgotten in time.
            shortest.took = shortest.took.saturating_mul(65) / 64;
            if took < shortest.took {
                *shortest = this;
            }
            return;
        }
        if self.shortest.len() >= Self::MOST_LANES {
            // Learned again from the start; until then no job is refused for this.
            self.shortest.clear();
        }
        self.shortest.insert(lane.clone(), this);
    }

    /// Notes that a job with an answer of at most this length has joined this lane.
    pub(super) fn expect(&mut self, lane: &LaneId, most: Option<u32>) {
        if let Some(shortest) = self.shortest.get_mut(lane) {
            *shortest = shortest.with_answer_up_to(most);
        }
    }

    pub(super) fn tokens(&self, model: &ModelRef) -> Option<u64> {
        self.tokens.get(model).copied()
    }

    pub(super) fn shortest(&self, lane: &LaneId) -> Option<Shortest> {
        self.shortest.get(lane).copied()
    }
}

/// How fast jobs end, and what they take.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) throughput: Throughput,
    pub(super) times: ServiceTimes,
}

/// The state of the queue for a new job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Jobs that wait.
    pub(super) waiting: usize,
    /// A worker of the model is idle.
    pub(super) has_idle_worker: bool,
    /// Waiting jobs of its own tenant.
    pub(super) held: usize,
    /// Tenants with waiting jobs, its own included.
    pub(super) tenants: usize,
}

/// Decides whether one more job may wait. At the limit only if a worker is idle, or if its tenant has less than an
/// equal share of the queue, so that one tenant's backlog does not lock out the others; never at twice the limit.
///
/// `oldest` is the age of the oldest job.
pub(super) fn admit(
    settings: &Settings,
    room: Room,
    throughput: &Throughput,
    oldest: Duration,
) -> Result<()> {
    let (capacity, waiting) = (settings.queue_capacity, room.waiting);
    let has_share = room.tenants > 1 && room.held < capacity / room.tenants;
    let is_let_in = room.has_idle_worker || has_share;
    if waiting < capacity || (is_let_in && waiting < capacity.saturating_mul(2)) {
        return Ok(());
    }
    let message =
        format!("{waiting} jobs are waiting; allowed are {capacity} (setting queue_capacity)");
    let after = throughput.retry_after(waiting - capacity + 1, oldest);
    Err(Error::new(ErrorKind::SystemAtCapacity, message).with_retry_after(after))
}

/// Of two refusals, the one with the longer wait, as far as that is known.
pub(super) fn longer(one: Result<()>, other: Result<()>) -> Result<()> {
    match (one, other) {
        (Err(one), Err(other)) if other.retry_after() > one.retry_after() => Err(other),
        (Err(one), _) => Err(one),
        (Ok(()), other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::ZERO;

    fn room(waiting: usize, has_idle_worker: bool) -> Room {
        Room { waiting, has_idle_worker, held: waiting, tenants: 1 }
    }

    #[test]
    fn a_full_queue_takes_a_job_only_for_an_idle_worker_and_none_at_twice_the_limit() {
        let (settings, throughput) =
            (Settings { queue_capacity: 10, ..Settings::default() }, Throughput::default());
        assert!(admit(&settings, room(9, false), &throughput, YOUNG).is_ok());
        let error = admit(&settings, room(10, false), &throughput, YOUNG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SystemAtCapacity);
        let after = |oldest| {
            let error = admit(&settings, room(10, false), &throughput, oldest).unwrap_err();
            error.retry_after()
        };
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        let more = Some(Duration::from_secs(64));
        assert_eq!(after(minute), more, "no job has ended in as much time");
        for age in [33_000, 47_123, 63_999] {
            assert_eq!(after(Duration::from_millis(age)), more, "it does not tell the age: {age}");
        }
        assert_eq!(after(hour), Some(Duration::from_secs(600)));
        assert!(admit(&settings, room(19, true), &throughput, YOUNG).is_ok());
        assert!(admit(&settings, room(20, true), &throughput, YOUNG).is_err());
    }

    #[test]
    fn a_tenant_with_less_than_its_share_is_let_in_between_once_and_twice_the_limit() {
        let (settings, throughput) =
            (Settings { queue_capacity: 10, ..Settings::default() }, Throughput::default());
        let asks = |waiting, held, tenants| {
            let room = Room { waiting, has_idle_worker: false, held, tenants };
            admit(&settings, room, &throughput, YOUNG).is_ok()
        };
        assert!(asks(10, 0, 2) && asks(14, 4, 2), "another one fills the queue");
        assert!(!asks(15, 5, 2), "half of it is its own");
        assert!(!asks(14, 10, 2), "and the other has more than its share");
        assert!(asks(16, 2, 3) && !asks(17, 3, 3));
        assert!(!asks(20, 0, 3), "twice the limit is the end");
    }

    #[test]
    fn the_time_to_come_back_follows_the_pace_of_the_fleet() {
        let mut throughput = Throughput::default();
        (0..200).for_each(|n| throughput.ended(Time::from_micros(n * 2_000_000), true));
        let settings = Settings { queue_capacity: 10, ..Settings::default() };
        let after = admit(&settings, room(14, false), &throughput, YOUNG)
            .unwrap_err()
            .retry_after()
            .unwrap();
        assert_eq!(after.as_secs(), 10, "five jobs, one every 2 s");
    }

    #[test]
    fn a_shorter_answer_is_expected_to_take_as_much_less() {
        let mut service_times = ServiceTimes::default();
        let lane =
            LaneId { model: "m".parse().unwrap(), priority: crate::Priority::Batch, tenant: None };
        service_times.expect(&lane, Some(1));
        assert_eq!(service_times.shortest(&lane), None);
        let usage = Usage { prompt_tokens: 10, completion_tokens: 100, ..Usage::default() };
        service_times.learn(&lane, Duration::from_secs(10), &usage);
        service_times.expect(&lane, Some(200));
        let shortest = service_times.shortest(&lane).unwrap();
        assert_eq!(shortest.took, Duration::from_secs(10));
        assert_eq!(shortest.with_answer_up_to(Some(7)).took, Duration::from_millis(700));
        service_times.expect(&lane, Some(20));
        assert_eq!(service_times.shortest(&lane).unwrap().took, Duration::from_secs(2));
        assert_eq!(service_times.tokens(&lane.model), Some(110));
    }
}
