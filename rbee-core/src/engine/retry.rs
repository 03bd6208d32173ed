//! The delay before a retry.

use std::time::Duration;

use crate::settings::Settings;

/// The delay before retry number `retry` (1 is the first): it doubles each time up to a cap, and half of it is random,
/// so that jobs that failed together do not come back together.
pub(super) fn delay(settings: &Settings, retry: u32, random: u64) -> Duration {
    let doubled = settings.retry_delay.saturating_mul(1 << retry.saturating_sub(1).min(16));
    let full = doubled.min(settings.max_retry_delay);
    let half = full / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    half + Duration::from_micros(random % spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn delays_double_up_to_the_cap_and_spread_over_half_of_it() {
        let settings = Settings::default();
        let mut rng = Rng::new(1);
        for (retry, full) in [(1, 1), (2, 2), (3, 4), (7, 60), (60, 60)] {
            for _ in 0..100 {
                let delay = delay(&settings, retry, rng.next());
                assert!(
                    delay >= Duration::from_secs(full) / 2 && delay <= Duration::from_secs(full),
                    "{retry}: {delay:?}"
                );
            }
        }
    }
}
