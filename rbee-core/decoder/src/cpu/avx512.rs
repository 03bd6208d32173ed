//! The products with AVX-512 and its VNNI instructions.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

mod blocks;
mod dense;
mod fetch;
mod formats;
mod large_blocks;
mod sums;
mod tiled;
mod transpose;

use self::{
    blocks::{Block, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0},
    formats::{Format, Q2K, Q3K, Q4K, Q5K, Q6K},
};
use super::{
    job::Job,
    quantize::{Activations, TILE},
};
use crate::matrix::WeightType;

pub(super) use self::dense::plain_product;

/// The rows of a matrix that are computed together.
const ROWS: usize = 16;

/// Quantizes activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
pub(super) fn fill(activations: &mut Activations, x: &[f32]) {
    activations.fill(x);
}

/// Computes the columns of a job, of a quantized type.
///
/// # Safety
///
/// The processor must have the instructions of [`super::isa::Isa::Avx512`].
pub(super) unsafe fn quantized_product(job: &Job<'_>, activations: &Activations) {
    // SAFETY: as the caller says.
    unsafe {
        match job.matrix.kind {
            WeightType::Q4_0 => blocks::<Q4_0>(job, activations),
            WeightType::Q4_1 => blocks::<Q4_1>(job, activations),
            WeightType::Q5_0 => blocks::<Q5_0>(job, activations),
            WeightType::Q5_1 => blocks::<Q5_1>(job, activations),
            WeightType::Q8_0 => blocks::<Q8_0>(job, activations),
            WeightType::Q2K => product::<Q2K>(job, activations),
            WeightType::Q3K => product::<Q3K>(job, activations),
            WeightType::Q4K => product::<Q4K>(job, activations),
            WeightType::Q5K => product::<Q5K>(job, activations),
            WeightType::Q6K => product::<Q6K>(job, activations),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("not quantized"),
        }
    }
}

/// A few rows of activations go straight through the weights; for more, weights are unpacked once.
unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    use large_blocks::pack;
    assert_eq!(activations.groups * 32, job.matrix.cols, "the width of rows and matrix");
    // SAFETY: as the caller says.
    unsafe {
        match (activations.rows, F::HALVES, F::MINIMA) {
            (..=TILE, ..) => large_blocks::product::<F>(job, activations),
            (_, true, true) => tiled::product::<true, true>(job, activations, pack::<F>),
            (_, true, false) => tiled::product::<true, false>(job, activations, pack::<F>),
            (_, false, _) => tiled::product::<false, true>(job, activations, pack::<F>),
        }
    }
}

/// The same for blocks of 32 weights.
unsafe fn blocks<B: Block>(job: &Job<'_>, activations: &Activations) {
    assert_eq!(activations.groups * 32, job.matrix.cols, "the width of rows and matrix");
    // SAFETY: as the caller says.
    unsafe {
        match (activations.rows, B::MINIMA) {
            (..=TILE, _) => blocks::product::<B>(job, activations),
            (_, true) => tiled::product::<false, true>(job, activations, blocks::pack::<B>),
            (_, false) => tiled::product::<false, false>(job, activations, blocks::pack::<B>),
        }
    }
}
