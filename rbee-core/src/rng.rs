//! Random numbers derived from a seed, for the engine and for simulations.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): good enough for jitter, ties and simulated machines, and the same in every
/// replay.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream of numbers from the same seed. Draws from one stream do not change another.
    pub(crate) fn stream(seed: u64, number: u64) -> Self {
        Self(Self::new(seed ^ Self::new(number).next()).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn bits128(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }

    /// A number from 0 to `below` - 1; 0 if `below` is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        (self.next() >> 11) % below.max(1)
    }

    /// True in `cases` of 1,000 cases.
    pub(crate) fn per_mille(&mut self, cases: u32) -> bool {
        cases > 0 && self.below(1000) < u64::from(cases)
    }

    /// A duration between these two, in milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from) * 1000 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_are_apart_and_the_same_every_time() {
        let draw = |mut rng: Rng| -> Vec<u64> { (0..4).map(|_| rng.next()).collect() };
        let streams = [Rng::new(7), Rng::stream(7, 1), Rng::stream(7, 2), Rng::stream(8, 1)];
        let drawn: std::collections::BTreeSet<_> = streams.iter().cloned().map(draw).collect();
        assert_eq!(drawn.len(), 4);
        assert_eq!(draw(Rng::stream(7, 1)), draw(streams[1].clone()));
    }

    #[test]
    fn what_is_drawn_stays_within_its_bounds() {
        let mut rng = Rng::new(1);
        for _ in 0..1_000 {
            assert!(rng.below(3) < 3 && rng.below(0) == 0 && !rng.per_mille(0));
            assert!(rng.per_mille(1_000));
            let millis = rng.millis(2, 5);
            assert!(millis >= Duration::from_millis(2) && millis <= Duration::from_millis(5));
        }
    }
}
