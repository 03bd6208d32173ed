//! How AVX-512 unpacks the types whose blocks have 256 weights.

use std::arch::x86_64::*;

use super::super::blocks::{scales_and_minima, six_bit_scales};

/// A quantized type with blocks of 256 weights: 8 groups.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and the block at `p` must exist.
pub(super) trait Format {
    /// True if a group has a scale for each half.
    const HALVES: bool;
    /// True if there are minima.
    const MINIMA: bool;
    /// What [`Format::pair`] adds to the weights, as a power of two; `None`: nothing.
    const OFFSET: Option<u32>;
    /// The bytes of a block.
    const SIZE: usize;

    /// The weights of groups `2·pair` and `2·pair + 1`, with the offset, unsigned.
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i;
    /// The scales and the minima of the block: with scales for halves, 16 scales and 16 minima; else the first vector has
    /// 8 scales and 8 minima.
    unsafe fn scales(p: *const u8) -> [__m512; 2];
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

/// Makes 32-bit floats of 16-bit ones.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves_of(halves: &[u16; 16]) -> __m512 {
    // SAFETY: the array has 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
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
    const SIZE: usize = 84;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair(p: *const u8, pair: usize) -> __m512i {
        let shift = pair % 2 * 4;
        // SAFETY: as the caller says.
        let bits = unsafe { shifted(p.add(16 + pair / 2 * 32), shift, shift + 2) };
        _mm512_and_si512(bits, _mm512_set1_epi8(3))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8) -> [__m512; 2] {
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
    const SIZE: usize = 110;

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
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8) -> [__m512; 2] {
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
            const SIZE: usize = $size;

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
            #[target_feature(enable = "avx512f,avx512dq,f16c")]
            unsafe fn scales(p: *const u8) -> [__m512; 2] {
                // SAFETY: as the caller says.
                let factors = unsafe { words_at(p.add(4), scales_and_minima) };
                // SAFETY: as the caller says.
                let [d, minimum] = unsafe { two_halves_at(p) };
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
    const SIZE: usize = 210;

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
    #[target_feature(enable = "avx512f,avx512dq,f16c")]
    unsafe fn scales(p: *const u8) -> [__m512; 2] {
        // SAFETY: as the caller says.
        let (scales, d) = unsafe { (_mm_loadu_si128(p.add(192).cast()), half_at(p.add(208))) };
        let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales));
        [_mm512_mul_ps(_mm512_broadcastss_ps(d), scales), _mm512_setzero_ps()]
    }
}
