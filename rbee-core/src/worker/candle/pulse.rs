//! How the computation goes on, for those who ask from outside.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A step that takes no longer than this is no reason to worry.
const SHORTEST: Duration = Duration::from_secs(2);
/// How long a step may take before it is known how long steps take.
const UNKNOWN: Duration = Duration::from_secs(30);
/// The computation hangs if a step takes so many times as long as the longest lately.
const TIMES: u32 = 4;

/// Beaten by the thread that computes, after each step: a chunk of the prompt, a token, a batch of texts.
#[derive(Debug)]
pub(super) struct Pulse {
    zero: Instant,
    /// When the last step ended, in microseconds.
    last: AtomicU64,
    /// The longest step lately, in microseconds; 0 if there was none.
    longest: AtomicU64,
    /// A run is under way, and it is not its reader that it waits for.
    computes: AtomicBool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            zero: Instant::now(),
            last: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            computes: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A run begins, or goes on after it has waited for its reader.
    pub(super) fn begin(&self) {
        self.last.store(self.now(), Ordering::Release);
        self.computes.store(true, Ordering::Release);
    }

    /// The run is over, or waits for its reader.
    pub(super) fn pause(&self) {
        self.computes.store(false, Ordering::Release);
    }

    /// A step has ended.
    pub(super) fn beat(&self) {
        let now = self.now();
        let step = now.saturating_sub(self.last.swap(now, Ordering::AcqRel)).max(1);
        // Only the thread that computes writes it.
        let longest = self.longest.load(Ordering::Relaxed);
        self.longest.store(step.max(longest - longest / 64), Ordering::Relaxed);
    }

    /// How long the step under way takes, if that is so long that it must hang.
    pub(super) fn hangs_for(&self) -> Option<Duration> {
        if !self.computes.load(Ordering::Acquire) {
            return None;
        }
        let last = self.last.load(Ordering::Acquire);
        let step = Duration::from_micros(self.now().saturating_sub(last));
        let limit = match self.longest.load(Ordering::Relaxed) {
            0 => UNKNOWN,
            longest => SHORTEST.max(Duration::from_micros(longest).saturating_mul(TIMES)),
        };
        (step > limit).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pulse whose last step ended so long ago.
    fn quiet_for(longest: Duration, quiet: Duration) -> Pulse {
        let pulse = Pulse { zero: Instant::now() - quiet, ..Pulse::new() };
        pulse.longest.store(longest.as_micros() as u64, Ordering::Relaxed);
        pulse.computes.store(true, Ordering::Relaxed);
        pulse
    }

    #[test]
    fn a_step_hangs_if_it_takes_much_longer_than_those_before() {
        let seconds = Duration::from_secs;
        for (longest, quiet, hangs) in [
            (Duration::from_millis(5), Duration::from_millis(1_900), false),
            (Duration::from_millis(5), Duration::from_millis(2_100), true),
            (seconds(5), seconds(19), false),
            (seconds(5), seconds(21), true),
            (Duration::ZERO, seconds(29), false),
            (Duration::ZERO, seconds(31), true),
        ] {
            let pulse = quiet_for(longest, quiet);
            assert_eq!(pulse.hangs_for().is_some(), hangs, "{longest:?}, {quiet:?}");
        }
    }

    #[test]
    fn nothing_hangs_without_a_run_or_while_the_reader_is_waited_for() {
        let pulse = quiet_for(Duration::from_millis(5), Duration::from_secs(60));
        pulse.pause();
        assert_eq!(pulse.hangs_for(), None);
        pulse.begin();
        assert_eq!(pulse.hangs_for(), None);
        pulse.beat();
        assert!(pulse.longest.load(Ordering::Relaxed) > 0);
    }
}
