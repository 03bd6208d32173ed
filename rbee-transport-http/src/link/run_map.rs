//! A map of runs by their numbers, which is asked for every frame.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map by the number of a run.
pub(crate) type RunMap<V> = HashMap<u32, V, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers that are counted up, for a few instructions. The other side chooses the numbers, so it can choose
/// bad ones; but the runs of a link are limited, and it only delays its own.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn finish(&self) -> u64 {
        // The map uses the lowest bits too, which depend on few bits of the number.
        self.0.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_by_their_numbers_and_spread_over_the_map() {
        let mut map = RunMap::default();
        let numbers = (0..1_000).chain((1..1_000).map(|step| step * 4_096)).chain([u32::MAX]);
        for number in numbers.clone() {
            map.insert(number, number);
        }
        assert!(numbers.clone().all(|number| map.get(&number) == Some(&number)));
        let low_bits: std::collections::BTreeSet<u64> = (0..256_u32)
            .map(|number| {
                let mut hasher = NumberHasher::default();
                hasher.write_u32(number);
                hasher.finish() & 0xff
            })
            .collect();
        assert!(low_bits.len() > 128, "only {} of 256 places are used", low_bits.len());
    }
}
