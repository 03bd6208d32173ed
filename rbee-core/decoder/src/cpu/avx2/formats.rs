//! How AVX2 unpacks each type of weights.

use std::arch::x86_64::*;

use super::super::blocks::{scales_and_minima, six_bit_scales};

/// A quantized type. A step is 256 weights: one block of the K types, 8 blocks of the others.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and the bytes that the groups of the step lie in must
/// exist. `p` is the start of the step.
pub(super) trait Format {
    /// True if a group has a scale for each half.
    const HALVES: bool;
    /// True if there are minima.
    const MINIMA: bool;
    /// What [`Format::group`] adds to the weights, as a power of two; `None`: nothing.
    const OFFSET: Option<u32>;
    /// The largest weight, with the offset; `None`: the weights are signed, and there is no offset.
    const LARGEST: Option<usize>;
    /// The bytes of a step.
    const STEP: usize;

    /// The weights of a group, with the offset.
    unsafe fn group(p: *const u8, group: usize) -> __m256i;
    /// The scales of the step's `groups` groups, of which there are at most 8, and the minima: with scales for halves,
    /// 8 and 8 scales, and 8 and 8 minima; else 8 scales, 8 minima.
    unsafe fn scales(p: *const u8, groups: usize) -> [__m256; 4];
}

/// Reads a 16-bit float.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn half_at(p: *const u8) -> __m256 {
    // SAFETY: as the caller says.
    let bits = unsafe { p.cast::<u16>().read_unaligned() };
    _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// Reads 16-bit floats that are `STRIDE` bytes apart.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn halves_at<const STRIDE: usize>(p: *const u8, count: usize) -> __m256 {
    // SAFETY: as the caller says.
    let at = |i: usize| unsafe { p.add(i * STRIDE).cast::<i16>().read_unaligned() };
    let bits = if count == 8 {
        _mm_set_epi16(at(7), at(6), at(5), at(4), at(3), at(2), at(1), at(0))
    } else {
        let mut bits = [0_i16; 8];
        for (i, bits) in bits.iter_mut().enumerate().take(count) {
            *bits = at(i);
        }
        // SAFETY: the array has 16 bytes.
        unsafe { _mm_loadu_si128(bits.as_ptr().cast()) }
    };
    _mm256_cvtph_ps(bits)
}

/// Shifts bytes to the right, and keeps the lowest bits of each, which the mask says.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(bytes: __m256i, shift: usize, mask: i8) -> __m256i {
    _mm256_and_si256(
        _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32)),
        _mm256_set1_epi8(mask),
    )
}

/// `value` in every byte that has all bits of `bit`.
#[inline]
#[target_feature(enable = "avx2")]
fn where_set(bytes: __m256i, bit: __m256i, value: i8) -> __m256i {
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    _mm256_and_si256(set, _mm256_set1_epi8(value))
}

macro_rules! blocks_of_nibbles {
    ($name:ident, $size:literal, $nibbles:literal, $high:expr, $offset:expr, $minima:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Format for $name {
            const HALVES: bool = false;
            const MINIMA: bool = $minima;
            const OFFSET: Option<u32> = $offset;
            const LARGEST: Option<usize> = Some(if $size < 22 { 15 } else { 31 });
            const STEP: usize = 8 * $size;

            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn group(p: *const u8, group: usize) -> __m256i {
                // SAFETY: as the caller says.
                unsafe {
                    let block = p.add(group * $size);
                    let packed = _mm_loadu_si128(block.add($nibbles).cast());
                    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
                    let low = _mm256_and_si256(both, _mm256_set1_epi8(15));
                    let high: Option<usize> = $high;
                    match high {
                        None => low,
                        Some(at) => {
                            let high =
                                _mm256_set1_epi32(block.add(at).cast::<i32>().read_unaligned());
                            // Eight times each byte, to look at one bit in each.
                            let spread = _mm256_set_epi64x(
                                0x0303_0303_0303_0303,
                                0x0202_0202_0202_0202,
                                0x0101_0101_0101_0101,
                                0,
                            );
                            let high = _mm256_shuffle_epi8(high, spread);
                            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                            _mm256_or_si256(low, where_set(high, bit, 16))
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn scales(p: *const u8, groups: usize) -> [__m256; 4] {
                let zero = _mm256_setzero_ps();
                // SAFETY: as the caller says.
                unsafe {
                    let minima = if $minima { halves_at::<$size>(p.add(2), groups) } else { zero };
                    [halves_at::<$size>(p, groups), minima, zero, zero]
                }
            }
        }
    };
}

blocks_of_nibbles!(Q4_0, 18, 2, None, Some(3), false);
blocks_of_nibbles!(Q4_1, 20, 4, None, None, true);
blocks_of_nibbles!(Q5_0, 22, 6, Some(2), Some(4), false);
blocks_of_nibbles!(Q5_1, 24, 8, Some(4), None, true);

#[derive(Debug)]
pub(super) struct Q8_0;

impl Format for Q8_0 {
    const HALVES: bool = false;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = None;
    const LARGEST: Option<usize> = None;
    const STEP: usize = 8 * 34;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(p: *const u8, group: usize) -> __m256i {
        // SAFETY: as the caller says.
        unsafe { _mm256_loadu_si256(p.add(group * 34 + 2).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(p: *const u8, groups: usize) -> [__m256; 4] {
        let zero = _mm256_setzero_ps();
        // SAFETY: as the caller says.
        [unsafe { halves_at::<34>(p, groups) }, zero, zero, zero]
    }
}

/// Makes numbers of 8 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn numbers(low: u32, high: u32) -> __m256i {
    _mm256_cvtepu8_epi32(_mm_set_epi32(0, 0, high as i32, low as i32))
}

#[inline]
#[target_feature(enable = "avx2")]
fn times(factor: __m256, integers: __m256i) -> __m256 {
    _mm256_mul_ps(factor, _mm256_cvtepi32_ps(integers))
}

#[inline]
#[target_feature(enable = "avx2")]
fn negative(factor: __m256) -> __m256 {
    _mm256_xor_ps(factor, _mm256_set1_ps(-0.0))
}

#[derive(Debug)]
pub(super) struct Q2K;

impl Format for Q2K {
    const HALVES: bool = true;
    const MINIMA: bool = true;
    const OFFSET: Option<u32> = None;
    const LARGEST: Option<usize> = Some(3);
    const STEP: usize = 84;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(p: *const u8, group: usize) -> __m256i {
        // SAFETY: as the caller says.
        let bytes = unsafe { _mm256_loadu_si256(p.add(16 + group / 4 * 32).cast()) };
        bits(bytes, group % 4 * 2, 3)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 4] {
        // SAFETY: as the caller says.
        let (packed, d, minimum) =
            unsafe { (_mm_loadu_si128(p.cast()), half_at(p.add(80)), half_at(p.add(82))) };
        let minimum = negative(minimum);
        let mask = _mm_set1_epi8(15);
        let scales = _mm_and_si128(packed, mask);
        let minima = _mm_and_si128(_mm_srli_epi16::<4>(packed), mask);
        [
            times(d, _mm256_cvtepu8_epi32(scales)),
            times(d, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(scales, scales))),
            times(minimum, _mm256_cvtepu8_epi32(minima)),
            times(minimum, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(minima, minima))),
        ]
    }
}

#[derive(Debug)]
pub(super) struct Q3K;

impl Format for Q3K {
    const HALVES: bool = true;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(2);
    const LARGEST: Option<usize> = Some(7);
    const STEP: usize = 110;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(p: *const u8, group: usize) -> __m256i {
        // SAFETY: as the caller says.
        let (low, high) = unsafe {
            (_mm256_loadu_si256(p.add(32 + group / 4 * 32).cast()), _mm256_loadu_si256(p.cast()))
        };
        let bit = _mm256_set1_epi8((1_u8 << group) as i8);
        _mm256_or_si256(bits(low, group % 4 * 2, 3), where_set(high, bit, 4))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 4] {
        let zero = _mm256_setzero_ps();
        // SAFETY: as the caller says.
        let (words, d) =
            unsafe { (p.add(96).cast::<[u32; 3]>().read_unaligned(), half_at(p.add(108))) };
        let words = six_bit_scales(words);
        let offset = _mm256_set1_epi32(32);
        let first = _mm256_sub_epi32(numbers(words[0], words[1]), offset);
        let second = _mm256_sub_epi32(numbers(words[2], words[3]), offset);
        [times(d, first), times(d, second), zero, zero]
    }
}

macro_rules! blocks_with_minima {
    ($name:ident, $size:literal, $nibbles:literal, $five:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Format for $name {
            const HALVES: bool = false;
            const MINIMA: bool = true;
            const OFFSET: Option<u32> = None;
            const LARGEST: Option<usize> = Some(if $five { 31 } else { 15 });
            const STEP: usize = $size;

            #[inline]
            #[target_feature(enable = "avx2")]
            unsafe fn group(p: *const u8, group: usize) -> __m256i {
                // SAFETY: as the caller says.
                unsafe {
                    let bytes = _mm256_loadu_si256(p.add($nibbles + group / 2 * 32).cast());
                    let low = bits(bytes, group % 2 * 4, 15);
                    if !$five {
                        return low;
                    }
                    let bit = _mm256_set1_epi8((1_u8 << group) as i8);
                    let high = _mm256_loadu_si256(p.add(16).cast());
                    _mm256_or_si256(low, where_set(high, bit, 16))
                }
            }

            #[inline]
            #[target_feature(enable = "avx2,f16c")]
            unsafe fn scales(p: *const u8, _: usize) -> [__m256; 4] {
                let zero = _mm256_setzero_ps();
                // SAFETY: as the caller says.
                let (words, d, minimum) = unsafe {
                    (p.add(4).cast::<[u32; 3]>().read_unaligned(), half_at(p), half_at(p.add(2)))
                };
                let words = scales_and_minima(words);
                let scales = times(d, numbers(words[0], words[1]));
                let minima = times(negative(minimum), numbers(words[2], words[3]));
                [scales, minima, zero, zero]
            }
        }
    };
}

blocks_with_minima!(Q4K, 144, 16, false);
blocks_with_minima!(Q5K, 176, 48, true);

#[derive(Debug)]
pub(super) struct Q6K;

impl Format for Q6K {
    const HALVES: bool = true;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(5);
    const LARGEST: Option<usize> = Some(63);
    const STEP: usize = 210;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn group(p: *const u8, group: usize) -> __m256i {
        let (part, quarter) = (group / 4, group % 4);
        // SAFETY: as the caller says.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(p.add(part * 64 + quarter % 2 * 32).cast()),
                _mm256_loadu_si256(p.add(128 + part * 32).cast()),
            )
        };
        let high = bits(high, quarter * 2, 3);
        _mm256_or_si256(bits(low, quarter / 2 * 4, 15), _mm256_slli_epi16::<4>(high))
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m256; 4] {
        let zero = _mm256_setzero_ps();
        // SAFETY: as the caller says.
        let (scales, d) = unsafe { (_mm_loadu_si128(p.add(192).cast()), half_at(p.add(208))) };
        let second = _mm_unpackhi_epi64(scales, scales);
        [times(d, _mm256_cvtepi8_epi32(scales)), times(d, _mm256_cvtepi8_epi32(second)), zero, zero]
    }
}
