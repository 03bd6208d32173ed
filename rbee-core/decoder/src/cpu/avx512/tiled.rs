//! The product of several rows of activations with quantized weights, which are unpacked once for all of them.

use std::{arch::x86_64::*, cell::RefCell};

use super::{
    ROWS,
    sums::{add, add_minima, dots, rows_from, store, with_height},
};
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
    for (first, height) in activations.tiles() {
        // SAFETY: as the caller says.
        unsafe {
            with_height!(
                height,
                A,
                rows::<HALVES, MINIMA, A>(job, column, count, activations, first, tile)
            );
        }
    }
}

/// Multiplies a tile of `A` rows of activations with a tile of weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn rows<const HALVES: bool, const MINIMA: bool, const A: usize>(
    job: &Job<'_>,
    column: usize,
    count: usize,
    activations: &Activations,
    first: usize,
    tile: &Tile,
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
                    let activation_sums = activations.half_sums.as_ptr().add(start * 2 + unit * A);
                    let products = dots::<A, 4>(
                        weights.add(unit * 4).cast(),
                        values.add(unit * 4 * A),
                        activation_sums,
                        Some(7),
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
                let activation_sums = activations.sums.as_ptr().add(start + group * A);
                let products = dots::<A, 8>(
                    weights.add(group * 8).cast(),
                    values.add(group * 8 * A),
                    activation_sums,
                    Some(7),
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
    store(job, column, count, first, &sums);
}
