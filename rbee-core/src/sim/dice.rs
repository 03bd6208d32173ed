//! Chance from a seed.

use std::time::Duration;

/// xorshift64*: small, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Seeds that are near each other give chances that are not.
    pub(super) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        (self.bits() >> 11) % sides.max(1)
    }

    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.roll(1000) < u64::from(per_mille)
    }

    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.roll((to - from) * 1000 + 1))
    }
}
