//! The products with weights that are not quantized.

use std::arch::x86_64::*;

use crate::{
    cpu::{blocks::decode_plain, job::Job, portable::sum_lanes},
    matrix::WeightType,
};

/// A type of weights.
trait Dense {
    const KIND: WeightType;

    /// Eight weights.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions, and the weights must exist.
    unsafe fn load(p: *const u8) -> __m256;
}

struct F32;

impl Dense for F32 {
    const KIND: WeightType = WeightType::F32;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(p: *const u8) -> __m256 {
        // SAFETY: as the caller says.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
}

struct F16;

impl Dense for F16 {
    const KIND: WeightType = WeightType::F16;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(p: *const u8) -> __m256 {
        // SAFETY: as the caller says.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }
}

struct Bf16;

impl Dense for Bf16 {
    const KIND: WeightType = WeightType::Bf16;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(p: *const u8) -> __m256 {
        // SAFETY: as the caller says.
        let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(p.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
}

/// Computes the columns of a job, of a type that is not quantized.
///
/// # Safety
///
/// The processor must have the instructions of `Isa::Avx2`.
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
const BLOCK_BYTES: usize = 1 << 17;

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn product<D: Dense>(job: &Job<'_>, x: &[f32]) {
    let width = job.matrix.cols;
    let rows = x.len() / width;
    let block = (BLOCK_BYTES / 4 / width).next_multiple_of(2).max(2);
    for first in (0..rows).step_by(block) {
        let rows = first..rows.min(first + block);
        let mut column = job.columns.start;
        while column < job.columns.end {
            let wanted = if rows.len() == 1 { 4 } else { 2 };
            let count = if column + wanted <= job.columns.end { wanted } else { 1 };
            let mut row = rows.start;
            while row < rows.end {
                let height = if count < 4 && row + 2 <= rows.end { 2 } else { 1 };
                // SAFETY: these rows and columns exist.
                unsafe {
                    match (count, height) {
                        (4, _) => tile::<D, 4, 1>(job, column, x, row),
                        (2, 2) => tile::<D, 2, 2>(job, column, x, row),
                        (2, _) => tile::<D, 2, 1>(job, column, x, row),
                        (_, 2) => tile::<D, 1, 2>(job, column, x, row),
                        _ => tile::<D, 1, 1>(job, column, x, row),
                    }
                }
                row += height;
            }
            column += count;
        }
    }
}

/// The products of `C` rows of weights with `A` rows of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<D: Dense, const C: usize, const A: usize>(
    job: &Job<'_>,
    column: usize,
    x: &[f32],
    row: usize,
) {
    let width = job.matrix.cols;
    let weights: [&[u8]; C] = std::array::from_fn(|i| job.row(column + i));
    let x: [&[f32]; A] = std::array::from_fn(|i| &x[(row + i) * width..][..width]);
    let mut sums = [[[_mm256_setzero_ps(); 2]; A]; C];
    let whole = width / 16 * 16;
    let bytes = D::KIND.block_bytes();
    for k in (0..whole).step_by(16) {
        for half in 0..2 {
            let k = k + half * 8;
            // SAFETY: all rows have `width` numbers.
            unsafe {
                let x: [__m256; A] = std::array::from_fn(|i| _mm256_loadu_ps(x[i].as_ptr().add(k)));
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    let weights = D::load(weights.as_ptr().add(k * bytes));
                    for (sums, x) in sums.iter_mut().zip(x) {
                        sums[half] = _mm256_fmadd_ps(weights, x, sums[half]);
                    }
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (n, sums) in sums.iter().enumerate() {
            let mut lanes = [0.0_f32; 16];
            // SAFETY: the array has 64 bytes.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), sums[1]);
            }
            for (k, lane) in (whole..width).zip(&mut lanes) {
                *lane = decode_plain(D::KIND, weights[i], k).mul_add(x[n][k], *lane);
            }
            job.write(row + n, column + i, sum_lanes(&lanes));
        }
    }
}
