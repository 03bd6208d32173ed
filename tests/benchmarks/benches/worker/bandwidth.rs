//! The memory bandwidth of the machine: the limit of decoding.

use std::time::Instant;

use memmap2::MmapMut;

use crate::Result;

/// More than any cache.
const BYTES: usize = 512 << 20;

/// The words that are added at once: as many sums as fit into registers.
const WORDS: usize = 16;

/// Bytes per second that this many threads read together: the best of some passes.
///
/// A thread reads from one, two, four or eight places by turns. A processor recognizes each as a stream and fetches what
/// follows, and more than one can keep more reads under way. The pages are huge if the system has some: the translation
/// of addresses is not the limit.
pub(crate) fn measure(threads: usize) -> Result<f64> {
    let mut memory = MmapMut::map_anon(BYTES)?;
    #[cfg(target_os = "linux")]
    // A hint; systems without such pages refuse it.
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);
    let part = BYTES / threads;
    let pass = |sum: fn(&[u8]) -> u64| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for bytes in memory.chunks_exact(part) {
                scope.spawn(move || std::hint::black_box(sum(bytes)));
            }
        });
        (part * threads) as f64 / begun.elapsed().as_secs_f64()
    };
    let sums = [sum::<1>, sum::<2>, sum::<4>, sum::<8>];
    Ok((0..5).flat_map(|_| sums).map(pass).fold(0.0, f64::max))
}

/// Reads all bytes, from this many places. The sums are independent, so that only the memory limits the speed.
fn sum<const PLACES: usize>(bytes: &[u8]) -> u64 {
    let length = bytes.len() / PLACES;
    let mut places: [_; PLACES] = std::array::from_fn(|i| {
        bytes[i * length..][..length].as_chunks::<{ WORDS * 8 }>().0.iter()
    });
    let mut sums = [0_u64; WORDS];
    for _ in 0..length / WORDS / 8 {
        for place in &mut places {
            if let Some(words) = place.next() {
                for (sum, word) in sums.iter_mut().zip(words.as_chunks::<8>().0) {
                    *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
                }
            }
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
