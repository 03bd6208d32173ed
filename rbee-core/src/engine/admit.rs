//! Admission: may one more job wait, and if not, when is it worth asking again?

use std::{collections::BTreeMap, time::Duration};

use crate::{Error, ErrorKind, ModelRef, Settings, Time};

/// How fast jobs end, learned from those that have.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last_end: Option<Time>,
    /// Smoothed time between two ends, in microseconds.
    interval: Option<f64>,
}

impl Pace {
    /// A job has ended. Pauses in which nothing waited say nothing about how fast the fleet is.
    pub(super) fn ended(&mut self, now: Time, others_wait: bool) {
        if let Some(last) = self.last_end {
            let gap = (now - last).as_micros() as f64;
            self.interval = Some(self.interval.map_or(gap, |mean| mean + (gap - mean) / 16.0));
        }
        self.last_end = others_wait.then_some(now);
    }

    /// How long until this many jobs have ended, as far as can be told.
    pub(super) fn time_for(&self, jobs: usize) -> Duration {
        let micros = self.interval.unwrap_or(1e6) * jobs as f64;
        Duration::from_micros(micros as u64).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }
}

/// How long jobs of a model take, learned from those that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// As a rule.
    pub(super) mean: Duration,
    /// The shortest that was seen of late.
    pub(super) shortest: Duration,
    /// Tokens that one uses, as a rule.
    pub(super) tokens: u64,
}

/// The same for every model.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<ModelRef, Service>);

impl Paces {
    /// Models that are remembered.
    const MOST: usize = 1_024;

    /// A job of this model took so long, and used so many tokens.
    pub(super) fn learn(&mut self, model: &ModelRef, took: Duration, tokens: u64) {
        if let Some(service) = self.0.get_mut(model) {
            service.mean = (service.mean * 15 + took) / 16;
            service.tokens = (service.tokens.saturating_mul(15).saturating_add(tokens)) / 16;
            // One that was short once is forgotten in time.
            service.shortest = (service.shortest * 65 / 64).min(took);
        } else if self.0.len() < Self::MOST {
            self.0.insert(model.clone(), Service { mean: took, shortest: took, tokens });
        }
    }

    pub(super) fn of(&self, model: &ModelRef) -> Option<Service> {
        self.0.get(model).copied()
    }
}

/// May one more job wait beside `waiting` others? At the limit only where a worker is idle; at twice the limit never.
pub(super) fn admit(
    settings: &Settings,
    waiting: usize,
    has_idle_worker: bool,
    pace: &Pace,
) -> Result<(), Error> {
    let capacity = settings.queue_capacity;
    if waiting < capacity || (has_idle_worker && waiting < capacity.saturating_mul(2)) {
        return Ok(());
    }
    let message =
        format!("{waiting} jobs are waiting; allowed are {capacity} (setting queue_capacity)");
    let after = pace.time_for(waiting - capacity + 1);
    Err(Error::new(ErrorKind::SystemAtCapacity, message).with_retry_after(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_a_job_only_for_an_idle_worker_and_none_at_twice_the_limit() {
        let (settings, pace) =
            (Settings { queue_capacity: 10, ..Settings::default() }, Pace::default());
        assert!(admit(&settings, 9, false, &pace).is_ok());
        assert_eq!(
            admit(&settings, 10, false, &pace).unwrap_err().kind(),
            ErrorKind::SystemAtCapacity
        );
        assert!(admit(&settings, 19, true, &pace).is_ok());
        assert!(admit(&settings, 20, true, &pace).is_err());
    }

    #[test]
    fn the_time_to_come_back_follows_the_pace_of_the_fleet() {
        let mut pace = Pace::default();
        (0..200).for_each(|n| pace.ended(Time::from_micros(n * 2_000_000), true));
        let settings = Settings { queue_capacity: 10, ..Settings::default() };
        let after = admit(&settings, 14, false, &pace).unwrap_err().retry_after().unwrap();
        assert_eq!(after.as_secs(), 10, "five jobs, one every 2 s");
    }
}
