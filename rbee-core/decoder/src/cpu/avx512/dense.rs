//! The products with weights that are not quantized.

use std::arch::x86_64::*;

use super::fetch::{ahead, fetch};
use crate::{cpu::job::Job, matrix::WeightType};

/// A type of weights.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and the weights must exist.
trait Dense {
    const BYTES: usize;
    /// Sixteen weights.
    unsafe fn load(p: *const u8) -> __m512;
    /// Those that the mask has.
    unsafe fn load_some(p: *const u8, mask: u16) -> __m512;
}

struct F32;

impl Dense for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(p: *const u8) -> __m512 {
        // SAFETY: as the caller says.
        unsafe { _mm512_loadu_ps(p.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_some(p: *const u8, mask: u16) -> __m512 {
        // SAFETY: as the caller says.
        unsafe { _mm512_maskz_loadu_ps(mask, p.cast()) }
    }
}

struct F16;

impl Dense for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(p: *const u8) -> __m512 {
        // SAFETY: as the caller says.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_some(p: *const u8, mask: u16) -> __m512 {
        // SAFETY: as the caller says.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, p.cast()) })
    }
}

struct Bf16;

impl Dense for Bf16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(p: *const u8) -> __m512 {
        // SAFETY: as the caller says.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(p.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_some(p: *const u8, mask: u16) -> __m512 {
        // SAFETY: as the caller says.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_maskz_loadu_epi16(mask, p.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}

/// Computes the columns of a job, of a type that is not quantized.
///
/// # Safety
///
/// The processor must have the instructions of `Isa::Avx512`.
pub(in crate::cpu) unsafe fn plain_product(job: &Job<'_>, x: &[f32]) {
    // SAFETY: as the caller says.
    unsafe {
        match job.matrix.kind {
            WeightType::F16 => product::<F16>(job, x),
            WeightType::Bf16 => product::<Bf16>(job, x),
            WeightType::F32 => product::<F32>(job, x),
            _ => unreachable!("quantized"),
        }
    }
}

/// The bytes of activations that are multiplied with all weights before the next ones are.
const BLOCK_BYTES: usize = 1 << 18;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn product<D: Dense>(job: &Job<'_>, x: &[f32]) {
    let width = job.matrix.cols;
    let rows = x.len() / width;
    let block = (BLOCK_BYTES / 4 / width).next_multiple_of(4).max(4);
    for first in (0..rows).step_by(block) {
        let rows = first..rows.min(first + block);
        let mut column = job.columns.start;
        while column < job.columns.end {
            let count = if column + 4 <= job.columns.end { 4 } else { 1 };
            let mut row = rows.start;
            while row < rows.end {
                let height = if row + 4 <= rows.end { 4 } else { 1 };
                // SAFETY: these rows and columns exist.
                unsafe {
                    match (count, height, row == rows.start) {
                        (4, 4, true) => tile::<D, 4, 4, true>(job, column, x, row),
                        (4, 4, false) => tile::<D, 4, 4, false>(job, column, x, row),
                        (4, _, true) => tile::<D, 4, 1, true>(job, column, x, row),
                        (4, _, false) => tile::<D, 4, 1, false>(job, column, x, row),
                        (_, 4, _) => tile::<D, 1, 4, false>(job, column, x, row),
                        _ => tile::<D, 1, 1, false>(job, column, x, row),
                    }
                }
                row += height;
            }
            column += count;
        }
    }
}

/// The products of `C` rows of weights with `A` rows of activations. With `FETCH`, the weights behind these are fetched.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn tile<D: Dense, const C: usize, const A: usize, const FETCH: bool>(
    job: &Job<'_>,
    column: usize,
    x: &[f32],
    row: usize,
) {
    let width = job.matrix.cols;
    let weights: [*const u8; C] = std::array::from_fn(|i| job.row(column + i).as_ptr());
    let x: [*const f32; A] = std::array::from_fn(|i| x[(row + i) * width..][..width].as_ptr());
    let mut sums = [[_mm512_setzero_ps(); A]; C];
    let whole = width / 16 * 16;
    let mut next = ahead(weights[C - 1].wrapping_add(job.row_bytes()));
    // SAFETY: all rows have `width` numbers.
    unsafe {
        for k in (0..whole).step_by(16) {
            if FETCH {
                next = fetch(next, C * 16 * D::BYTES);
            }
            let x: [__m512; A] = std::array::from_fn(|i| _mm512_loadu_ps(x[i].add(k)));
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weights = D::load(weights.add(k * D::BYTES));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_fmadd_ps(weights, x, *sum);
                }
            }
        }
        if whole < width {
            let mask = u16::MAX >> (16 - (width - whole));
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weights = D::load_some(weights.add(whole * D::BYTES), mask);
                for (sum, x) in sums.iter_mut().zip(x) {
                    let x = _mm512_maskz_loadu_ps(mask, x.add(whole));
                    *sum = _mm512_mask3_fmadd_ps(weights, x, *sum, mask);
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (k, sum) in sums.iter().enumerate() {
            job.write(row + k, column + i, sum_lanes(*sum));
        }
    }
}

/// Adds partial sums in the order of [`crate::cpu::portable::sum_lanes`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sum_lanes(lanes: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
