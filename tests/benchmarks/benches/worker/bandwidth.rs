//! The memory bandwidth of the machine: the limit of decoding.

use std::time::Instant;

/// More than any cache.
const BYTES: usize = 512 << 20;

/// The pieces of memory that a thread reads at the same time. A processor recognizes each as a stream and fetches what
/// follows; more than one keep more reads under way.
const STREAMS: [usize; 4] = [1, 2, 4, 8];

/// Bytes per second that this many threads read together: the best of some passes.
pub(crate) fn measure(threads: usize) -> f64 {
    let memory: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let part = memory.len() / threads;
    let pass = |streams: usize| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for words in memory.chunks_exact(part) {
                scope.spawn(move || std::hint::black_box(sum(words, streams)));
            }
        });
        (part * threads * 8) as f64 / begun.elapsed().as_secs_f64()
    };
    (0..5).flat_map(|_| STREAMS).map(pass).fold(0.0, f64::max)
}

/// Reads all words, from several places by turns. The sums are independent, so that only the memory limits the speed.
fn sum(words: &[u64], streams: usize) -> u64 {
    let length = words.len() / streams;
    let pieces: Vec<_> =
        words.chunks_exact(length).map(|piece| piece.as_chunks::<32>().0).collect();
    let mut sums = [0_u64; 32];
    for line in 0..length / 32 {
        for piece in &pieces {
            for (sum, word) in sums.iter_mut().zip(&piece[line]) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
