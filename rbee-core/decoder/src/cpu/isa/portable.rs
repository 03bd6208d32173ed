//! The definition of all operations, in plain Rust.

use std::array;

use super::{LANES, Simd};

/// Plain Rust, for any machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

type F = [f32; LANES];

#[inline(always)]
fn map(a: F, f: impl Fn(f32) -> f32) -> F {
    array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn tree(x: F, f: impl Fn(f32, f32) -> f32) -> f32 {
    let a: [f32; 8] = array::from_fn(|i| f(x[i], x[i + 8]));
    let b: [f32; 4] = array::from_fn(|i| f(a[i], a[i + 4]));
    let c: [f32; 2] = array::from_fn(|i| f(b[i], b[i + 2]));
    f(c[0], c[1])
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Simd for Portable {
    type F = F;
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        *x
    }
    #[inline(always)]
    fn store(self, x: F, out: &mut [f32; LANES]) {
        *out = x;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> F {
        x.map(f16_value)
    }
    #[inline(always)]
    fn store_f16(self, x: F, out: &mut [u16; LANES]) {
        *out = x.map(f16_bits);
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> F {
        x.map(f32::from)
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, larger)
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn if_less(self, a: F, b: F, x: F, y: F) -> F {
        array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn abs(self, x: F) -> F {
        map(x, f32::abs)
    }
    #[inline(always)]
    fn with_sign(self, x: F, sign: F) -> F {
        zip(x, sign, f32::copysign)
    }
    #[inline(always)]
    fn round(self, x: F) -> F {
        map(x, f32::round_ties_even)
    }
    #[inline(always)]
    fn scale(self, x: F, n: F) -> F {
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        zip(x, n, |x, n| {
            let n = n as i32;
            let half = n >> 1;
            x * power(half) * power(n - half)
        })
    }
    #[inline(always)]
    fn swap_pairs(self, x: F) -> F {
        array::from_fn(|i| x[i ^ 1])
    }
    #[inline(always)]
    fn sum(self, x: F) -> f32 {
        tree(x, |a, b| a + b)
    }
    #[inline(always)]
    fn largest(self, x: F) -> f32 {
        tree(x, larger)
    }
}

/// The value of a half-precision float.
#[inline]
pub(in super::super) fn f16_value(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        // The fraction counts steps of 2^-24.
        0 => {
            let value = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(value.to_bits() | sign)
        }
        0x1f if fraction != 0 => f32::from_bits(sign | 0x7fc0_0000 | fraction << 13),
        0x1f => f32::from_bits(sign | 0x7f80_0000),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The nearest half-precision float, ties to even.
#[inline]
pub(in super::super) fn f16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00 | (magnitude >> 13 & 0x3ff)
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // A carry into the exponent is right, also into that of infinity.
        let rebased = magnitude - (112 << 23);
        (rebased + 0xfff + (rebased >> 13 & 1)) >> 13
    } else {
        // The sum has its last bit at 2^-24, so the addition rounds as needed.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()
    };
    sign | rounded as u16
}
