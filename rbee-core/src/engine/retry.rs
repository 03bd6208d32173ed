//! How long to wait before a retry.

use std::time::Duration;

use crate::Settings;

/// The delay before retry number `retry` (1 is the first): it doubles each time up to a cap, and half of it is chance,
/// so that jobs that failed together do not come back together.
pub(super) fn delay(settings: &Settings, retry: u32, random: u64) -> Duration {
    let doubled = settings.retry_delay.saturating_mul(1 << retry.saturating_sub(1).min(16));
    let full = doubled.min(settings.max_retry_delay);
    let half = full / 2;
    let chance = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    half + Duration::from_micros(random % chance)
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for jitter and ties, and the same in every replay.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn bits128(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_spread_over_half_of_it() {
        let settings = Settings::default();
        let mut chance = Chance::new(1);
        for (retry, full) in [(1, 1), (2, 2), (3, 4), (7, 60), (60, 60)] {
            for _ in 0..100 {
                let delay = delay(&settings, retry, chance.next());
                assert!(
                    delay >= Duration::from_secs(full) / 2 && delay <= Duration::from_secs(full),
                    "{retry}: {delay:?}"
                );
            }
        }
    }
}
