//! The memory bandwidth of the machine: the limit of decoding.

use std::time::Instant;

/// More than any cache.
const BYTES: usize = 512 << 20;

/// Bytes per second that this many threads read together: the best of some passes.
pub(crate) fn measure(threads: usize) -> f64 {
    let memory: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let part = memory.len() / threads;
    (0..5)
        .map(|_| {
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for words in memory.chunks(part) {
                    scope.spawn(|| std::hint::black_box(sum(words)));
                }
            });
            BYTES as f64 / begun.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

/// Independent sums, so that only the memory limits the speed.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    for line in words.chunks_exact(32) {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
