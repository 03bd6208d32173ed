//! The memory bandwidth of the machine: the limit of decoding.

use std::time::Instant;

/// More than any cache.
const BYTES: usize = 512 << 20;

/// The words that are added at once: as many sums as fit into registers.
const WORDS: usize = 16;

/// Bytes per second that this many threads read together: the best of some passes.
///
/// A thread reads from one, two, four or eight places by turns. A processor recognizes each as a stream and fetches what
/// follows, and more than one can keep more reads under way.
pub(crate) fn measure(threads: usize) -> f64 {
    let memory: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let part = memory.len() / threads;
    let pass = |sum: fn(&[u64]) -> u64| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for words in memory.chunks_exact(part) {
                scope.spawn(move || std::hint::black_box(sum(words)));
            }
        });
        (part * threads * 8) as f64 / begun.elapsed().as_secs_f64()
    };
    let sums = [sum::<1>, sum::<2>, sum::<4>, sum::<8>];
    (0..5).flat_map(|_| sums).map(pass).fold(0.0, f64::max)
}

/// Reads all words, from this many places. The sums are independent, so that only the memory limits the speed.
fn sum<const PLACES: usize>(words: &[u64]) -> u64 {
    let length = words.len() / PLACES;
    let mut places: [_; PLACES] =
        std::array::from_fn(|i| words[i * length..][..length].as_chunks::<WORDS>().0.iter());
    let mut sums = [0_u64; WORDS];
    for _ in 0..length / WORDS {
        for place in &mut places {
            if let Some(words) = place.next() {
                for (sum, word) in sums.iter_mut().zip(words) {
                    *sum = sum.wrapping_add(*word);
                }
            }
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
