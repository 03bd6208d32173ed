//! The usual interval between the heartbeats of a worker's streams, and the meaning of a longer silence.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior};

use crate::{
    id::{IdMap, WorkerId},
    settings::Settings,
};

/// A stream is suspected after a silence of this many usual gaps.
const GAPS: u32 = 3;
/// The shortest silence that is suspected, in ticks.
const TICKS: u32 = 6;

/// The usual gap between two heartbeats of a worker, shared by all its attempts: the gap of the attempt with the
/// longest one. A long gap is forgotten gradually.
#[derive(Clone, Debug, Default)]
pub(super) struct Rhythm(Arc<AtomicU64>);

impl Rhythm {
    /// The usual gap; `None` if no attempt has shown it yet.
    fn gap(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    fn learn(&self, gap: Duration) {
        let gap = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX).max(1);
        let slower = |known: u64| Some(gap.max(known - known / 4));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, slower);
    }
}

/// The heartbeat intervals of all workers with a handle.
#[derive(Debug, Default)]
pub(super) struct Rhythms(IdMap<WorkerId, Rhythm>);

impl Rhythms {
    /// The intervals of this worker, and its usual gap, or else that of its peers.
    pub(super) fn of(
        &mut self,
        worker: WorkerId,
        peers: impl Iterator<Item = WorkerId>,
    ) -> (Rhythm, Option<Duration>) {
        let rhythm = self.0.entry(worker).or_default().clone();
        let peers = || peers.filter_map(|peer| self.0.get(&peer)?.gap()).max();
        let usual = rhythm.gap().or_else(peers);
        (rhythm, usual)
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }
}

/// The result of one tick of the clock for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing new.
    Usual,
    /// From now on the silence is longer than usual.
    Suspected,
    /// It has been silent for so long that it counts as dead.
    Stalled,
}

/// Watches the silence of one attempt. The time is counted in ticks that this process has run itself: if the process
/// was stopped or had no CPU time, no worker is blamed for that. A token costs no timer.
pub(super) struct Watch {
    clock: Interval,
    rhythm: Rhythm,
    /// The usual gap of the worker's earlier attempts, in ticks; `None` if unknown.
    before: Option<u64>,
    /// The gaps of this attempt, in ticks: their sum, and the sum of their squares.
    gaps: (u64, u64),
    /// Whole ticks since the last heartbeat.
    silent: u32,
    least: u32,
    most: u32,
    is_suspected: bool,
    /// There was a heartbeat since the last tick.
    heard: bool,
    /// The worker has accepted the run.
    has_begun: bool,
}

impl Watch {
    pub(super) fn new(settings: &Settings, rhythm: Rhythm, usual: Option<Duration>) -> Self {
        let period = settings.suspect_after.min(settings.stall_timeout) / TICKS;
        let period = period.max(Duration::from_millis(1));
        let in_ticks = |time: Duration| time.as_micros().div_ceil(period.as_micros());
        let bound = |time| u32::try_from(in_ticks(time)).unwrap_or(u32::MAX);
        let mut clock = tokio::time::interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clock.reset();
        Self {
            clock,
            rhythm,
            before: usual.map(|gap| u64::try_from(in_ticks(gap)).unwrap_or(u64::MAX)),
            gaps: (0, 0),
            silent: 0,
            least: bound(settings.suspect_after),
            most: bound(settings.stall_timeout),
            is_suspected: false,
            heard: false,
            has_begun: false,
        }
    }

    /// The worker has accepted the run. The time that took says nothing about its heartbeats.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
        self.silent = 0;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The stream has produced something. Returns true if it was suspected.
    pub(super) fn sign(&mut self) -> bool {
        self.heard = true;
        std::mem::take(&mut self.is_suspected)
    }

    /// True if the heartbeat interval of this worker is known.
    pub(super) fn is_known(&self) -> bool {
        self.before.is_some() || self.gaps.0 > 0
    }

    /// How long the stream has been silent.
    pub(super) fn silence(&self) -> Duration {
        self.clock.period().saturating_mul(self.silent)
    }

    /// Waits for the next tick, and returns its result.
    pub(super) async fn tick(&mut self) -> Tick {
        self.clock.tick().await;
        if std::mem::take(&mut self.heard) {
            if self.has_begun {
                // A suspected gap counts with the length that would have been usual.
                let gap = u64::from(self.silent.saturating_add(1).min(self.limit()));
                self.gaps.0 += gap;
                self.gaps.1 += gap * gap;
            }
            self.silent = 0;
            return Tick::Usual;
        }
        self.silent = self.silent.saturating_add(1);
        if self.silent >= self.most {
            return Tick::Stalled;
        }
        if !self.is_suspected && self.silent >= self.limit() {
            self.is_suspected = true;
            return Tick::Suspected;
        }
        Tick::Usual
    }

    /// The length of a silence that is suspected, in ticks.
    fn limit(&self) -> u32 {
        let usual = self.before.max(self.usual()).unwrap_or(0);
        let limit = u32::try_from(usual).unwrap_or(u32::MAX).saturating_mul(GAPS);
        self.least.max(limit)
    }

    /// The usual gap of this attempt, in ticks: the average length of the gap at a time chosen at random. So a short
    /// interruption changes little, and a few long steps are not hidden by many tokens.
    fn usual(&self) -> Option<u64> {
        self.gaps.1.checked_div(self.gaps.0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(usual) = self.usual() {
            let usual = u32::try_from(usual).unwrap_or(u32::MAX);
            self.rhythm.learn(self.clock.period().saturating_mul(usual));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::default()
    }

    /// Waits this many ticks without a heartbeat; none of them may show anything.
    async fn quiet(watch: &mut Watch, ticks: u32) {
        for n in 0..ticks {
            assert_eq!(watch.tick().await, Tick::Usual, "tick {n}");
        }
    }

    /// Gives a heartbeat every `gap` ticks.
    async fn speak(watch: &mut Watch, gap: u32, times: u32) {
        for _ in 0..times {
            quiet(watch, gap - 1).await;
            watch.sign();
            quiet(watch, 1).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_suspected_once_after_the_shortest_time_and_has_stalled_after_the_longest()
    {
        let mut watch = Watch::new(&settings(), Rhythm::default(), None);
        watch.begin();
        speak(&mut watch, 1, 20).await;
        quiet(&mut watch, 5).await;
        assert_eq!(
            (watch.tick().await, watch.silence()),
            (Tick::Suspected, settings().suspect_after)
        );
        quiet(&mut watch, 233).await;
        assert_eq!(
            (watch.tick().await, watch.silence()),
            (Tick::Stalled, settings().stall_timeout)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_stream_is_suspected_by_its_own_rhythm_which_the_next_attempt_begins_with() {
        let rhythm = Rhythm::default();
        let mut watch = Watch::new(&settings(), rhythm.clone(), None);
        assert!(!watch.is_known());
        watch.begin();
        speak(&mut watch, 5, 4).await;
        assert!(watch.is_known());
        quiet(&mut watch, 14).await;
        assert_eq!(watch.tick().await, Tick::Suspected);
        assert!(watch.sign() && !watch.sign());
        drop(watch);
        let usual = rhythm.gap().unwrap();
        assert!(
            usual >= Duration::from_millis(2_500) && usual < Duration::from_secs(6),
            "{usual:?}"
        );
        let mut next = Watch::new(&settings(), rhythm, Some(usual));
        assert!(next.is_known());
        next.begin();
        quiet(&mut next, 14).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_interruption_of_a_fast_stream_changes_nothing() {
        let mut watch = Watch::new(&settings(), Rhythm::default(), None);
        watch.begin();
        speak(&mut watch, 1, 40).await;
        speak(&mut watch, 5, 1).await;
        quiet(&mut watch, 5).await;
        assert_eq!(watch.tick().await, Tick::Suspected);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_queen_itself_stood_still_is_not_held_against_a_worker() {
        let mut watch = Watch::new(&settings(), Rhythm::default(), None);
        watch.begin();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        quiet(&mut watch, 5).await;
        assert_eq!(watch.tick().await, Tick::Suspected);
    }

    #[test]
    fn a_worker_without_a_rhythm_is_compared_with_its_peers() {
        let [slow, fast, new] = [1, 2, 3].map(WorkerId::from_random_bits);
        let mut rhythms = Rhythms::default();
        rhythms.of(slow, [].into_iter()).0.learn(Duration::from_secs(8));
        rhythms.of(fast, [].into_iter()).0.learn(Duration::from_secs(1));
        let peers = || [slow, fast, new].into_iter();
        assert_eq!(rhythms.of(new, peers()).1, Some(Duration::from_secs(8)));
        assert_eq!(rhythms.of(fast, peers()).1, Some(Duration::from_secs(1)));
        rhythms.forget(slow);
        assert_eq!(rhythms.of(new, peers()).1, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_long_gap_is_forgotten_bit_by_bit() {
        let rhythm = Rhythm::default();
        rhythm.learn(Duration::from_secs(16));
        rhythm.learn(Duration::from_secs(1));
        assert_eq!(rhythm.gap(), Some(Duration::from_secs(12)));
        rhythm.learn(Duration::from_secs(1));
        assert_eq!(rhythm.gap(), Some(Duration::from_secs(9)));
    }
}
