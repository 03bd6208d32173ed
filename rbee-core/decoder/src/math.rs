//! Functions of single numbers that give the same bits on every machine.
//!
//! The functions of the standard library call the C library of the system, whose last bit differs between systems.
//!
//! The computation of a step uses these on every backend, for the few numbers that it handles itself: the limit of the
//! logits, and the weights of experts. `cpu/math.rs` has functions of the same names for whole rows. They are other
//! functions: polynomials in 32 bits, less exact and many times faster, and their last bits differ from these.

/// `e` to the power of `x`, rounded from a result in 64 bits.
pub(super) fn exp(x: f32) -> f32 {
    exp_f64(f64::from(x)) as f32
}

/// The hyperbolic tangent, rounded from a result in 64 bits.
pub(super) fn tanh(x: f32) -> f32 {
    // From here on the result rounds to 1.
    let x = f64::from(x).clamp(-20.0, 20.0);
    if x.abs() < 1e-3 {
        // The quotient below would lose digits. The next term of the series is below 1e-13 of x.
        return (x * (1.0 - x * x / 3.0)) as f32;
    }
    let power = exp_f64(2.0 * x);
    ((power - 1.0) / (power + 1.0)) as f32
}

/// `2^n · e^r` with `|r| ≤ ln(2) / 2`, and the power of `r` by its series.
fn exp_f64(x: f64) -> f64 {
    // Beyond these, a number of 32 bits is infinite or 0.
    if x > 128.0 {
        return f64::INFINITY;
    }
    if x < -128.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = x - n * std::f64::consts::LN_2;
    // 1/13! · (ln(2)/2)^13 is below 1e-15.
    let mut sum = 1.0;
    for k in (1..=12).rev() {
        sum = 1.0 + r / f64::from(k) * sum;
    }
    // NaN passes through; for other numbers the exponent is within ±185.
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of all finite numbers whose size is at most `limit`.
    fn sample(limit: f32) -> impl Iterator<Item = f32> {
        (0..limit.to_bits()).step_by(65_521).map(f32::from_bits).flat_map(|x| [x, -x])
    }

    #[test]
    fn exp_is_within_one_unit_of_the_last_place() {
        for x in sample(200.0) {
            let expected = f64::from(x).exp() as f32;
            let got = exp(x);
            assert!(got.to_bits().abs_diff(expected.to_bits()) <= 1, "{x}: {got} {expected}");
        }
        assert_eq!(
            (exp(0.0), exp(f32::NEG_INFINITY), exp(f32::INFINITY)),
            (1.0, 0.0, f32::INFINITY)
        );
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_one_unit_of_the_last_place() {
        for x in sample(1000.0) {
            let expected = f64::from(x).tanh() as f32;
            let got = tanh(x);
            assert!(got.to_bits().abs_diff(expected.to_bits()) <= 1, "{x}: {got} {expected}");
        }
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }
}
