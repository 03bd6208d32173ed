//! The products with the types whose blocks have 32 weights, a group each.
//!
//! Weights are unpacked for 16 rows of a matrix at once: the same 16 bytes of every row are read, four rows to a
//! vector, and transposed, so that a lane of 32 bits has four columns of one row. Then a sum never crosses lanes.

use std::arch::x86_64::*;

use super::{
    ROWS,
    fetch::{ahead, fetch},
    sums::{add, add_minima, dots, rows_from, store, with_height},
    transpose::sixteen_bytes,
};
use crate::cpu::{job::Job, quantize::Activations, tile::Tile};

/// The groups whose scales are read together.
const STEP: usize = 8;

/// A type with a group of weights per block.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and the block at `at` of every row must exist.
pub(super) trait Block {
    /// The bytes of a block.
    const SIZE: usize;
    /// True if there are minima.
    const MINIMA: bool;
    /// What [`Block::weights`] adds to the weights, as a power of two; `None`: nothing.
    const OFFSET: Option<u32>;

    /// What precedes the weights of a block: scale, minimum and upper bits.
    unsafe fn head(p: *const u8) -> (u16, u16, u32);
    /// The weights, with the offset, unsigned: vector `i` has the columns from `4·i`. `high` is the upper bits.
    unsafe fn weights(rows: &[*const u8; ROWS], at: usize, high: &[u32; ROWS]) -> [__m512i; 8];
}

/// What precedes the weights of some groups, of all rows.
///
/// It is read some time before it is used: a vector cannot be read from the processor's queue of small stores.
#[derive(Clone, Copy, Debug)]
struct Heads {
    scales: [[u16; ROWS]; STEP],
    minima: [[u16; ROWS]; STEP],
    high: [[u32; ROWS]; STEP],
}

impl Heads {
    const EMPTY: Self =
        Self { scales: [[0; ROWS]; STEP], minima: [[0; ROWS]; STEP], high: [[0; ROWS]; STEP] };

    #[inline]
    unsafe fn read<B: Block>(&mut self, rows: &[*const u8; ROWS], start: usize, count: usize) {
        for local in 0..count.min(STEP) {
            let at = (start + local) * B::SIZE;
            for (i, row) in rows.iter().enumerate() {
                // SAFETY: as the caller says.
                let (scale, minimum, high) = unsafe { B::head(row.add(at)) };
                self.scales[local][i] = scale;
                if B::MINIMA {
                    self.minima[local][i] = minimum;
                }
                self.high[local][i] = high;
            }
        }
    }
}

/// Calls `group` for every group, with its weights, scales and minima.
macro_rules! for_each_group {
    ($block:ty, $rows:expr, $groups:expr, |$group:ident, $weights:ident, $scales:ident, $minima:ident| $body:expr) => {{
        let (rows, groups): (&[*const u8; ROWS], usize) = ($rows, $groups);
        let mut next = ahead(rows[ROWS - 1].wrapping_add(groups * <$block>::SIZE));
        let mut heads = [Heads::EMPTY; 2];
        heads[0].read::<$block>(rows, 0, groups);
        for start in (0..groups).step_by(STEP) {
            let [even, odd] = &mut heads;
            let (current, following) =
                if start / STEP % 2 == 0 { (even, odd) } else { (odd, even) };
            following.read::<$block>(rows, start + STEP, groups.saturating_sub(start + STEP));
            for local in 0..STEP.min(groups - start) {
                next = fetch(next, ROWS * <$block>::SIZE);
                let $group = start + local;
                let $weights =
                    <$block>::weights(rows, $group * <$block>::SIZE, &current.high[local]);
                let $scales = halves_of(&current.scales[local]);
                let $minima = if <$block>::MINIMA {
                    halves_of(&current.minima[local])
                } else {
                    _mm512_setzero_ps()
                };
                $body
            }
        }
    }};
}

/// The product with at most 8 rows of activations: the weights stay in registers.
///
/// # Safety
///
/// The processor must have the instructions; the activations are as wide as the matrix.
pub(super) unsafe fn product<B: Block>(job: &Job<'_>, activations: &Activations) {
    // SAFETY: as the caller says.
    unsafe { with_height!(activations.rows, A, few_rows::<B, A>(job, activations)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn few_rows<B: Block, const A: usize>(job: &Job<'_>, activations: &Activations) {
    let columns = job.columns.clone();
    for first in columns.clone().step_by(ROWS) {
        let count = ROWS.min(columns.end - first);
        let rows = rows_from(job, first, count);
        let mut sums = [_mm512_setzero_ps(); A];
        // SAFETY: the rows have all groups of the activations, which are one tile of `A` rows.
        unsafe {
            for_each_group!(B, &rows, activations.groups, |group, weights, scales, minima| {
                let at = group * A;
                let products = dots::<A, 8>(
                    weights.as_ptr(),
                    activations.values.as_ptr().add(at * 8).cast(),
                    activations.sums.as_ptr().add(at),
                    B::OFFSET,
                );
                add(&mut sums, products, scales, activations.scales.as_ptr().add(at));
                if B::MINIMA {
                    add_minima(&mut sums, minima, activations.scaled.as_ptr().add(at));
                }
            });
        }
        store(job, first, count, 0, &sums);
    }
}

/// Unpacks 16 rows of this many groups. The weights are unsigned, 128 too large.
///
/// # Safety
///
/// The processor must have the instructions; every row has this many groups; the tile has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack<B: Block>(rows: &[*const u8; ROWS], groups: usize, tile: &mut Tile) {
    let offset = 128_u8 - B::OFFSET.map_or(0, |bits| 1 << bits);
    let offset = _mm512_set1_epi8(offset as i8);
    // SAFETY: as the caller says.
    unsafe {
        for_each_group!(B, rows, groups, |group, weights, scales, minima| {
            let out = tile.weights.as_mut_ptr().add(group * 8);
            for (i, weights) in weights.into_iter().enumerate() {
                _mm512_store_si512(out.add(i).cast(), _mm512_add_epi8(weights, offset));
            }
            _mm512_store_ps(tile.scales.as_mut_ptr().add(group).cast(), scales);
            if B::MINIMA {
                _mm512_store_ps(tile.minima.as_mut_ptr().add(group).cast(), minima);
            }
        });
    }
}

/// Makes 32-bit floats of 16-bit ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves_of(halves: &[u16; 16]) -> __m512 {
    // SAFETY: the array has 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

/// The lower nibbles of 16 bytes of every row, then the upper ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn nibbles(rows: &[*const u8; ROWS], at: usize) -> [__m512i; 8] {
    // SAFETY: as the caller says.
    let bytes = unsafe { sixteen_bytes(rows, at) };
    let mut out = [_mm512_setzero_si512(); 8];
    for (i, bytes) in bytes.into_iter().enumerate() {
        out[i] = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
        out[4 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15));
    }
    out
}

/// Adds 16 to the weights whose bit is set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_high(weights: &mut [__m512i; 8], high: &[u32; ROWS]) {
    // SAFETY: the array has 64 bytes.
    let high = unsafe { _mm512_loadu_si512(high.as_ptr().cast()) };
    let bits = [0x0804_0201, 0x8040_2010_u32 as i32].map(|bits| _mm512_set1_epi32(bits));
    for byte in 0..4 {
        // The byte of a row that has its bits for eight columns, in every byte of the lane.
        let from = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
        let from = _mm512_add_epi8(from, _mm512_set1_epi8(byte as i8));
        let spread = _mm512_shuffle_epi8(high, from);
        for (weights, bits) in weights[byte * 2..].iter_mut().zip(bits) {
            let mask = _mm512_test_epi8_mask(spread, bits);
            *weights = _mm512_mask_add_epi8(*weights, mask, *weights, _mm512_set1_epi8(16));
        }
    }
}

macro_rules! blocks_of_nibbles {
    ($name:ident, $size:literal, $offset:expr, $minima:literal, $five:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Block for $name {
            const SIZE: usize = $size;
            const MINIMA: bool = $minima;
            const OFFSET: Option<u32> = $offset;

            #[inline]
            unsafe fn head(p: *const u8) -> (u16, u16, u32) {
                // SAFETY: as the caller says.
                unsafe {
                    let scale = p.cast::<u16>().read_unaligned();
                    let minimum = if $minima { p.add(2).cast::<u16>().read_unaligned() } else { 0 };
                    let at = if $minima { 4 } else { 2 };
                    let high = if $five { p.add(at).cast::<u32>().read_unaligned() } else { 0 };
                    (scale, minimum, high)
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn weights(
                rows: &[*const u8; ROWS],
                at: usize,
                high: &[u32; ROWS],
            ) -> [__m512i; 8] {
                // SAFETY: as the caller says.
                let mut weights = unsafe { nibbles(rows, at + $size - 16) };
                if $five {
                    add_high(&mut weights, high);
                }
                weights
            }
        }
    };
}

blocks_of_nibbles!(Q4_0, 18, Some(3), false, false);
blocks_of_nibbles!(Q4_1, 20, None, true, false);
blocks_of_nibbles!(Q5_0, 22, Some(4), false, true);
blocks_of_nibbles!(Q5_1, 24, None, true, true);

#[derive(Debug)]
pub(super) struct Q8_0;

impl Block for Q8_0 {
    const SIZE: usize = 34;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(7);

    #[inline]
    unsafe fn head(p: *const u8) -> (u16, u16, u32) {
        // SAFETY: as the caller says.
        (unsafe { p.cast::<u16>().read_unaligned() }, 0, 0)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn weights(rows: &[*const u8; ROWS], at: usize, _: &[u32; ROWS]) -> [__m512i; 8] {
        // SAFETY: as the caller says.
        let (low, high) = unsafe { (sixteen_bytes(rows, at + 2), sixteen_bytes(rows, at + 18)) };
        let mut out = [_mm512_setzero_si512(); 8];
        for i in 0..4 {
            out[i] = _mm512_xor_si512(low[i], _mm512_set1_epi8(-128));
            out[4 + i] = _mm512_xor_si512(high[i], _mm512_set1_epi8(-128));
        }
        out
    }
}
