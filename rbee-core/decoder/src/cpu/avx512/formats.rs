//! How AVX-512 unpacks each type of weights.

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
    /// What [`Format::pair`] adds to the weights, as a power of two; `None`: nothing.
    const OFFSET: Option<u32>;
    /// The bytes of a step.
    const STEP: usize;

    /// The weights of groups `2·pair` and `2·pair + 1`, with the offset, unsigned.
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i;
    /// The weights of a group with an even number, in the lower half; only called for types with blocks of 32.
    unsafe fn single(p: *const u8, group: usize) -> __m512i;
    /// The scales of the step's `groups` groups, of which there are at most 8, and the minima: with scales for halves,
    /// 16 scales and 16 minima; else the first vector has 8 scales and 8 minima.
    unsafe fn scales(p: *const u8, groups: usize) -> [__m512; 2];
}

/// Reads a 16-bit float.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn half_at(p: *const u8) -> __m128 {
    // SAFETY: as the caller says.
    let bits = unsafe { p.cast::<u16>().read_unaligned() };
    _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))
}

/// Reads two 16-bit floats, and makes vectors of 16 of each.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn two_halves_at(p: *const u8) -> [__m512; 2] {
    // SAFETY: as the caller says.
    let bits = unsafe { p.cast::<i32>().read_unaligned() };
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(bits));
    [_mm512_broadcastss_ps(both), _mm512_broadcastss_ps(_mm_movehdup_ps(both))]
}

/// Reads 16-bit floats that are `STRIDE` bytes apart.
#[inline]
#[target_feature(enable = "avx512f,f16c,sse4.1")]
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

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn join(low: __m256, high: __m256) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
}

/// Reads two blocks' nibbles: lower and upper nibbles of the first, then of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn nibbles(first: *const u8, second: *const u8) -> __m512i {
    // SAFETY: as the caller says.
    let (first, second) =
        unsafe { (_mm_loadu_si128(first.cast()), _mm_loadu_si128(second.cast())) };
    let both = _mm512_inserti64x4::<1>(
        _mm512_castsi256_si512(_mm256_broadcastsi128_si256(first)),
        _mm256_broadcastsi128_si256(second),
    );
    let shifts = _mm512_set_epi64(
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
    );
    _mm512_and_si512(_mm512_srlv_epi16(both, shifts), _mm512_set1_epi8(15))
}

/// The 32 bytes at a place, twice, shifted to the right by 16-bit words: the first ones by `low` bits, the others by
/// `high`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn shifted(p: *const u8, low: usize, high: usize) -> __m512i {
    // SAFETY: as the caller says.
    let bytes = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(p.cast()) });
    let word = |shift: usize| _mm256_set1_epi16(shift as i16);
    let shifts = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(word(low)), word(high));
    _mm512_srlv_epi16(bytes, shifts)
}

macro_rules! blocks_of_nibbles {
    ($name:ident, $size:literal, $nibbles:literal, $high:expr, $offset:expr, $minima:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Format for $name {
            const HALVES: bool = false;
            const MINIMA: bool = $minima;
            const OFFSET: Option<u32> = $offset;
            const STEP: usize = 8 * $size;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
                // SAFETY: as the caller says.
                unsafe {
                    let block = p.add(pair * 2 * $size);
                    let low = nibbles(block.add($nibbles), block.add($size + $nibbles));
                    let high: Option<usize> = $high;
                    match high {
                        None => low,
                        Some(at) => {
                            let first = block.add(at).cast::<u32>().read_unaligned();
                            let second = block.add($size + at).cast::<u32>().read_unaligned();
                            let mask = u64::from(first) | u64::from(second) << 32;
                            _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16))
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            unsafe fn single(p: *const u8, group: usize) -> __m512i {
                // SAFETY: as the caller says.
                unsafe {
                    let block = p.add(group * $size);
                    let low = nibbles(block.add($nibbles), block.add($nibbles));
                    let high: Option<usize> = $high;
                    match high {
                        None => low,
                        Some(at) => {
                            let mask = u64::from(block.add(at).cast::<u32>().read_unaligned());
                            _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16))
                        }
                    }
                }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512dq,f16c,sse4.1")]
            unsafe fn scales(p: *const u8, groups: usize) -> [__m512; 2] {
                // SAFETY: as the caller says.
                unsafe {
                    let scales = halves_at::<$size>(p, groups);
                    let minima = if $minima {
                        halves_at::<$size>(p.add(2), groups)
                    } else {
                        _mm256_setzero_ps()
                    };
                    [join(scales, minima), _mm512_setzero_ps()]
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
    const OFFSET: Option<u32> = Some(7);
    const STEP: usize = 8 * 34;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
        // SAFETY: as the caller says.
        let (first, second) = unsafe {
            let block = p.add(pair * 68 + 2);
            (_mm256_loadu_si256(block.cast()), _mm256_loadu_si256(block.add(34).cast()))
        };
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn single(p: *const u8, group: usize) -> __m512i {
        // SAFETY: as the caller says.
        let first = unsafe { _mm256_loadu_si256(p.add(group * 34 + 2).cast()) };
        _mm512_xor_si512(_mm512_zextsi256_si512(first), _mm512_set1_epi8(-128))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c,sse4.1")]
    unsafe fn scales(p: *const u8, groups: usize) -> [__m512; 2] {
        // SAFETY: as the caller says.
        let scales = unsafe { halves_at::<34>(p, groups) };
        [join(scales, _mm256_setzero_ps()), _mm512_setzero_ps()]
    }
}

/// Reads three words at a place, unpacks them to 16 bytes, and makes numbers of those.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn words_at(p: *const u8, unpack: impl Fn([u32; 3]) -> [u32; 4]) -> __m512i {
    // SAFETY: as the caller says.
    let words = unpack(unsafe { p.cast::<[u32; 3]>().read_unaligned() });
    _mm512_cvtepu8_epi32(_mm_set_epi32(
        words[3] as i32,
        words[2] as i32,
        words[1] as i32,
        words[0] as i32,
    ))
}

#[derive(Debug)]
pub(super) struct Q2K;

impl Format for Q2K {
    const HALVES: bool = true;
    const MINIMA: bool = true;
    const OFFSET: Option<u32> = None;
    const STEP: usize = 84;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
        let shift = pair % 2 * 4;
        // SAFETY: as the caller says.
        let bits = unsafe { shifted(p.add(16 + pair / 2 * 32), shift, shift + 2) };
        _mm512_and_si512(bits, _mm512_set1_epi8(3))
    }

    #[inline]
    unsafe fn single(_: *const u8, _: usize) -> __m512i {
        unreachable!("rows of K types have an even number of groups")
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m512; 2] {
        // SAFETY: as the caller says.
        let (packed, [d, minimum]) =
            unsafe { (_mm_loadu_si128(p.cast()), two_halves_at(p.add(80))) };
        let packed = _mm512_cvtepu8_epi32(packed);
        let scales = _mm512_and_si512(packed, _mm512_set1_epi32(15));
        let minima = _mm512_srli_epi32::<4>(packed);
        let minimum = _mm512_xor_ps(minimum, _mm512_set1_ps(-0.0));
        [
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(scales)),
            _mm512_mul_ps(minimum, _mm512_cvtepi32_ps(minima)),
        ]
    }
}

#[derive(Debug)]
pub(super) struct Q3K;

impl Format for Q3K {
    const HALVES: bool = true;
    const MINIMA: bool = false;
    const OFFSET: Option<u32> = Some(2);
    const STEP: usize = 110;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
        let shift = pair % 2 * 4;
        // SAFETY: as the caller says.
        let (bits, high) = unsafe {
            (shifted(p.add(32 + pair / 2 * 32), shift, shift + 2), _mm256_loadu_si256(p.cast()))
        };
        let low = _mm512_and_si512(bits, _mm512_set1_epi8(3));
        let mask = _mm512_test_epi8_mask(_mm512_broadcast_i64x4(high), bits_of_pair(pair));
        _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(4))
    }

    #[inline]
    unsafe fn single(_: *const u8, _: usize) -> __m512i {
        unreachable!("rows of K types have an even number of groups")
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m512; 2] {
        // SAFETY: as the caller says.
        let (scales, d) = unsafe { (words_at(p.add(96), six_bit_scales), half_at(p.add(108))) };
        let scales = _mm512_sub_epi32(scales, _mm512_set1_epi32(32));
        [_mm512_mul_ps(_mm512_broadcastss_ps(d), _mm512_cvtepi32_ps(scales)), _mm512_setzero_ps()]
    }
}

/// Bit `2·pair` for the lower 32 bytes, and bit `2·pair + 1` for the others.
#[inline]
#[target_feature(enable = "avx512f")]
fn bits_of_pair(pair: usize) -> __m512i {
    let byte = |bit: usize| _mm256_set1_epi8((1_u8 << bit) as i8);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(byte(pair * 2)), byte(pair * 2 + 1))
}

macro_rules! blocks_with_minima {
    ($name:ident, $size:literal, $nibbles:literal, $five:literal) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl Format for $name {
            const HALVES: bool = false;
            const MINIMA: bool = true;
            const OFFSET: Option<u32> = None;
            const STEP: usize = $size;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
                // SAFETY: as the caller says.
                unsafe {
                    let bits = shifted(p.add($nibbles + pair * 32), 0, 4);
                    let low = _mm512_and_si512(bits, _mm512_set1_epi8(15));
                    if !$five {
                        return low;
                    }
                    let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(p.add(16).cast()));
                    let mask = _mm512_test_epi8_mask(high, bits_of_pair(pair));
                    _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16))
                }
            }

            #[inline]
            unsafe fn single(_: *const u8, _: usize) -> __m512i {
                unreachable!("rows of K types have an even number of groups")
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512dq,f16c")]
            unsafe fn scales(p: *const u8, _: usize) -> [__m512; 2] {
                // SAFETY: as the caller says.
                let (factors, [d, minimum]) =
                    unsafe { (words_at(p.add(4), scales_and_minima), two_halves_at(p)) };
                let minimum = _mm512_xor_ps(minimum, _mm512_set1_ps(-0.0));
                let both = _mm512_mask_blend_ps(0xff00, d, minimum);
                [_mm512_mul_ps(both, _mm512_cvtepi32_ps(factors)), _mm512_setzero_ps()]
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
    const STEP: usize = 210;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
        let part = pair / 2;
        let shift = pair % 2 * 4;
        // SAFETY: as the caller says.
        let (low, high) = unsafe {
            (
                _mm512_loadu_si512(p.add(part * 64).cast()),
                shifted(p.add(128 + part * 32), shift, shift + 2),
            )
        };
        let low = _mm512_srl_epi16(low, _mm_cvtsi32_si128(shift as i32));
        let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
        let high = _mm512_and_si512(high, _mm512_set1_epi8(3));
        _mm512_or_si512(low, _mm512_slli_epi16::<4>(high))
    }

    #[inline]
    unsafe fn single(_: *const u8, _: usize) -> __m512i {
        unreachable!("rows of K types have an even number of groups")
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8, _: usize) -> [__m512; 2] {
        // SAFETY: as the caller says.
        let (scales, d) = unsafe { (_mm_loadu_si128(p.add(192).cast()), half_at(p.add(208))) };
        let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales));
        [_mm512_mul_ps(_mm512_broadcastss_ps(d), scales), _mm512_setzero_ps()]
    }
}
