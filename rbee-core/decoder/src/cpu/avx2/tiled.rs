//! The product of several rows of activations with quantized weights, which are unpacked once for all of them.

use std::{arch::x86_64::*, cell::RefCell};

use super::{ROWS, dots::dots, formats::Format, single::scales, transpose::transpose};
use crate::cpu::{job::Job, quantize::Activations, tile::Tile};

thread_local! {
    /// Memory for unpacked weights, which is used again.
    static UNPACKED: RefCell<Tile> = RefCell::default();
}

/// # Safety
///
/// The processor must have the instructions; the activations are as wide as the matrix.
pub(super) unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    UNPACKED.with_borrow_mut(|tile| {
        tile.reserve(activations.groups);
        let columns = job.columns.clone();
        for first in columns.clone().step_by(ROWS) {
            let count = ROWS.min(columns.end - first);
            // Rows after the last one repeat it.
            let rows = std::array::from_fn(|i| job.row(first + i.min(count - 1)).as_ptr());
            // SAFETY: the rows exist and are as wide as the activations; the tile has room.
            unsafe {
                pack::<F>(&rows, activations.groups, tile);
                multiply::<F>(job, first, count, activations, tile);
            }
        }
    });
}

/// Unpacks rows of this many groups. The weights have the offset of their type.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pack<F: Format>(rows: &[*const u8; ROWS], groups: usize, tile: &mut Tile) {
    let vectors = if F::HALVES { 2 } else { 1 };
    for (index, start) in (0..groups).step_by(8).enumerate() {
        let count = (groups - start).min(8);
        // SAFETY: the groups from `start` on, `count` of them, are in every row. The tile has room for 8.
        unsafe {
            let rows = rows.map(|row| row.add(index * F::STEP));
            let scales = scales::<F>(&rows, count);
            for (out, vectors_of) in [(&mut tile.scales, 0), (&mut tile.minima, vectors)] {
                if vectors_of > 0 && !F::MINIMA {
                    continue;
                }
                let out = out.as_mut_ptr().cast::<__m256i>().add(index * 8 * vectors);
                for (i, vector) in scales[vectors_of..][..vectors].as_flattened().iter().enumerate()
                {
                    _mm256_store_si256(out.add(i), *vector);
                }
            }
            for local in 0..count {
                let weights = transpose(&rows.map(|row| F::group(row, local)));
                let out = tile.weights.as_mut_ptr().cast::<__m256i>().add((start + local) * 8);
                for (i, vector) in weights.iter().enumerate() {
                    _mm256_store_si256(out.add(i), *vector);
                }
            }
        }
    }
}

/// Multiplies all tiles of activations with a tile of weights.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<F: Format>(
    job: &Job<'_>,
    column: usize,
    count: usize,
    activations: &Activations,
    tile: &Tile,
) {
    for (first, height) in activations.tiles() {
        let mut row = 0;
        while row < height {
            let mut sums = [_mm256_setzero_ps(); 4];
            // SAFETY: as the caller says.
            let done = unsafe {
                match height - row {
                    1 => rows::<F, 1>(activations, first, height, row, tile, &mut sums),
                    2 | 3 => rows::<F, 2>(activations, first, height, row, tile, &mut sums),
                    _ => rows::<F, 4>(activations, first, height, row, tile, &mut sums),
                }
            };
            for (i, sums) in sums.into_iter().enumerate().take(done) {
                if count == ROWS && job.bias.is_none() {
                    // SAFETY: the columns are those of this part.
                    unsafe { _mm256_storeu_ps(job.place(first + row + i, column), sums) };
                    continue;
                }
                let mut out = [0.0; ROWS];
                // SAFETY: the array has 32 bytes.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
                for (k, sum) in out.into_iter().enumerate().take(count) {
                    job.write(first + row + i, column + k, sum);
                }
            }
            row += done;
        }
    }
}

/// Multiplies `A` rows of a tile of activations with a tile of weights, and returns `A`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<F: Format, const A: usize>(
    activations: &Activations,
    first: usize,
    height: usize,
    row: usize,
    tile: &Tile,
    out: &mut [__m256; 4],
) -> usize {
    let groups = activations.groups;
    let start = first * groups;
    let mut sums = [_mm256_setzero_ps(); A];
    // SAFETY: the activations have a tile of `height` rows here, and the tile of weights is as wide.
    unsafe {
        let weights = tile.weights.as_ptr().cast::<__m256i>();
        let values = activations.values.as_ptr().add(start * 8 + row).cast::<i32>();
        let all_scales = tile.scales.as_ptr().cast::<__m256>();
        let all_minima = tile.minima.as_ptr().cast::<__m256>();
        for group in 0..groups {
            let activation_scales = activations.scales.as_ptr().add(start + group * height + row);
            if F::HALVES {
                for unit in [group * 2, group * 2 + 1] {
                    let at = start * 2 + unit * height + row;
                    let products = dots::<F, A, 4>(
                        weights.add(unit * 4),
                        values.add(unit * 4 * height),
                        height,
                        activations.half_sums.as_ptr().add(at),
                    );
                    add(&mut sums, products, *all_scales.add(unit), activation_scales);
                    if F::MINIMA {
                        add_minima(
                            &mut sums,
                            *all_minima.add(unit),
                            activations.half_scaled.as_ptr().add(at),
                        );
                    }
                }
            } else {
                let at = start + group * height + row;
                let products = dots::<F, A, 8>(
                    weights.add(group * 8),
                    values.add(group * 8 * height),
                    height,
                    activations.sums.as_ptr().add(at),
                );
                add(&mut sums, products, *all_scales.add(group), activation_scales);
                if F::MINIMA {
                    add_minima(
                        &mut sums,
                        *all_minima.add(group),
                        activations.scaled.as_ptr().add(at),
                    );
                }
            }
        }
    }
    out[..A].copy_from_slice(&sums);
    A
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add<const A: usize>(
    sums: &mut [__m256; A],
    products: [__m256i; A],
    scales: __m256,
    activation_scales: *const f32,
) {
    for (row, (sum, products)) in sums.iter_mut().zip(products).enumerate() {
        // SAFETY: as the caller says.
        let scales = _mm256_mul_ps(scales, _mm256_set1_ps(unsafe { *activation_scales.add(row) }));
        *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scales, *sum);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_minima<const A: usize>(sums: &mut [__m256; A], minima: __m256, scaled: *const f32) {
    for (row, sum) in sums.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *sum = _mm256_fmadd_ps(minima, _mm256_set1_ps(unsafe { *scaled.add(row) }), *sum);
    }
}
