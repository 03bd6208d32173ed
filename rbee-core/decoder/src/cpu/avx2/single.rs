//! The product of one row of activations with quantized weights, which are read once and unpacked in registers.

use std::arch::x86_64::*;

use super::{
    ROWS,
    dots::dot,
    formats::Format,
    transpose::{sum_fours, transpose},
};
use crate::cpu::{job::Job, quantize::Activations};

/// The bytes of a cache line.
const LINE: usize = 64;

/// # Safety
///
/// The processor must have the instructions; the activations are one row, as wide as the matrix.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    let groups = activations.groups;
    let columns = job.columns.clone();
    for first in columns.clone().step_by(ROWS) {
        let count = ROWS.min(columns.end - first);
        // Rows after the last one repeat it.
        let rows: [*const u8; ROWS] =
            std::array::from_fn(|i| job.row(first + i.min(count - 1)).as_ptr());
        // While these rows are computed, the next ones are fetched, into the second-level cache, which can wait for more
        // lines at once than the first-level one. They need not exist: a prefetch reads nothing.
        let mut next = rows[0].wrapping_add(ROWS * job.row_bytes());
        let mut sums = _mm256_setzero_ps();
        for (index, start) in (0..groups).step_by(8).enumerate() {
            for _ in 0..(ROWS * F::STEP).div_ceil(LINE) {
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(LINE);
            }
            let count = (groups - start).min(8);
            // SAFETY: the groups from `start` on, `count` of them, are in every row and in the activations.
            sums = unsafe {
                let rows = rows.map(|row| row.add(index * F::STEP));
                step::<F>(&rows, activations, start, count, sums)
            };
        }
        let mut out = [0.0; ROWS];
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
        for (i, sum) in out.into_iter().enumerate().take(count) {
            job.write(0, first + i, sum);
        }
    }
}

/// The scales and minima of a step, transposed: as [`Format::scales`] has them, a vector for each.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn scales<F: Format>(
    rows: &[*const u8; ROWS],
    count: usize,
) -> [[__m256i; 8]; 4] {
    let mut scales = [[_mm256_setzero_si256(); 8]; 4];
    for (i, row) in rows.iter().enumerate() {
        // SAFETY: as the caller says.
        let row = unsafe { F::scales(*row, count) };
        for (scales, row) in scales.iter_mut().zip(row) {
            scales[i] = _mm256_castps_si256(row);
        }
    }
    let used = if F::HALVES { 2 } else { 1 } * if F::MINIMA { 2 } else { 1 };
    for scales in &mut scales[..used] {
        *scales = transpose(scales);
    }
    scales
}

/// Adds the products of up to 8 groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn step<F: Format>(
    rows: &[*const u8; ROWS],
    activations: &Activations,
    start: usize,
    count: usize,
    mut sums: __m256,
) -> __m256 {
    // SAFETY: as the caller says.
    unsafe {
        let scales = scales::<F>(rows, count);
        for local in 0..count {
            let group = start + local;
            let values = _mm256_loadu_si256(activations.values.as_ptr().add(group * 8).cast());
            let mut quads = [_mm256_setzero_si256(); 2];
            for (quad, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
                *quad = sum_fours(rows.map(|row| dot::<F>(F::group(row, local), values)));
            }
            let halves = [
                _mm256_permute2x128_si256::<0x20>(quads[0], quads[1]),
                _mm256_permute2x128_si256::<0x31>(quads[0], quads[1]),
            ];
            let scale = activations.scales[group];
            if F::HALVES {
                for (half, products) in halves.into_iter().enumerate() {
                    let (local, unit) = (local * 2 + half, group * 2 + half);
                    let products = centered::<F>(products, activations.half_sums[unit]);
                    sums = add(sums, products, scales[local / 8][local % 8], scale);
                    if F::MINIMA {
                        sums = add_minimum(
                            sums,
                            scales[2 + local / 8][local % 8],
                            activations.half_scaled[unit],
                        );
                    }
                }
            } else {
                let products = _mm256_add_epi32(halves[0], halves[1]);
                let products = centered::<F>(products, activations.sums[group]);
                sums = add(sums, products, scales[0][local], scale);
                if F::MINIMA {
                    sums = add_minimum(sums, scales[1][local], activations.scaled[group]);
                }
            }
        }
        sums
    }
}

/// Takes the weights' offset out of products, with -128 times the sum of the activations.
#[inline]
#[target_feature(enable = "avx2")]
fn centered<F: Format>(products: __m256i, sum: i32) -> __m256i {
    match F::OFFSET {
        None => products,
        Some(bits) => _mm256_add_epi32(products, _mm256_set1_epi32(sum >> (7 - bits))),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add(sums: __m256, products: __m256i, scales: __m256i, scale: f32) -> __m256 {
    let scales = _mm256_mul_ps(_mm256_castsi256_ps(scales), _mm256_set1_ps(scale));
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scales, sums)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_minimum(sums: __m256, minima: __m256i, scaled: f32) -> __m256 {
    _mm256_fmadd_ps(_mm256_castsi256_ps(minima), _mm256_set1_ps(scaled), sums)
}
