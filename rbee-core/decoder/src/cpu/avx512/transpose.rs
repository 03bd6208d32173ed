//! The bytes of 16 rows, transposed.

use std::arch::x86_64::*;

use super::ROWS;

/// The 16 bytes at a place of every row: vector `i` has the bytes from `4·i`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn sixteen_bytes(rows: &[*const u8; ROWS], at: usize) -> [__m512i; 4] {
    let mut parts = [_mm512_setzero_si512(); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        unsafe {
            let load = |row: usize| _mm_loadu_si128(rows[row].add(at).cast());
            let first = _mm512_castsi128_si512(load(i));
            let two = _mm512_inserti32x4::<1>(first, load(4 + i));
            let three = _mm512_inserti32x4::<2>(two, load(8 + i));
            *part = _mm512_inserti32x4::<3>(three, load(12 + i));
        }
    }
    transpose_quads(parts)
}

/// Transposes a matrix of 4 by 4 numbers of 32 bits in every 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quads([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, ab2) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd, cd2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab2, cd2),
        _mm512_unpackhi_epi64(ab2, cd2),
    ]
}
