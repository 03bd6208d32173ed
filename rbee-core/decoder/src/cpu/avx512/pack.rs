//! Unpacks 16 rows of weights in blocks of 256 into a tile.

use std::arch::x86_64::*;

use super::{
    ROWS,
    fetch::{ahead, fetch},
    formats::Format,
    transpose::transpose,
};
use crate::cpu::tile::Tile;

/// Unpacks rows of this many groups. The weights are unsigned, 128 too large.
///
/// # Safety
///
/// The processor must have the instructions; every row has this many groups; the tile has room for them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack<F: Format>(rows: &[*const u8; ROWS], groups: usize, tile: &mut Tile) {
    let offset = 128_u8 - F::OFFSET.map_or(0, |bits| 1 << bits);
    let offset = _mm512_set1_epi8(offset as i8);
    let units = if F::HALVES { 16 } else { 8 };
    let mut next = ahead(rows[ROWS - 1].wrapping_add(groups / 8 * F::SIZE));
    for (index, start) in (0..groups).step_by(8).enumerate() {
        next = fetch(next, ROWS * F::SIZE);
        // SAFETY: the 8 groups from `start` on are in every row, and the tile has room for them.
        unsafe {
            let rows = rows.map(|row| row.add(index * F::SIZE));
            let mut scales = [_mm512_setzero_si512(); ROWS];
            let mut minima = [_mm512_setzero_si512(); ROWS];
            for (i, row) in rows.iter().enumerate() {
                let [first, second] = F::scales(*row);
                scales[i] = _mm512_castps_si512(first);
                minima[i] = _mm512_castps_si512(second);
            }
            let scales = transpose(&scales);
            let out = tile.scales.as_mut_ptr().add(index * units);
            for (i, vector) in scales.iter().take(units).enumerate() {
                _mm512_store_si512(out.add(i).cast(), *vector);
            }
            if F::MINIMA {
                let minima = if F::HALVES { transpose(&minima) } else { scales };
                let out = tile.minima.as_mut_ptr().add(index * units);
                for (i, vector) in minima.iter().skip(16 - units).enumerate() {
                    _mm512_store_si512(out.add(i).cast(), *vector);
                }
            }
            for pair in 0..4 {
                let mut weights = [_mm512_setzero_si512(); ROWS];
                for (i, row) in rows.iter().enumerate() {
                    weights[i] = _mm512_add_epi8(F::pair(*row, pair), offset);
                }
                let weights = transpose(&weights);
                let out = tile.weights.as_mut_ptr().add((start + pair * 2) * 8);
                for (i, vector) in weights.iter().enumerate() {
                    _mm512_store_si512(out.add(i).cast(), *vector);
                }
            }
        }
    }
}
