//! Rotary position embeddings.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::isa::{Isa, Kernel, LANES, Simd};
use crate::architecture::{Pairs, Rope};

/// Positions are divided into steps of this many: the rotation by `STEP · h + l` is that by `STEP · h` and then by `l`.
const STEP: usize = 256;

/// Sine and cosine for all positions, as products of two small tables.
///
/// The tables and their products are 64-bit floats, so that the result, rounded to 32 bits, is as good as that of the
/// exact angle, for a million positions too: the error in 64 bits is about 3e-16.
#[derive(Debug)]
pub struct Rotation {
    pairs: Pairs,
    /// The pairs of a head that are rotated.
    count: usize,
    positions: usize,
    /// Cosine and sine of positions below `STEP`, times the magnitude: `count` of each per position.
    low: Vec<f64>,
    /// Those of the multiples of `STEP`.
    high: Vec<f64>,
}

impl Rotation {
    pub(super) fn new(rope: &Rope, positions: usize) -> Result<Self> {
        let count = rope.inverse_frequencies.len();
        let table = |rows: usize, step: usize, magnitude: f64| {
            let numbers = rows.checked_mul(2 * count);
            let mut table = Vec::new();
            match numbers.map(|numbers| table.try_reserve_exact(numbers)) {
                Some(Ok(())) => {}
                _ => bail!("no memory for the rotations of {positions} positions"),
            }
            for row in 0..rows {
                // Both factors have few bits: their product is exact up to 2^53.
                let angle = |frequency: &f32| (row * step) as f64 * f64::from(*frequency);
                let angles = || rope.inverse_frequencies.iter().map(angle);
                table.extend(angles().map(|angle| libm::cos(angle) * magnitude));
                table.extend(angles().map(|angle| libm::sin(angle) * magnitude));
            }
            Ok(table)
        };
        Ok(Self {
            pairs: rope.pairs,
            count,
            positions,
            low: table(positions.min(STEP), 1, f64::from(rope.magnitude))?,
            high: table(positions.div_ceil(STEP), STEP, 1.0)?,
        })
    }

    /// Rotates each head of each row.
    pub(super) fn rotate(
        &self,
        isa: Isa,
        x: &mut [f32],
        width: usize,
        head_dim: usize,
        positions: &[u32],
    ) -> Result<()> {
        if 2 * self.count > head_dim || head_dim == 0 || !width.is_multiple_of(head_dim) {
            let rotated = 2 * self.count;
            bail!("rows of {width} numbers, heads of {head_dim}, {rotated} of them rotated");
        }
        if x.len() != positions.len() * width {
            bail!("{} positions for {} numbers in rows of {width}", positions.len(), x.len());
        }
        if let Some(position) = positions.iter().find(|p| **p as usize >= self.positions) {
            bail!("position {position} of a rotation for {} positions", self.positions);
        }
        let one = |(row, position): (&mut [f32], &u32)| {
            isa.run(Rotate { rotation: self, row, head_dim, position: *position as usize });
        };
        if positions.len() < 32 || rayon::current_num_threads() == 1 {
            x.chunks_exact_mut(width.max(1)).zip(positions).for_each(one);
        } else {
            let rows = x.par_chunks_exact_mut(width).zip(positions);
            rows.with_min_len(16).for_each(one);
        }
        Ok(())
    }
}

struct Rotate<'a> {
    rotation: &'a Rotation,
    row: &'a mut [f32],
    head_dim: usize,
    position: usize,
}

/// The pairs whose cosines and sines are computed at once.
const AT_ONCE: usize = 128;

impl Kernel for Rotate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rotation, row, head_dim, position } = self;
        let count = rotation.count;
        let entry = |table, row| -> (&[f64], &[f64]) {
            let both: &[f64] = table;
            both[2 * count * row..2 * count * (row + 1)].split_at(count)
        };
        let (high_cos, high_sin) = entry(&rotation.high, position / STEP);
        let (low_cos, low_sin) = entry(&rotation.low, position % STEP);
        for start in (0..count).step_by(AT_ONCE) {
            let n = AT_ONCE.min(count - start);
            let part = start..start + n;
            let (mut cos, mut sin) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
            let high = high_cos[part.clone()].iter().zip(&high_sin[part.clone()]);
            let low = low_cos[part.clone()].iter().zip(&low_sin[part]);
            for (i, ((hc, hs), (lc, ls))) in high.zip(low).enumerate() {
                cos[i] = (hc * lc - hs * ls) as f32;
                sin[i] = (hs * lc + hc * ls) as f32;
            }
            for head in row.chunks_exact_mut(head_dim) {
                match rotation.pairs {
                    Pairs::Halves => {
                        let (first, second) = head.split_at_mut(count);
                        let (first, second) = (&mut first[start..], &mut second[start..]);
                        halves(s, &mut first[..n], &mut second[..n], &cos, &sin);
                    }
                    Pairs::Neighbors => {
                        neighbors(s, &mut head[2 * start..2 * (start + n)], &cos, &sin);
                    }
                }
            }
        }
    }
}

/// `a·cos - b·sin` and `b·cos + a·sin`; the product with the cosine is not rounded.
#[inline(always)]
fn halves<S: Simd>(s: S, a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, a_rest) = a.as_chunks_mut::<LANES>();
    let (b, b_rest) = b.as_chunks_mut::<LANES>();
    let (cos, _) = cos.as_chunks::<LANES>();
    let (sin, _) = sin.as_chunks::<LANES>();
    let whole = a.len();
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        turn(s, a, b, cos, sin);
    }
    if !a_rest.is_empty() {
        let (mut a, mut b) = (super::rows::padded(a_rest), super::rows::padded(b_rest));
        turn(s, &mut a, &mut b, &cos[whole], &sin[whole]);
        a_rest.copy_from_slice(&a[..a_rest.len()]);
        b_rest.copy_from_slice(&b[..b_rest.len()]);
    }
}

/// Rotates sixteen pairs.
#[inline(always)]
fn turn<S: Simd>(
    s: S,
    a: &mut [f32; LANES],
    b: &mut [f32; LANES],
    cos: &[f32; LANES],
    sin: &[f32; LANES],
) {
    let (x, y) = (s.load(a), s.load(b));
    let (cos, sin) = (s.load(cos), s.load(sin));
    let minus = s.sub(s.splat(0.0), s.mul(y, sin));
    s.store(s.fma(x, cos, minus), a);
    s.store(s.fma(y, cos, s.mul(x, sin)), b);
}

/// The same for pairs that are next to each other.
#[inline(always)]
fn neighbors<S: Simd>(s: S, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let mut start = 0;
    for x in x.chunks_mut(LANES) {
        let (mut both_cos, mut both_sin) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..x.len() / 2 {
            let (cos, sin) = (cos[start + i], sin[start + i]);
            (both_cos[2 * i], both_cos[2 * i + 1]) = (cos, cos);
            (both_sin[2 * i], both_sin[2 * i + 1]) = (-sin, sin);
        }
        start += LANES / 2;
        let mut out = super::rows::padded(x);
        let values = s.load(&out);
        let crossed = s.mul(s.swap_pairs(values), s.load(&both_sin));
        s.store(s.fma(values, s.load(&both_cos), crossed), &mut out);
        x.copy_from_slice(&out[..x.len()]);
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
