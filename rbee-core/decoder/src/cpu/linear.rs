//! The products of activations with weight matrices.
#![allow(unsafe_code)]

use std::cell::RefCell;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use super::{
    blocks::{decode_group, decode_plain, quantized},
    isa::Isa,
    job::{Job, WholeProduct},
    portable,
    quantize::Activations,
};
use crate::matrix::StoredMatrix;

/// A product of rows with a matrix.
#[derive(Debug)]
pub(super) struct LinearProduct<'a> {
    /// The matrix; its `cols` is the width of the rows.
    pub(super) matrix: &'a StoredMatrix,
    /// Added to every row of outputs: `matrix.rows` numbers.
    pub(super) bias: Option<&'a [f32]>,
    /// The outputs: for every row of activations, `matrix.rows` numbers.
    pub(super) out: &'a mut [f32],
}

/// The columns of a unit of work: as many rows of a matrix as the widest kernel computes together.
const UNIT: usize = 16;

/// The multiplications that a thread must have to do, or it is not worth its wake-up.
const WORTH_A_THREAD: usize = 1 << 17;

thread_local! {
    /// Memory for quantized activations, which is used again.
    static ACTIVATIONS: RefCell<Activations> = RefCell::default();
}

/// Computes products of the same rows with several matrices. `x` is rows of `width` numbers, one after the other.
///
/// An output depends on its row, its row of the matrix and its bias alone, bit for bit: not on other rows, the number of
/// threads or the instruction set.
///
/// # Panics
///
/// If a length is wrong, or a matrix does not have all its bytes.
pub(super) fn linear(isa: Isa, x: &[f32], width: usize, products: &mut [LinearProduct<'_>]) {
    let rows = x.len().checked_div(width).unwrap_or(0);
    assert_eq!(rows * width, x.len(), "activations must be whole rows");
    let wholes: Vec<_> = products
        .iter_mut()
        .map(|product| {
            assert_eq!(product.matrix.cols, width, "the width of rows and matrix");
            WholeProduct::new(product.matrix, product.bias, product.out, rows)
        })
        .collect();
    if rows == 0 {
        return;
    }
    // Taken, not borrowed: a thread that waits for others may run another task, which may come here too.
    let mut activations = ACTIVATIONS.take();
    if wholes.iter().any(|whole| quantized(whole.matrix.kind)) {
        activations.resize(rows, width);
        fill(isa, &mut activations, x);
    }
    run(isa, &wholes, x, &activations);
    ACTIVATIONS.set(activations);
}

/// Divides products among threads.
fn run(isa: Isa, wholes: &[WholeProduct<'_>], x: &[f32], activations: &Activations) {
    let units: usize = wholes.iter().map(|whole| whole.matrix.rows.div_ceil(UNIT)).sum();
    let threads =
        rayon::current_num_threads().min(units).min(units * UNIT * x.len() / WORTH_A_THREAD);
    if threads <= 1 {
        for whole in wholes {
            // SAFETY: there is no other part.
            let job = unsafe { whole.part(0..whole.matrix.rows) };
            compute(isa, &job, x, activations);
        }
        return;
    }
    // With many rows a part is long, and threads may be of different speed: then there are more parts than threads.
    let parts = units.min(if x.len() > 16 * wholes[0].matrix.cols { threads * 4 } else { threads });
    (0..parts).into_par_iter().for_each(|part| {
        let range = units * part / parts..units * (part + 1) / parts;
        let mut first = 0;
        for whole in wholes {
            let own = whole.matrix.rows.div_ceil(UNIT);
            let start = range.start.max(first) - first;
            let end = range.end.min(first + own).saturating_sub(first);
            if start < end {
                let columns = start * UNIT..(end * UNIT).min(whole.matrix.rows);
                // SAFETY: the parts are disjoint ranges of units.
                let job = unsafe { whole.part(columns) };
                compute(isa, &job, x, activations);
            }
            first += own;
        }
    });
}

/// Quantizes activations.
fn fill(isa: Isa, activations: &mut Activations, x: &[f32]) {
    match isa {
        Isa::Portable => activations.fill(x),
        // SAFETY: the value says that the processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::fill(activations, x) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::fill(activations, x) },
    }
}

/// Computes a job on this thread.
fn compute(isa: Isa, job: &Job<'_>, x: &[f32], activations: &Activations) {
    if job.columns.is_empty() || job.matrix.cols == 0 {
        return;
    }
    match (isa, quantized(job.matrix.kind)) {
        (Isa::Portable, true) => portable::quantized_product(job, activations),
        (Isa::Portable, false) => portable::plain_product(job, x),
        // SAFETY: the value says that the processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, true) => unsafe { avx2::quantized_product(job, activations) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, false) => unsafe { avx2::plain_product(job, x) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, true) => unsafe { avx512::quantized_product(job, activations) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, false) => unsafe { avx512::plain_product(job, x) },
    }
}

/// Decodes a row of a matrix, times `scale`.
///
/// # Panics
///
/// If there is no such row, or `out` is not as wide.
pub(super) fn decode_row(matrix: &StoredMatrix, row: usize, scale: f32, out: &mut [f32]) {
    assert_eq!(matrix.cols, out.len(), "the width of a row");
    let bytes = matrix.kind.bytes(matrix.cols);
    let row = &matrix.bytes[row * bytes..][..bytes];
    if quantized(matrix.kind) {
        for (index, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let group = decode_group(matrix.kind, row, index);
            for (i, (out, weight)) in out.iter_mut().zip(group.weights).enumerate() {
                *out =
                    f32::from(weight).mul_add(group.scales[i / 16], group.minima[i / 16]) * scale;
            }
        }
    } else {
        for (index, out) in out.iter_mut().enumerate() {
            *out = decode_plain(matrix.kind, row, index) * scale;
        }
    }
}
