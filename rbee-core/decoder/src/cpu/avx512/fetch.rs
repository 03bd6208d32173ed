//! Weights are fetched before they are needed.
//!
//! A kernel reads 16 rows beside each other, which the processor does not recognize as one piece of memory. So while it
//! computes them, it fetches what follows, from one line to the next: into the second-level cache, because that one can
//! wait for about three times as many lines as the first-level cache.

use std::arch::x86_64::*;

/// The bytes of a cache line.
const LINE: usize = 64;

/// The bytes behind the current rows that are assumed to be on their way.
const AHEAD: usize = 80 * LINE;

/// Where to start to fetch, if `end` is the end of the first rows.
#[inline]
pub(super) fn ahead(end: *const u8) -> *const u8 {
    end.wrapping_add(AHEAD)
}

/// Fetches these bytes and perhaps a few more, and returns their end. They need not exist: a prefetch reads nothing.
#[inline]
pub(super) fn fetch(mut next: *const u8, bytes: usize) -> *const u8 {
    for _ in 0..bytes.div_ceil(LINE) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(next.cast()) };
        next = next.wrapping_add(LINE);
    }
    next
}
