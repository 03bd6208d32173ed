//! Rows of floats, and the operations on each row or each number.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::{
    isa::{Isa, Kernel, LANES, Simd},
    math,
};
use crate::architecture::Activation;

/// Rows of equal width, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub(super) data: Vec<f32>,
    pub(super) width: usize,
}

impl Rows {
    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.data.len().checked_div(self.width).unwrap_or(0)
    }

    /// Takes on a shape. The numbers are those that the memory had, to be overwritten.
    pub(super) fn reshape(&mut self, rows: usize, width: usize) -> Result<&mut [f32]> {
        let Some(numbers) = rows.checked_mul(width) else {
            bail!("{rows} rows of {width} numbers exceed the address space");
        };
        let more = numbers.saturating_sub(self.data.len());
        if let Err(fault) = self.data.try_reserve(more) {
            bail!("no memory for {rows} rows of {width} numbers: {fault}");
        }
        self.data.resize(numbers, 0.0);
        self.width = width;
        Ok(&mut self.data)
    }
}

/// The numbers that one thread takes at a time. With fewer than two of these, the calling thread computes alone.
const GRAIN: usize = 16 * 1024;

/// Splits `x` and `y`, of equal length, among threads, in multiples of `unit`.
fn split(x: &mut [f32], y: &[f32], unit: usize, f: impl Fn(&mut [f32], &[f32]) + Sync) {
    if x.len() < 2 * GRAIN || rayon::current_num_threads() == 1 {
        return f(x, y);
    }
    let grain = GRAIN.next_multiple_of(unit);
    x.par_chunks_mut(grain).zip(y.par_chunks(grain)).for_each(|(x, y)| f(x, y));
}

/// Sets each `x` to an expression of `x` and `y`.
///
/// It is a macro because a closure is a function of its own, which may be compiled without the instructions.
macro_rules! zip {
    ($s:ident, $x:expr, $y:expr, |$a:ident, $b:ident| $value:expr) => {{
        let (x, x_rest) = $x.as_chunks_mut::<LANES>();
        let (y, y_rest) = $y.as_chunks::<LANES>();
        for (x, y) in x.iter_mut().zip(y) {
            let ($a, $b) = ($s.load(x), $s.load(y));
            $s.store($value, x);
        }
        if !x_rest.is_empty() {
            let (mut x, y) = (padded(x_rest), padded(y_rest));
            let ($a, $b) = ($s.load(&x), $s.load(&y));
            $s.store($value, &mut x);
            x_rest.copy_from_slice(&x[..x_rest.len()]);
        }
    }};
}

/// Fewer than sixteen numbers, with zeros behind them.
#[inline(always)]
pub(super) fn padded(x: &[f32]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    out[..x.len()].copy_from_slice(x);
    out
}

/// `gate = activation(gate) * up`.
pub(super) fn gate(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    split(gate, up, LANES, |gate, up| isa.run(Gate { activation, gate, up }));
}

struct Gate<'a> {
    activation: Activation,
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { activation, gate, up } = self;
        match activation {
            Activation::Silu => zip!(s, gate, up, |g, u| s.mul(math::silu(s, g), u)),
            Activation::GeluTanh => zip!(s, gate, up, |g, u| s.mul(math::gelu_tanh(s, g), u)),
            Activation::Gelu => zip!(s, gate, up, |g, u| s.mul(math::gelu(s, g), u)),
        }
    }
}

/// `x += y`.
pub(super) fn add(isa: Isa, x: &mut [f32], y: &[f32]) {
    split(x, y, LANES, |x, y| isa.run(AddScaled { x, weight: 1.0, y }));
}

/// `x += weight · y`, rounded once.
pub(super) fn add_scaled(isa: Isa, x: &mut [f32], weight: f32, y: &[f32]) {
    isa.run(AddScaled { x, weight, y });
}

struct AddScaled<'a> {
    x: &'a mut [f32],
    weight: f32,
    y: &'a [f32],
}

impl Kernel for AddScaled<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let weight = s.splat(self.weight);
        zip!(s, self.x, self.y, |x, y| s.fma(weight, y, x));
    }
}

/// The root-mean-square norm of each part of `x` that is as wide as `weight`.
///
/// The squares are summed in sixteen lanes: lane `j` has the numbers `k` with `k % 16 == j`, in their order.
pub(super) fn norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    split(out, x, weight.len(), |out, x| isa.run(Norm { x, weight, eps, out }));
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        let parts = self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width));
        for (x, out) in parts {
            let (chunks, rest) = x.as_chunks::<LANES>();
            let mut squares = s.splat(0.0);
            for chunk in chunks {
                let chunk = s.load(chunk);
                squares = s.fma(chunk, chunk, squares);
            }
            let rest = s.load(&padded(rest));
            squares = s.fma(rest, rest, squares);
            let inverse = 1.0 / (s.sum(squares) / width as f32 + self.eps).sqrt();
            let inverse = s.splat(inverse);
            out.copy_from_slice(x);
            zip!(s, out, self.weight, |x, weight| s.mul(s.mul(x, inverse), weight));
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
