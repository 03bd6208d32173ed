//! The products with AVX-512 and its VNNI instructions.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

mod dense;
mod formats;
mod pack;
mod single;
mod tiled;
mod transpose;

use self::formats::{Format, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
use super::{job::Job, quantize::Activations};
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
            WeightType::Q4_0 => product::<Q4_0>(job, activations),
            WeightType::Q4_1 => product::<Q4_1>(job, activations),
            WeightType::Q5_0 => product::<Q5_0>(job, activations),
            WeightType::Q5_1 => product::<Q5_1>(job, activations),
            WeightType::Q8_0 => product::<Q8_0>(job, activations),
            WeightType::Q2K => product::<Q2K>(job, activations),
            WeightType::Q3K => product::<Q3K>(job, activations),
            WeightType::Q4K => product::<Q4K>(job, activations),
            WeightType::Q5K => product::<Q5K>(job, activations),
            WeightType::Q6K => product::<Q6K>(job, activations),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("not quantized"),
        }
    }
}

/// One row of activations goes straight through the weights; for more, weights are unpacked once.
unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    assert_eq!(activations.groups * 32, job.matrix.cols, "the width of rows and matrix");
    // SAFETY: as the caller says.
    unsafe {
        if activations.rows == 1 {
            single::product::<F>(job, activations);
        } else {
            tiled::product::<F>(job, activations);
        }
    }
}
