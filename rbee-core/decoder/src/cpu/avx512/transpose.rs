//! Transposition of 16 vectors of 16 numbers.

use std::arch::x86_64::*;

/// Transposes a matrix of 16 by 16 numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut quads = [_mm512_setzero_si512(); 16];
    // In every 128-bit lane: the numbers `4·lane + i` of four rows.
    for (quads, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
        *quads = transpose_quads(*rows);
    }
    let mut out = quads;
    for i in 0..4 {
        let lanes = transpose_lanes([quads[i], quads[4 + i], quads[8 + i], quads[12 + i]]);
        for (lane, vector) in lanes.into_iter().enumerate() {
            out[lane * 4 + i] = vector;
        }
    }
    out
}

/// Transposes a matrix of 4 by 4 numbers of 32 bits in every 128-bit lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_quads([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, ab2) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd, cd2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab2, cd2),
        _mm512_unpackhi_epi64(ab2, cd2),
    ]
}

/// Transposes a matrix of 4 by 4 lanes of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_lanes([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let ab = _mm512_shuffle_i32x4::<0x44>(a, b);
    let ab2 = _mm512_shuffle_i32x4::<0xee>(a, b);
    let cd = _mm512_shuffle_i32x4::<0x44>(c, d);
    let cd2 = _mm512_shuffle_i32x4::<0xee>(c, d);
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab2, cd2),
        _mm512_shuffle_i32x4::<0xdd>(ab2, cd2),
    ]
}

/// Sums of the lanes' four numbers: of four vectors, in every 128-bit lane the sums of that lane in each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn sum_fours([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}
