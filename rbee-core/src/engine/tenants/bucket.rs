//! A leaky bucket: what is put in drains within a minute.

use std::time::Duration;

use crate::time::Time;

const MINUTE: f64 = 60.0;

/// What was used recently and has not drained yet. It may hold more than its limit if a job used more than expected;
/// nothing more is allowed then until that has drained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    level: f64,
    at: Time,
}

impl Bucket {
    /// The current level, if `limit` drains in a minute.
    fn level(&self, now: Time, limit: u32) -> f64 {
        let passed = (now - self.at).as_secs_f64();
        (self.level - passed * f64::from(limit) / MINUTE).max(0.0)
    }

    /// How long until `amount` more fits; `None` if it fits now. An amount larger than the bucket fits when it is
    /// empty.
    pub(super) fn wait(&self, now: Time, limit: u32, amount: f64) -> Option<Duration> {
        let limit = limit.max(1);
        let amount = amount.min(f64::from(limit));
        let over = self.level(now, limit) + amount - f64::from(limit);
        // A sum of fractions is not exact.
        (over > 1e-6).then(|| Duration::from_secs_f64(over * MINUTE / f64::from(limit)))
    }

    /// Adds this amount; a negative amount is taken out. Without a limit nothing is counted.
    pub(super) fn add(&mut self, now: Time, limit: Option<u32>, amount: f64) {
        let Some(limit) = limit else {
            *self = Self::default();
            return;
        };
        self.level = (self.level(now, limit.max(1)) + amount).max(0.0);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(n: u64) -> Time {
        Time::from_micros(n * 1_000_000)
    }

    #[test]
    fn a_full_bucket_has_room_again_at_the_pace_of_its_limit() {
        let mut bucket = Bucket::default();
        for _ in 0..30 {
            assert_eq!(bucket.wait(second(0), 30, 1.0), None);
            bucket.add(second(0), Some(30), 1.0);
        }
        assert_eq!(bucket.wait(second(0), 30, 1.0), Some(Duration::from_secs(2)));
        assert_eq!(bucket.wait(second(1), 30, 1.0), Some(Duration::from_secs(1)));
        assert_eq!(bucket.wait(second(2), 30, 1.0), None);
        assert_eq!(bucket.wait(second(2), 30, 15.0), Some(Duration::from_secs(28)));
    }

    #[test]
    fn what_is_larger_than_the_bucket_gets_in_when_it_is_empty_and_is_paid_off() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait(second(0), 60, 600.0), None);
        bucket.add(second(0), Some(60), 600.0);
        assert_eq!(bucket.wait(second(0), 60, 1.0), Some(Duration::from_secs(541)));
        bucket.add(second(0), Some(60), -590.0);
        assert_eq!(bucket.wait(second(0), 60, 50.0), None, "it used less than was expected");
        bucket.add(second(0), Some(60), -590.0);
        assert_eq!(bucket.wait(second(0), 60, 60.0), None, "it is never less than empty");
    }
}
