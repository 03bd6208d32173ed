//! Integer products.

use std::arch::x86_64::*;

use super::formats::Format;

/// The products of 32 weights and activations, in sums of four.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot<F: Format>(weights: __m256i, values: __m256i) -> __m256i {
    // Pairs do not overflow 16 bits: 128 · 127 · 2 is less than 2^15.
    let pairs = if F::LARGEST.is_none() {
        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(values, weights))
    } else {
        _mm256_maddubs_epi16(weights, values)
    };
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// The products of `4·N` columns of 8 rows of weights with those of `A` rows of activations, which are `stride` apart.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dots<F: Format, const A: usize, const N: usize>(
    weights: *const __m256i,
    values: *const i32,
    stride: usize,
    corrections: *const i32,
) -> [__m256i; A] {
    let ones = _mm256_set1_epi16(1);
    let mut products = [_mm256_setzero_si256(); A];
    // SAFETY: as the caller says.
    unsafe {
        if let Some(bits) = F::OFFSET {
            for (row, products) in products.iter_mut().enumerate() {
                *products = _mm256_set1_epi32(*corrections.add(row) >> (7 - bits));
            }
        }
        match F::LARGEST {
            None => {
                for i in 0..N {
                    let weights = _mm256_load_si256(weights.add(i));
                    let magnitudes = _mm256_abs_epi8(weights);
                    for (row, products) in products.iter_mut().enumerate() {
                        let values = _mm256_set1_epi32(*values.add(i * stride + row));
                        let pairs =
                            _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(values, weights));
                        *products = _mm256_add_epi32(*products, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            Some(largest) => {
                // So many sums of two products fit in 16 bits.
                let adds = N.min(32_767 / (largest * 127 * 2)).min(8);
                let adds = 1 << adds.ilog2();
                for start in (0..N).step_by(adds) {
                    let mut pairs = [_mm256_setzero_si256(); A];
                    for i in start..start + adds {
                        let weights = _mm256_load_si256(weights.add(i));
                        for (row, pairs) in pairs.iter_mut().enumerate() {
                            let values = _mm256_set1_epi32(*values.add(i * stride + row));
                            *pairs =
                                _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(weights, values));
                        }
                    }
                    for (products, pairs) in products.iter_mut().zip(pairs) {
                        *products = _mm256_add_epi32(*products, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
        }
    }
    products
}
