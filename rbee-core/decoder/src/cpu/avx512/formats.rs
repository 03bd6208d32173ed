//! How AVX-512 unpacks the types whose blocks have 256 weights: 8 groups.
//!
//! A block is unpacked for 16 rows of a matrix at once. Its packed bits are transposed first, so that a lane of 32 bits
//! has four columns of one row; the groups then take their bits from there.

use std::arch::x86_64::*;

use super::{ROWS, transpose::sixteen_bytes};
use crate::cpu::blocks::{scales_and_minima, six_bit_scales};

/// A block of each of 16 rows, transposed.
#[derive(Debug)]
pub(super) struct Transposed {
    /// The lower bits of the weights, packed as the type packs them: vector `i` has the bytes from `4·i`.
    low: [__m512i; 32],
    /// The same for the upper bits.
    high: [__m512i; 16],
    /// The scales of all groups, or of both halves of all groups.
    pub(super) scales: [__m512; 16],
    /// The same for the minima.
    pub(super) minima: [__m512; 16],
}

impl Transposed {
    /// Memory for a block.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn empty() -> Self {
        let (bits, numbers) = (_mm512_setzero_si512(), _mm512_setzero_ps());
        Self { low: [bits; 32], high: [bits; 16], scales: [numbers; 16], minima: [numbers; 16] }
    }

    /// Sets scales (or minima) from four numbers of 8 bits per word, of which each vector has a word per row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn set<const SIGNED: bool>(out: &mut [__m512], words: &[__m512i], factor: __m512) {
        for (out, word) in out.chunks_exact_mut(4).zip(words) {
            for (byte, out) in out.iter_mut().enumerate() {
                let up = _mm512_sllv_epi32(*word, _mm512_set1_epi32(24 - 8 * byte as i32));
                let number = match SIGNED {
                    true => _mm512_srai_epi32::<24>(up),
                    false => _mm512_srli_epi32::<24>(up),
                };
                *out = _mm512_mul_ps(factor, _mm512_cvtepi32_ps(number));
            }
        }
    }
}

/// A quantized type with blocks of 256 weights.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and the block at `at` of every row must exist.
pub(super) trait Format {
    /// The bytes of a block.
    const SIZE: usize;
    /// True if a group has a scale for each half.
    const HALVES: bool;
    /// True if there are minima.
    const MINIMA: bool;
    /// What [`Format::weights`] adds to the weights, as a power of two; `None`: nothing.
    const OFFSET: Option<u32>;

    /// Reads a block of every row.
    unsafe fn open(rows: &[*const u8; ROWS], at: usize, block: &mut Transposed);
    /// The weights of a group, with the offset, unsigned: vector `i` has the columns from `4·i`.
    unsafe fn weights(block: &Transposed, group: usize) -> [__m512i; 8];
}

/// The lower (`upper` is 0) or upper (1) 16 bits of every lane, as floats.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: __m512i, upper: u32) -> __m512 {
    let words = _mm512_srlv_epi32(words, _mm512_set1_epi32(16 * upper as i32));
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn negative(numbers: __m512) -> __m512 {
    let sign = _mm512_set1_epi32(i32::MIN);
    _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(numbers), sign))
}

/// Applies a function of words to the words of all rows.
///
/// It is written for a row, and compiled for vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_lanes<const OUT: usize>(
    words: [__m512i; 3],
    unpack: impl Fn([u32; 3]) -> [u32; OUT],
) -> [__m512i; OUT] {
    let (mut from, mut to) = ([[0_u32; ROWS]; 3], [[0_u32; ROWS]; OUT]);
    for (from, words) in from.iter_mut().zip(words) {
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_si512(from.as_mut_ptr().cast(), words) };
    }
    for row in 0..ROWS {
        let words = unpack([from[0][row], from[1][row], from[2][row]]);
        for (to, word) in to.iter_mut().zip(words) {
            to[row] = word;
        }
    }
    // SAFETY: the array has 64 bytes.
    to.map(|to| unsafe { _mm512_loadu_si512(to.as_ptr().cast()) })
}

/// Transposes this many bytes of every row.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transposed(rows: &[*const u8; ROWS], at: usize, out: &mut [__m512i]) {
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *out = unsafe { sixteen_bytes(rows, at + 16 * i) };
    }
}

/// Bits `from..from + count` of every byte, moved to bit `to`.
#[inline]
#[target_feature(enable = "avx512f")]
fn bits_at(bytes: __m512i, from: usize, count: u32, to: usize) -> __m512i {
    let mask = ((1_u32 << count) - 1) << to;
    // A rotation moves to both sides, and no bit of another byte or of the other end gets under the mask.
    let moved = _mm512_rorv_epi32(bytes, _mm512_set1_epi32(from as i32 - to as i32));
    _mm512_and_si512(moved, _mm512_set1_epi8(mask as i8))
}

#[derive(Debug)]
pub(super) struct Q2K;

impl Format for Q2K {
    const SIZE: usize = 84;
    const HALVES: bool = true;
    const MINIMA: bool = true;
    const OFFSET: Option<u32> = None;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn open(rows: &[*const u8; ROWS], at: usize, block: &mut Transposed) {
        // SAFETY: as the caller says.
        let (packed, [.., factors]) = unsafe {
            transposed(rows, at + 16, &mut block.low[..16]);
            (sixteen_bytes(rows, at), sixteen_bytes(rows, at + 68))
        };
        let scales = packed.map(|words| bits_at(words, 0, 4, 0));
        let minima = packed.map(|words| bits_at(words, 4, 4, 0));
        Transposed::set::<false>(&mut block.scales, &scales, halves(factors, 0));
        Transposed::set::<false>(&mut block.minima, &minima, negative(halves(factors, 1)));
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn weights(block: &Transposed, group: usize) -> [__m512i; 8] {
        let low = &block.low[group / 4 * 8..][..8];
        let mut weights = [_mm512_setzero_si512(); 8];
        for (weights, low) in weights.iter_mut().zip(low) {
            *weights = bits_at(*low, group % 4 * 2, 2, 0);
        }
        weights
    }
}

#[derive(Debug)]
pub(super) struct Q3K;

impl Format for Q3K {
    const SIZE: usize = 110;
    const HALVES: bool = true;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(2);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn open(rows: &[*const u8; ROWS], at: usize, block: &mut Transposed) {
        // SAFETY: as the caller says.
        let last = unsafe {
            transposed(rows, at + 32, &mut block.low[..16]);
            transposed(rows, at, &mut block.high[..8]);
            sixteen_bytes(rows, at + 94)
        };
        // The last 16 bytes are 2 bytes of weights, 12 of scales, and the factor.
        let words = std::array::from_fn(|i| {
            _mm512_or_si512(_mm512_srli_epi32::<16>(last[i]), _mm512_slli_epi32::<16>(last[i + 1]))
        });
        let scales = in_lanes(words, six_bit_scales);
        // Less 32, in every byte: none of them borrows from the next.
        let high = _mm512_set1_epi8(-128);
        let scales = scales.map(|words| {
            let less = _mm512_sub_epi32(_mm512_or_si512(words, high), _mm512_set1_epi8(32));
            _mm512_xor_si512(less, high)
        });
        Transposed::set::<true>(&mut block.scales, &scales, halves(last[3], 1));
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn weights(block: &Transposed, group: usize) -> [__m512i; 8] {
        let low = &block.low[group / 4 * 8..][..8];
        let mut weights = [_mm512_setzero_si512(); 8];
        for (i, weights) in weights.iter_mut().enumerate() {
            let high = bits_at(block.high[i], group, 1, 2);
            *weights = _mm512_or_si512(bits_at(low[i], group % 4 * 2, 2, 0), high);
        }
        weights
    }
}

/// Q4_K and Q5_K.
macro_rules! blocks_with_minima {
    ($name:ident, $size:literal, $nibbles:literal, $five:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Format for $name {
            const SIZE: usize = $size;
            const HALVES: bool = false;
            const MINIMA: bool = true;
            const OFFSET: Option<u32> = None;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn open(rows: &[*const u8; ROWS], at: usize, block: &mut Transposed) {
                // SAFETY: as the caller says.
                let [factors, words @ ..] = unsafe {
                    transposed(rows, at + $nibbles, &mut block.low);
                    if $five {
                        transposed(rows, at + 16, &mut block.high[..8]);
                    }
                    sixteen_bytes(rows, at)
                };
                let words = in_lanes(words, scales_and_minima);
                let minimum = negative(halves(factors, 1));
                Transposed::set::<false>(&mut block.scales[..8], &words[..2], halves(factors, 0));
                Transposed::set::<false>(&mut block.minima[..8], &words[2..], minimum);
            }

            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn weights(block: &Transposed, group: usize) -> [__m512i; 8] {
                let low = &block.low[group / 2 * 8..][..8];
                let mut weights = [_mm512_setzero_si512(); 8];
                for (i, weights) in weights.iter_mut().enumerate() {
                    *weights = bits_at(low[i], group % 2 * 4, 4, 0);
                    if $five {
                        *weights = _mm512_or_si512(*weights, bits_at(block.high[i], group, 1, 4));
                    }
                }
                weights
            }
        }
    };
}

blocks_with_minima!(Q4K, 144, 16, false);
blocks_with_minima!(Q5K, 176, 48, true);

#[derive(Debug)]
pub(super) struct Q6K;

impl Format for Q6K {
    const SIZE: usize = 210;
    const HALVES: bool = true;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(5);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn open(rows: &[*const u8; ROWS], at: usize, block: &mut Transposed) {
        // SAFETY: as the caller says.
        let (scales, [.., factor]) = unsafe {
            transposed(rows, at, &mut block.low);
            transposed(rows, at + 128, &mut block.high);
            (sixteen_bytes(rows, at + 192), sixteen_bytes(rows, at + 194))
        };
        Transposed::set::<true>(&mut block.scales, &scales, halves(factor, 1));
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn weights(block: &Transposed, group: usize) -> [__m512i; 8] {
        let (part, quarter) = (group / 4, group % 4);
        let low = &block.low[part * 16 + quarter % 2 * 8..][..8];
        let high = &block.high[part * 8..][..8];
        let mut weights = [_mm512_setzero_si512(); 8];
        for (i, weights) in weights.iter_mut().enumerate() {
            let low = bits_at(low[i], quarter / 2 * 4, 4, 0);
            *weights = _mm512_or_si512(low, bits_at(high[i], quarter * 2, 2, 4));
        }
        weights
    }
}
