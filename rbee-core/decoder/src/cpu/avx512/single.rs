//! The product of one row of activations with weights in blocks of 256, which are unpacked in registers.

use std::arch::x86_64::*;

use super::{
    ROWS,
    blocks::rows_from,
    fetch::{ahead, fetch},
    formats::Format,
    transpose::{sum_fours, transpose, transpose_lanes},
};
use crate::cpu::{job::Job, quantize::Activations};

/// # Safety
///
/// The processor must have the instructions; the activations are one row, as wide as the matrix.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    let groups = activations.groups;
    let columns = job.columns.clone();
    for first in columns.clone().step_by(ROWS) {
        let count = ROWS.min(columns.end - first);
        let rows = rows_from(job, first, count);
        let mut next = ahead(rows[ROWS - 1].wrapping_add(job.row_bytes()));
        let mut sum = _mm512_setzero_ps();
        for (index, start) in (0..groups).step_by(8).enumerate() {
            next = fetch(next, ROWS * F::SIZE);
            // SAFETY: the 8 groups from `start` on are in every row and in the activations.
            sum = unsafe {
                let rows = rows.map(|row| row.add(index * F::SIZE));
                step::<F>(&rows, activations, start, sum)
            };
        }
        let mask = u16::MAX >> (ROWS - count);
        if let Some(bias) = job.bias {
            // SAFETY: the mask has the lanes of columns that exist; the bias has a number for each.
            sum = _mm512_add_ps(sum, unsafe {
                _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(first))
            });
        }
        // SAFETY: the mask has the lanes of columns of this part.
        unsafe { _mm512_mask_storeu_ps(job.place(0, first), mask, sum) };
    }
}

/// Adds the products of 8 groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn step<F: Format>(
    rows: &[*const u8; ROWS],
    activations: &Activations,
    start: usize,
    mut sum: __m512,
) -> __m512 {
    // SAFETY: as the caller says.
    unsafe {
        let mut scales = [_mm512_setzero_si512(); ROWS];
        let mut minima = [_mm512_setzero_si512(); ROWS];
        for (i, row) in rows.iter().enumerate() {
            let [first, second] = F::scales(*row);
            scales[i] = _mm512_castps_si512(first);
            minima[i] = _mm512_castps_si512(second);
        }
        let scales = transpose(&scales);
        if F::HALVES && F::MINIMA {
            minima = transpose(&minima);
        }
        for pair in 0..4 {
            let values =
                _mm512_loadu_si512(activations.values.as_ptr().add((start + pair * 2) * 8).cast());
            let mut quads = [_mm512_setzero_si512(); 4];
            for (quad, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
                let mut products = [values; 4];
                for (products, row) in products.iter_mut().zip(rows) {
                    *products = dot(F::pair(*row, pair), values);
                }
                *quad = sum_fours(products);
            }
            // Lane by lane: the halves of the first group, and of the second one, of all rows.
            let halves = transpose_lanes(quads);
            if F::HALVES {
                for (half, products) in halves.into_iter().enumerate() {
                    let (local, index) = (pair * 4 + half, (start + pair * 2) * 2 + half);
                    let products = centered::<F>(products, activations.half_sums[index]);
                    sum = add(sum, products, scales[local], activations.scales[index / 2]);
                    if F::MINIMA {
                        sum = add_minimum(sum, minima[local], activations.half_scaled[index]);
                    }
                }
            } else {
                for group in 0..2 {
                    let (local, index) = (pair * 2 + group, start + pair * 2 + group);
                    let products = _mm512_add_epi32(halves[group * 2], halves[group * 2 + 1]);
                    sum = add_group::<F>(sum, products, &scales, local, activations, index);
                }
            }
        }
        sum
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot(weights: __m512i, values: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, values)
}

/// Takes the weights' offset out of products, with -128 times the sum of the activations.
#[inline]
#[target_feature(enable = "avx512f")]
fn centered<F: Format>(products: __m512i, sum: i32) -> __m512i {
    match F::OFFSET {
        None => products,
        Some(bits) => _mm512_add_epi32(products, _mm512_set1_epi32(sum >> (7 - bits))),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(sum: __m512, products: __m512i, scales: __m512i, scale: f32) -> __m512 {
    let scales = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_set1_ps(scale));
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_minimum(sum: __m512, minima: __m512i, scaled: f32) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(minima), _mm512_set1_ps(scaled), sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_group<F: Format>(
    sum: __m512,
    products: __m512i,
    scales: &[__m512i; 16],
    local: usize,
    activations: &Activations,
    index: usize,
) -> __m512 {
    let products = centered::<F>(products, activations.sums[index]);
    let sum = add(sum, products, scales[local], activations.scales[index]);
    if F::MINIMA { add_minimum(sum, scales[local + 8], activations.scaled[index]) } else { sum }
}
