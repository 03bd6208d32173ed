//! Transposition of 8 vectors of 8 numbers.

use std::arch::x86_64::*;

/// Transposes a matrix of 8 by 8 numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(rows: &[__m256i; 8]) -> [__m256i; 8] {
    let low = quads([rows[0], rows[1], rows[2], rows[3]]);
    let high = quads([rows[4], rows[5], rows[6], rows[7]]);
    let mut out = *rows;
    for i in 0..4 {
        out[i] = _mm256_permute2x128_si256::<0x20>(low[i], high[i]);
        out[i + 4] = _mm256_permute2x128_si256::<0x31>(low[i], high[i]);
    }
    out
}

/// In every 128-bit lane: a transposed matrix of 4 by 4 numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn quads([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, ab2) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, cd2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab2, cd2),
        _mm256_unpackhi_epi64(ab2, cd2),
    ]
}

/// Sums of the lanes' four numbers: of four vectors, in every 128-bit lane the sums of that lane in each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_fours([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}
