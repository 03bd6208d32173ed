//! The waits of jobs.

use std::time::Duration;

use serde::Serialize;

/// The waits of a group of jobs, in milliseconds: half of them at most `p50`, nine in ten at most `p90`, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// Jobs that were started.
    pub jobs: usize,
    /// The median.
    pub p50_ms: u64,
    /// The 90th percentile.
    pub p90_ms: u64,
    /// The 99th percentile.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// Waits while they are collected.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<u64>);

impl Collected {
    pub(super) fn add(&mut self, wait: Duration) {
        self.0.push(millis(wait));
    }

    pub(super) fn summary(mut self) -> Waits {
        self.0.sort_unstable();
        let jobs = self.0.len();
        // The smallest value that at least this percentage of the waits does not exceed.
        let at = |percent: usize| {
            let rank = (jobs * percent).div_ceil(100).max(1);
            self.0.get(rank - 1).copied().unwrap_or(0)
        };
        Waits { jobs, p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let mut waits = Collected::default();
        (1..=200).for_each(|ms| waits.add(Duration::from_millis(ms)));
        let expected = Waits { jobs: 200, p50_ms: 100, p90_ms: 180, p99_ms: 198, max_ms: 200 };
        assert_eq!(waits.summary(), expected);
        assert_eq!(Collected::default().summary(), Waits::default());
    }
}
