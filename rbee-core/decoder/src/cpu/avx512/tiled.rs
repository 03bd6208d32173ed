//! The product of several rows of activations with quantized weights, which are unpacked once for all of them.

use std::{arch::x86_64::*, cell::RefCell};

use super::{ROWS, blocks::rows_from};
use crate::cpu::{job::Job, quantize::Activations, tile::Tile};

thread_local! {
    /// Memory for unpacked weights, which is used again.
    static UNPACKED: RefCell<Tile> = RefCell::default();
}

/// # Safety
///
/// The processor must have the instructions; the activations are as wide as the matrix; `pack` unpacks its type.
pub(super) unsafe fn product<const HALVES: bool, const MINIMA: bool>(
    job: &Job<'_>,
    activations: &Activations,
    pack: unsafe fn(&[*const u8; ROWS], usize, &mut Tile),
) {
    UNPACKED.with_borrow_mut(|tile| {
        tile.reserve(activations.groups);
        let columns = job.columns.clone();
        for first in columns.clone().step_by(ROWS) {
            let count = ROWS.min(columns.end - first);
            let rows = rows_from(job, first, count);
            // SAFETY: the rows exist and are as wide as the activations; the tile has room.
            unsafe {
                pack(&rows, activations.groups, tile);
                multiply::<HALVES, MINIMA>(job, first, count, activations, tile);
            }
        }
    });
}

/// Multiplies all tiles of activations with a tile of weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn multiply<const HALVES: bool, const MINIMA: bool>(
    job: &Job<'_>,
    column: usize,
    count: usize,
    activations: &Activations,
    tile: &Tile,
) {
    let mask = u16::MAX >> (ROWS - count);
    let bias = job.bias.map(|bias| {
        // SAFETY: the mask has the lanes of columns that exist; the bias has a number for each.
        unsafe { _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(column)) }
    });
    for (first, height) in activations.tiles() {
        let mut sums = [_mm512_setzero_ps(); 8];
        // SAFETY: as the caller says.
        unsafe {
            match height {
                1 => rows::<HALVES, MINIMA, 1>(activations, first, tile, &mut sums),
                2 => rows::<HALVES, MINIMA, 2>(activations, first, tile, &mut sums),
                3 => rows::<HALVES, MINIMA, 3>(activations, first, tile, &mut sums),
                4 => rows::<HALVES, MINIMA, 4>(activations, first, tile, &mut sums),
                5 => rows::<HALVES, MINIMA, 5>(activations, first, tile, &mut sums),
                6 => rows::<HALVES, MINIMA, 6>(activations, first, tile, &mut sums),
                7 => rows::<HALVES, MINIMA, 7>(activations, first, tile, &mut sums),
                _ => rows::<HALVES, MINIMA, 8>(activations, first, tile, &mut sums),
            }
        }
        for (row, sum) in sums.iter().take(height).enumerate() {
            let sum = bias.map_or(*sum, |bias| _mm512_add_ps(*sum, bias));
            // SAFETY: the mask has the lanes of columns of this part.
            unsafe { _mm512_mask_storeu_ps(job.place(first + row, column), mask, sum) };
        }
    }
}

/// Multiplies a tile of `A` rows of activations with a tile of weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn rows<const HALVES: bool, const MINIMA: bool, const A: usize>(
    activations: &Activations,
    first: usize,
    tile: &Tile,
    out: &mut [__m512; 8],
) {
    let start = first * activations.groups;
    let mut sums = [_mm512_setzero_ps(); A];
    // SAFETY: the activations have a tile of `A` rows here, and the tile of weights is as wide.
    unsafe {
        let weights = tile.weights.as_ptr();
        let values = activations.values.as_ptr().add(start * 8).cast::<i32>();
        let scales = activations.scales.as_ptr().add(start);
        for group in 0..activations.groups {
            let activation_scales = scales.add(group * A);
            if HALVES {
                for unit in [group * 2, group * 2 + 1] {
                    let corrections = activations.half_sums.as_ptr().add(start * 2 + unit * A);
                    let products = dots::<A, 4>(
                        weights.add(unit * 4).cast(),
                        values.add(unit * 4 * A),
                        corrections,
                    );
                    let scales = _mm512_load_ps(tile.scales.as_ptr().add(unit).cast());
                    add(&mut sums, products, scales, activation_scales);
                    if MINIMA {
                        let minima = _mm512_load_ps(tile.minima.as_ptr().add(unit).cast());
                        add_minima(
                            &mut sums,
                            minima,
                            activations.half_scaled.as_ptr().add(start * 2 + unit * A),
                        );
                    }
                }
            } else {
                let corrections = activations.sums.as_ptr().add(start + group * A);
                let products = dots::<A, 8>(
                    weights.add(group * 8).cast(),
                    values.add(group * 8 * A),
                    corrections,
                );
                let scales = _mm512_load_ps(tile.scales.as_ptr().add(group).cast());
                add(&mut sums, products, scales, activation_scales);
                if MINIMA {
                    let minima = _mm512_load_ps(tile.minima.as_ptr().add(group).cast());
                    add_minima(
                        &mut sums,
                        minima,
                        activations.scaled.as_ptr().add(start + group * A),
                    );
                }
            }
        }
    }
    out[..A].copy_from_slice(&sums);
}

/// The integer products of `4·N` columns.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dots<const A: usize, const N: usize>(
    weights: *const __m512i,
    values: *const i32,
    corrections: *const i32,
) -> [__m512i; A] {
    // SAFETY: as the caller says.
    unsafe {
        let mut products = [_mm512_setzero_si512(); A];
        for (row, products) in products.iter_mut().enumerate() {
            *products = _mm512_set1_epi32(*corrections.add(row));
        }
        for i in 0..N {
            let weights = _mm512_load_si512(weights.add(i));
            for (row, products) in products.iter_mut().enumerate() {
                let values = _mm512_set1_epi32(*values.add(i * A + row));
                *products = _mm512_dpbusd_epi32(*products, weights, values);
            }
        }
        products
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add<const A: usize>(
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

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_minima<const A: usize>(sums: &mut [__m512; A], minima: __m512, scaled: *const f32) {
    for (row, sum) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *sum = _mm512_fmadd_ps(minima, _mm512_set1_ps(unsafe { *scaled.add(row) }), *sum);
    }
}
