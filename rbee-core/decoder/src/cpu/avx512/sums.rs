//! The sums of products, of 16 rows of a matrix and up to 8 rows of activations.

use std::arch::x86_64::*;

use super::ROWS;
use crate::cpu::job::Job;

/// Evaluates an expression with a constant that is the number of rows of activations, of 1 to 8.
macro_rules! with_height {
    ($height:expr, $constant:ident, $body:expr) => {
        match $height {
            1 => with_height!(= 1, $constant, $body),
            2 => with_height!(= 2, $constant, $body),
            3 => with_height!(= 3, $constant, $body),
            4 => with_height!(= 4, $constant, $body),
            5 => with_height!(= 5, $constant, $body),
            6 => with_height!(= 6, $constant, $body),
            7 => with_height!(= 7, $constant, $body),
            height => {
                assert_eq!(height, 8, "a tile of activations");
                with_height!(= 8, $constant, $body)
            }
        }
    };
    (= $number:literal, $constant:ident, $body:expr) => {{
        const $constant: usize = $number;
        $body
    }};
}
pub(super) use with_height;

/// The addresses of `count` rows of the matrix; rows after the last one repeat it.
pub(super) fn rows_from(job: &Job<'_>, first: usize, count: usize) -> [*const u8; ROWS] {
    std::array::from_fn(|i| job.row(first + i.min(count - 1)).as_ptr())
}

/// Writes the sums of `count` columns, one vector for each row from `row`, after it added the bias.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(job: &Job<'_>, column: usize, count: usize, row: usize, sums: &[__m512]) {
    let mask = u16::MAX >> (ROWS - count);
    let bias = job.bias.map(|bias| {
        assert!(column + count <= bias.len(), "a bias for every column");
        // SAFETY: the mask has the lanes of columns that exist.
        unsafe { _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(column)) }
    });
    for (i, sum) in sums.iter().enumerate() {
        let sum = bias.map_or(*sum, |bias| _mm512_add_ps(*sum, bias));
        // SAFETY: the mask has the lanes of columns of this part.
        unsafe { _mm512_mask_storeu_ps(job.place(row + i, column), mask, sum) };
    }
}

/// The integer products of `4·N` columns. `sums` is -128 times the sum of the activations, which takes the `offset` of
/// the weights (a power of two) out of the products.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn dots<const A: usize, const N: usize>(
    weights: *const __m512i,
    values: *const i32,
    sums: *const i32,
    offset: Option<u32>,
) -> [__m512i; A] {
    // SAFETY: as the caller says.
    unsafe {
        let mut products = [_mm512_setzero_si512(); A];
        if let Some(bits) = offset {
            for (row, products) in products.iter_mut().enumerate() {
                *products = _mm512_set1_epi32(*sums.add(row) >> (7 - bits));
            }
        }
        for i in 0..N {
            let weights = weights.add(i).read();
            for (row, products) in products.iter_mut().enumerate() {
                let values = _mm512_set1_epi32(*values.add(i * A + row));
                *products = _mm512_dpbusd_epi32(*products, weights, values);
            }
        }
        products
    }
}

/// Adds products, times the scales of weights and activations.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add<const A: usize>(
    sums: &mut [__m512; A],
    products: [__m512i; A],
    scales: __m512,
    activation_scales: *const f32,
) {
    for (row, (sum, products)) in sums.iter_mut().zip(products).enumerate() {
        // SAFETY: as the caller says.
        let scales = _mm512_mul_ps(scales, _mm512_set1_ps(unsafe { *activation_scales.add(row) }));
        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, *sum);
    }
}

/// Adds minima, times the sums of the activations.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_minima<const A: usize>(
    sums: &mut [__m512; A],
    minima: __m512,
    scaled: *const f32,
) {
    for (row, sum) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *sum = _mm512_fmadd_ps(minima, _mm512_set1_ps(unsafe { *scaled.add(row) }), *sum);
    }
}
