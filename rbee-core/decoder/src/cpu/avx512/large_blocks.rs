//! The products with the types whose blocks have 256 weights, of 16 rows of a matrix at once.

use std::arch::x86_64::*;

use super::{
    ROWS,
    fetch::{ahead, fetch},
    formats::{Format, Transposed},
    sums::{add, add_minima, dots, rows_from, store, with_height},
};
use crate::cpu::{job::Job, quantize::Activations, tile::Tile};

/// The groups of a block.
const GROUPS: usize = 8;

/// The product with at most 8 rows of activations: the weights stay in registers.
///
/// # Safety
///
/// The processor must have the instructions; the activations are as wide as the matrix.
pub(super) unsafe fn product<F: Format>(job: &Job<'_>, activations: &Activations) {
    // SAFETY: as the caller says.
    unsafe { with_height!(activations.rows, A, few_rows::<F, A>(job, activations)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn few_rows<F: Format, const A: usize>(job: &Job<'_>, activations: &Activations) {
    let columns = job.columns.clone();
    let mut block = Transposed::empty();
    for first in columns.clone().step_by(ROWS) {
        let count = ROWS.min(columns.end - first);
        let rows = rows_from(job, first, count);
        let mut next = ahead(rows[ROWS - 1].wrapping_add(job.row_bytes()));
        let mut sums = [_mm512_setzero_ps(); A];
        for index in 0..activations.groups / GROUPS {
            // SAFETY: the rows have all groups of the activations, which are one tile of `A` rows.
            unsafe {
                F::open(&rows, index * F::SIZE, &mut block);
                for local in 0..GROUPS {
                    next = fetch(next, ROWS * F::SIZE / GROUPS);
                    add_group::<F, A>(
                        &block,
                        local,
                        activations,
                        index * GROUPS + local,
                        &mut sums,
                    );
                }
            }
        }
        store(job, first, count, 0, &sums);
    }
}

/// Adds the products of a group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn add_group<F: Format, const A: usize>(
    block: &Transposed,
    local: usize,
    activations: &Activations,
    group: usize,
    sums: &mut [__m512; A],
) {
    // SAFETY: as the caller says.
    unsafe {
        let weights = F::weights(block, local);
        let values = activations.values.as_ptr().add(group * 8 * A).cast::<i32>();
        let scales = activations.scales.as_ptr().add(group * A);
        if F::HALVES {
            for half in 0..2 {
                let (unit, at) = (local * 2 + half, (group * 2 + half) * A);
                let products = dots::<A, 4>(
                    weights.as_ptr().add(half * 4),
                    values.add(half * 4 * A),
                    activations.half_sums.as_ptr().add(at),
                    F::OFFSET,
                );
                add(sums, products, block.scales[unit], scales);
                if F::MINIMA {
                    let scaled = activations.half_scaled.as_ptr().add(at);
                    add_minima(sums, block.minima[unit], scaled);
                }
            }
        } else {
            let activation_sums = activations.sums.as_ptr().add(group * A);
            let products = dots::<A, 8>(weights.as_ptr(), values, activation_sums, F::OFFSET);
            add(sums, products, block.scales[local], scales);
            if F::MINIMA {
                let scaled = activations.scaled.as_ptr().add(group * A);
                add_minima(sums, block.minima[local], scaled);
            }
        }
    }
}

/// Unpacks 16 rows of this many groups. The weights are unsigned, 128 too large.
///
/// # Safety
///
/// The processor must have the instructions; every row has this many groups; the tile has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack<F: Format>(rows: &[*const u8; ROWS], groups: usize, tile: &mut Tile) {
    let offset = 128_u8 - F::OFFSET.map_or(0, |bits| 1 << bits);
    let offset = _mm512_set1_epi8(offset as i8);
    let units = if F::HALVES { 16 } else { 8 };
    let mut block = Transposed::empty();
    let mut next = ahead(rows[ROWS - 1].wrapping_add(groups / GROUPS * F::SIZE));
    for index in 0..groups / GROUPS {
        // SAFETY: every row has the block, and the tile has room for it.
        unsafe {
            F::open(rows, index * F::SIZE, &mut block);
            for group in 0..GROUPS {
                next = fetch(next, ROWS * F::SIZE / GROUPS);
                let out = tile.weights.as_mut_ptr().add((index * GROUPS + group) * 8);
                for (i, weights) in F::weights(&block, group).into_iter().enumerate() {
                    _mm512_store_si512(out.add(i).cast(), _mm512_add_epi8(weights, offset));
                }
            }
            for unit in 0..units {
                let at = index * units + unit;
                _mm512_store_ps(tile.scales.as_mut_ptr().add(at).cast(), block.scales[unit]);
                if F::MINIMA {
                    _mm512_store_ps(tile.minima.as_mut_ptr().add(at).cast(), block.minima[unit]);
                }
            }
        }
    }
}
