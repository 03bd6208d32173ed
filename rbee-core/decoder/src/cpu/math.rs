//! Exponentials and what is made of them, without a math library: libraries differ in the last bit.
//!
//! `src/math.rs` has an `exp` and a `tanh` for single numbers, which are more exact and slow.
//!
//! The coefficients are weighted least-squares fits of the functions named there, near their minimax polynomials.

use super::isa::Simd;

/// A polynomial; the coefficient of the highest power comes first.
#[inline(always)]
fn polynomial<S: Simd>(s: S, x: S::F, coefficients: &[f32]) -> S::F {
    let mut sum = s.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = s.fma(sum, x, s.splat(coefficient));
    }
    sum
}

/// `e^x`, within 1.5 units in the last place, also where the result is subnormal; `+0` far below, infinity far above.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // A NaN as the second operand is kept.
    let x = s.min(s.splat(90.0), s.max(s.splat(-110.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with few bits, so that `n` times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // (e^r - 1 - r) / r² for |r| ≤ ln 2 / 2.
    let p = polynomial(
        s,
        r,
        &[0.001_381_314_5, 0.008_369_419, 0.041_668_456, 0.166_665_15, 0.499_999_94],
    );
    let p = s.fma(s.mul(r, r), p, r);
    s.scale(s.add(p, s.splat(1.0)), n)
}

/// The hyperbolic tangent, within 3 units in the last place.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let size = s.abs(x);
    // (tanh x - x) / x³ as a polynomial of x², for |x| ≤ 0.625.
    let square = s.mul(x, x);
    let p = polynomial(
        s,
        square,
        &[-0.005_681_287, 0.020_618_629, -0.053_733_7, 0.133_313_73, -0.333_332_8],
    );
    let small = s.fma(s.mul(square, size), p, size);
    let e = exp(s, s.add(size, size));
    let two_parts = s.div(s.splat(2.0), s.add(e, s.splat(1.0)));
    let large = s.sub(s.splat(1.0), two_parts);
    s.with_sign(s.if_less(size, s.splat(0.625), small, large), x)
}

/// `limit · tanh(x / limit)`.
#[inline(always)]
pub(super) fn softcap<S: Simd>(s: S, x: S::F, limit: f32) -> S::F {
    let limit = s.splat(limit);
    s.mul(limit, tanh(s, s.div(x, limit)))
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(x, s.add(s.splat(1.0), e))
}

/// `x/2 · (1 + tanh u)` for `u = √(2/π)·(x + 0.044715·x³)`, which is `x · sigmoid(2·u)`.
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // -2·√(2/π), and 0.044715 times it.
    const LINEAR: f32 = -1.595_769;
    const CUBIC: f32 = -0.071_354_814;
    let factor = s.fma(s.mul(x, x), s.splat(CUBIC), s.splat(LINEAR));
    let e = exp(s, s.mul(x, factor));
    s.div(x, s.add(s.splat(1.0), e))
}

/// `x · Φ(x)`: `x/2 · (1 + erf(x/√2))`.
#[inline(always)]
pub(super) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let z = s.mul(s.abs(x), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    // erfc z = t·exp(q(t) - z²), t = 1 / (1 + z/2).
    let one = s.splat(1.0);
    let t = s.div(one, s.fma(z, s.splat(0.5), one));
    let q = polynomial(
        s,
        t,
        &[
            0.145_750_7,
            -0.685_551_2,
            1.168_563_4,
            -0.713_116_65,
            -0.065_244_22,
            -0.007_393_62,
            0.037_811_607,
            0.385_906_9,
            0.998_726_1,
            -1.265_453,
        ],
    );
    let exponent = s.fma(s.sub(s.splat(0.0), z), z, q);
    let tail = s.mul(s.mul(t, s.splat(0.5)), exp(s, exponent));
    let zero = s.splat(0.0);
    s.mul(x, s.if_less(x, zero, tail, s.sub(one, tail)))
}

#[cfg(test)]
#[path = "math_tests.rs"]
mod tests;
