//! The progress of the computation, readable from outside.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A step that takes no longer than this is always normal.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest time of a step if the usual time is unknown.
const UNKNOWN: Duration = Duration::from_secs(30);
/// The computation hangs if a step takes this many times as long, per token, as recent steps took.
const TIMES: u64 = 4;

/// Updated by the thread that computes, after each step: tokens of many runs, or a batch of texts.
///
/// A token that is computed alone takes longer than one among many, so the longest time for a token limits every step.
#[derive(Debug)]
pub(super) struct Heartbeat {
    zero: Instant,
    /// The start of the current step, in microseconds.
    since: AtomicU64,
    /// Tokens of the current step; 0 for other work.
    tokens: AtomicU64,
    /// The longest recent time of one token, in nanoseconds; 0 if none was computed.
    for_token: AtomicU64,
    /// True if a run is active, and not all of them wait for their readers.
    computes: AtomicBool,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self {
            zero: Instant::now(),
            since: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            for_token: AtomicU64::new(0),
            computes: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A run begins. Old slow steps lose weight gradually.
    pub(super) fn begin(&self) {
        let known = self.for_token.load(Ordering::Relaxed);
        self.for_token.store(known - known / 8, Ordering::Relaxed);
        self.step(0);
    }

    /// All runs are over, or wait for their readers.
    pub(super) fn pause(&self) {
        self.computes.store(false, Ordering::Release);
    }

    /// A step with this many tokens begins; 0 for other work.
    pub(super) fn step(&self, tokens: usize) {
        self.tokens.store(tokens as u64, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Release);
        self.computes.store(true, Ordering::Release);
    }

    /// The step has ended.
    pub(super) fn beat(&self) {
        let tokens = self.tokens.swap(0, Ordering::Relaxed);
        let (step, limit) = (self.under_way(), self.limit(tokens));
        self.since.store(self.now(), Ordering::Release);
        // A step that took too long may have been interrupted.
        let step = u64::try_from(step.min(limit).as_nanos()).unwrap_or(u64::MAX);
        if let Some(one) = step.checked_div(tokens) {
            // Only the thread that computes writes it.
            let known = self.for_token.load(Ordering::Relaxed);
            self.for_token.store(known.max(one).max(1), Ordering::Relaxed);
        }
    }

    fn under_way(&self) -> Duration {
        let since = self.since.load(Ordering::Acquire);
        Duration::from_micros(self.now().saturating_sub(since))
    }

    /// The longest normal time of a step with this many tokens.
    fn limit(&self, tokens: u64) -> Duration {
        match (tokens, self.for_token.load(Ordering::Relaxed)) {
            (0, _) | (_, 0) => UNKNOWN,
            (tokens, one) => {
                SHORTEST.max(Duration::from_nanos(one.saturating_mul(tokens).saturating_mul(TIMES)))
            }
        }
    }

    /// The duration of the current step, if it is so long that the step must hang.
    pub(super) fn hangs_for(&self) -> Option<Duration> {
        if !self.computes.load(Ordering::Acquire) {
            return None;
        }
        let step = self.under_way();
        (step > self.limit(self.tokens.load(Ordering::Relaxed))).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A heartbeat that has been at a step of this many tokens for `taken`, after one token had taken `for_token`.
    fn at(tokens: usize, for_token: Duration, taken: Duration) -> Heartbeat {
        let heartbeat = Heartbeat::new();
        heartbeat.for_token.store(for_token.as_nanos() as u64, Ordering::Relaxed);
        heartbeat.step(tokens);
        Heartbeat { zero: heartbeat.zero - taken, ..heartbeat }
    }

    #[test]
    fn a_step_hangs_if_it_takes_much_longer_for_its_tokens_than_those_before() {
        let millis = Duration::from_millis;
        for (tokens, for_token, taken, hangs) in [
            (1, millis(5), millis(1_900), false),
            (1, millis(5), millis(2_100), true),
            (1, millis(1_000), millis(3_900), false),
            (1, millis(1_000), millis(4_100), true),
            (128, millis(100), millis(51_000), false),
            (128, millis(100), millis(51_500), true),
            (1, Duration::ZERO, millis(29_000), false),
            (128, Duration::ZERO, millis(31_000), true),
            (0, millis(5), millis(29_000), false),
            (0, millis(5), millis(31_000), true),
        ] {
            let heartbeat = at(tokens, for_token, taken);
            assert_eq!(
                heartbeat.hangs_for().is_some(),
                hangs,
                "{tokens} of {for_token:?}, {taken:?}"
            );
        }
    }

    #[test]
    fn a_step_teaches_how_long_a_token_takes_but_an_interrupted_one_little() {
        let learned =
            |heartbeat: &Heartbeat| heartbeat.for_token.load(Ordering::Relaxed) / 1_000_000;
        let heartbeat = at(10, Duration::ZERO, Duration::from_secs(20));
        heartbeat.beat();
        assert_eq!(learned(&heartbeat), 2_000);
        let heartbeat = at(1, Duration::from_millis(5), Duration::from_secs(50));
        heartbeat.beat();
        assert_eq!(learned(&heartbeat), 2_000);
        heartbeat.begin();
        assert_eq!(learned(&heartbeat), 1_750);
    }

    #[test]
    fn nothing_hangs_without_a_run_or_while_the_reader_is_waited_for() {
        let heartbeat = at(1, Duration::from_millis(5), Duration::from_secs(60));
        heartbeat.pause();
        assert_eq!(heartbeat.hangs_for(), None);
        heartbeat.begin();
        assert_eq!(heartbeat.hangs_for(), None);
    }
}
