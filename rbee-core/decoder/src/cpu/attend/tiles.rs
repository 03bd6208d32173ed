//! The inner loops: queries against one tile of keys and values.
//!
//! No closure computes with [`Simd`] here: it is a function of its own, which may be compiled without the instructions.

use std::{array, ops::Range};

use crate::{
    backend::{Attention, BLOCK},
    cpu::{
        cache::Tile,
        isa::{LANES, Simd},
        math,
    },
};

/// Dimensions that share scales in a tile.
const GROUP: usize = 32;

/// Query rows that attend to the same entries of a tile.
pub(super) struct Run {
    pub(super) head_dim: usize,
    pub(super) columns: usize,
    /// Of the item's rows, which are ordered by token, then head.
    pub(super) rows: Range<usize>,
    /// The rows per token.
    pub(super) group: usize,
    pub(super) entries: Range<usize>,
}

/// The products of query rows with all keys of a tile. `q` starts with the item's first row; a token's rows are next to
/// each other, and those of the next token `width` numbers further.
#[inline(always)]
pub(super) fn scores<S: Simd, T: Tile>(
    s: S,
    tile: &T,
    run: &Run,
    q: &[f32],
    width: usize,
    out: &mut [[f32; BLOCK]],
) {
    let mut row = run.rows.start;
    while row < run.rows.end {
        row += match run.rows.end - row {
            1 => some_scores::<S, T, 1, 2>(s, tile, run, q, width, row, out),
            2 => some_scores::<S, T, 2, 2>(s, tile, run, q, width, row, out),
            3 if S::REGISTERS < 16 => some_scores::<S, T, 3, 1>(s, tile, run, q, width, row, out),
            _ if S::REGISTERS < 16 => some_scores::<S, T, 4, 1>(s, tile, run, q, width, row, out),
            3 => some_scores::<S, T, 3, 2>(s, tile, run, q, width, row, out),
            4..=7 => some_scores::<S, T, 4, 2>(s, tile, run, q, width, row, out),
            _ => some_scores::<S, T, 8, 2>(s, tile, run, q, width, row, out),
        };
    }
}

/// The scores of `R` rows, for `H` halves of the tile at a time. Returns `R`.
#[inline(always)]
fn some_scores<S: Simd, T: Tile, const R: usize, const H: usize>(
    s: S,
    tile: &T,
    run: &Run,
    q: &[f32],
    width: usize,
    row: usize,
    out: &mut [[f32; BLOCK]],
) -> usize {
    let dim = run.head_dim;
    let q: [&[f32]; R] = array::from_fn(|i| {
        let (token, head) = ((row + i) / run.group, (row + i) % run.group);
        &q[token * width + head * dim..][..dim]
    });
    for half in (0..2).step_by(H) {
        let mut sums = [[s.splat(0.0); H]; R];
        for group in 0..dim.div_ceil(GROUP) {
            let mut scales = [s.splat(0.0); H];
            for (h, scales) in scales.iter_mut().enumerate() {
                *scales = tile.key_scales(s, group, half + h);
            }
            for d in group * GROUP..dim.min((group + 1) * GROUP) {
                let mut keys = scales;
                for (h, keys) in keys.iter_mut().enumerate() {
                    *keys = tile.keys(s, d, half + h, scales[h]);
                }
                for (q, sums) in q.iter().zip(&mut sums) {
                    let q = s.splat(q[d]);
                    for (sum, keys) in sums.iter_mut().zip(keys) {
                        *sum = s.fma(q, keys, *sum);
                    }
                }
            }
        }
        for (sums, out) in sums.iter().zip(&mut out[row..row + R]) {
            let (halves, _) = out.as_chunks_mut::<LANES>();
            for (sum, out) in sums.iter().zip(&mut halves[half..]) {
                s.store(*sum, out);
            }
        }
    }
    R
}

/// Turns a row's products into weights: exponentials of the scores less the largest score so far, and 0 for entries
/// that the row doesn't attend to. Returns the factor for what was summed before.
#[inline(always)]
pub(super) fn softmax<S: Simd>(
    s: S,
    spec: &Attention,
    entries: &Range<usize>,
    scores: &mut [f32; BLOCK],
    max: &mut f32,
    sums: &mut [f32; LANES],
) -> f32 {
    let scale = s.splat(spec.scale);
    for part in scores.as_chunks_mut::<LANES>().0 {
        let mut score = s.mul(s.load(part), scale);
        if let Some(limit) = spec.softcap {
            score = math::softcap(s, score, limit);
        }
        s.store(score, part);
    }
    scores[..entries.start].fill(f32::NEG_INFINITY);
    scores[entries.end..].fill(f32::NEG_INFINITY);
    let (parts, _) = scores.as_chunks_mut::<LANES>();
    let [low, high] = parts else { return 1.0 };
    let (a, b) = (s.load(low), s.load(high));
    let (old, new) = (*max, s.largest(s.max(a, b)));
    let (largest, correction) = if old >= new {
        (old, 1.0)
    } else {
        let mut lanes = [0.0; LANES];
        s.store(math::exp(s, s.splat(old - new)), &mut lanes);
        (new, lanes[0])
    };
    *max = largest;
    let largest = s.splat(largest);
    let a = math::exp(s, s.sub(a, largest));
    let b = math::exp(s, s.sub(b, largest));
    s.store(a, low);
    s.store(b, high);
    s.store(s.fma(s.load(sums), s.splat(correction), s.add(a, b)), sums);
    correction
}

/// Multiplies what was summed before by the corrections, and adds the tile's values, each times its weight. Entries
/// that the rows do not attend to are not read: they may be of any other sequence.
#[inline(always)]
pub(super) fn values<S: Simd, T: Tile>(
    s: S,
    tile: &T,
    run: &Run,
    weights: &[[f32; BLOCK]],
    corrections: &[f32],
    out: &mut [[f32; LANES]],
) {
    let many = S::REGISTERS >= 16;
    let mut row = run.rows.start;
    while row < run.rows.end {
        let left = run.rows.end - row;
        let mut column = 0;
        let mut done = 1;
        while column < run.columns {
            let columns = run.columns - column;
            let (rows, columns) = match (left, columns, many) {
                (1, 8.., true) => {
                    some_values::<S, T, 1, 8>(s, tile, run, weights, corrections, out, row, column)
                }
                (1, 4.., _) => {
                    some_values::<S, T, 1, 4>(s, tile, run, weights, corrections, out, row, column)
                }
                (1, ..) => {
                    some_values::<S, T, 1, 1>(s, tile, run, weights, corrections, out, row, column)
                }
                (2 | 3, 4.., true) => {
                    some_values::<S, T, 2, 4>(s, tile, run, weights, corrections, out, row, column)
                }
                (2 | 3, 2.., _) => {
                    some_values::<S, T, 2, 2>(s, tile, run, weights, corrections, out, row, column)
                }
                (2 | 3, ..) => {
                    some_values::<S, T, 2, 1>(s, tile, run, weights, corrections, out, row, column)
                }
                (4.., 4.., true) => {
                    some_values::<S, T, 4, 4>(s, tile, run, weights, corrections, out, row, column)
                }
                (..) => {
                    some_values::<S, T, 4, 1>(s, tile, run, weights, corrections, out, row, column)
                }
            };
            column += columns;
            done = rows;
        }
        row += done;
    }
}

/// The values of `C` columns for `R` rows. Returns both.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn some_values<S: Simd, T: Tile, const R: usize, const C: usize>(
    s: S,
    tile: &T,
    run: &Run,
    weights: &[[f32; BLOCK]],
    corrections: &[f32],
    out: &mut [[f32; LANES]],
    row: usize,
    column: usize,
) -> (usize, usize) {
    let at = |r: usize, c: usize| (row + r) * run.columns + column + c;
    let weights: [&[f32; BLOCK]; R] = array::from_fn(|r| &weights[row + r]);
    let mut sums = [[s.splat(0.0); C]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let correction = s.splat(corrections[row + r]);
        for (c, sum) in sums.iter_mut().enumerate() {
            *sum = s.mul(s.load(&out[at(r, c)]), correction);
        }
    }
    for token in run.entries.start..run.entries.end.min(BLOCK) {
        let mut values = [s.splat(0.0); C];
        for (c, values) in values.iter_mut().enumerate() {
            *values = tile.values(s, token, column + c);
        }
        for (weights, sums) in weights.iter().zip(&mut sums) {
            let weight = s.splat(weights[token]);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = s.fma(weight, values, *sum);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (c, sum) in sums.iter().enumerate() {
            s.store(*sum, &mut out[at(r, c)]);
        }
    }
    (R, C)
}
