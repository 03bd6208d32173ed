use super::*;
use crate::cpu::{
    isa::Isa,
    testing::{Function, apply, bits},
};

#[derive(Clone, Copy, Debug)]
enum Name {
    Exp,
    Tanh,
    Softcap,
    Silu,
    GeluTanh,
    Gelu,
}

impl Function for Name {
    fn call<S: Simd>(&self, s: S, [x, ..]: [S::F; 3]) -> S::F {
        match self {
            Self::Exp => exp(s, x),
            Self::Tanh => tanh(s, x),
            Self::Softcap => softcap(s, x, 50.0),
            Self::Silu => silu(s, x),
            Self::GeluTanh => gelu_tanh(s, x),
            Self::Gelu => gelu(s, x),
        }
    }
}

impl Name {
    const ALL: [Self; 6] =
        [Self::Exp, Self::Tanh, Self::Softcap, Self::Silu, Self::GeluTanh, Self::Gelu];

    fn exact(self, x: f64) -> f64 {
        match self {
            Self::Exp => x.exp(),
            Self::Tanh => x.tanh(),
            Self::Softcap => 50.0 * (x / 50.0).tanh(),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                x / (1.0 + (-2.0 * u).exp())
            }
            Self::Gelu => x / 2.0 * libm::erfc(-x / std::f64::consts::SQRT_2),
        }
    }

    /// The largest error, in units in the last place of the result.
    fn worst(self, from: f32, to: f32) -> f64 {
        let x: Vec<f32> = (0..4000).map(|i| from + (to - from) * (i as f32 / 3999.0)).collect();
        let error = |(x, y): (&f32, &f32)| {
            let exact = self.exact(f64::from(*x));
            let unit = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
            (f64::from(*y) - exact).abs() / unit
        };
        x.iter().zip(&apply(Isa::best(), &self, &x)).map(error).fold(0.0, f64::max)
    }
}

#[test]
fn functions_are_close_to_the_exact_ones_over_their_whole_range() {
    let ranges = [
        (Name::Exp, -103.9, 88.7, 1.5),
        (Name::Exp, -1.0, 1.0, 1.5),
        (Name::Tanh, -12.0, 12.0, 3.0),
        (Name::Tanh, -0.7, 0.7, 3.0),
        (Name::Softcap, -300.0, 300.0, 5.0),
        (Name::Silu, -20.0, 20.0, 3.0),
        // In the tail, one step of the exponent is a step of as many units as its size.
        (Name::GeluTanh, -1.0, 30.0, 4.0),
        (Name::GeluTanh, -5.0, -1.0, 40.0),
        (Name::Gelu, -1.0, 30.0, 6.0),
        (Name::Gelu, -5.0, -1.0, 40.0),
    ];
    for (name, from, to, allowed) in ranges {
        let worst = name.worst(from, to);
        assert!(worst <= allowed, "{name:?} from {from} to {to}: {worst}");
    }
}

#[test]
fn functions_have_the_same_bits_with_every_instruction_set() {
    let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, 1e-42, 3e38, -3e38];
    let steps = (-2000..2000).map(|i| i as f32 * 0.0617);
    let x: Vec<f32> = special.into_iter().chain(steps).collect();
    for name in Name::ALL {
        let expected = bits(&apply(Isa::Portable, &name, &x));
        for isa in Isa::available() {
            assert!(bits(&apply(isa, &name, &x)) == expected, "{name:?} with {isa:?}");
        }
    }
}

#[test]
fn functions_have_their_limits_at_the_ends() {
    let x = [f32::NEG_INFINITY, -1e30, -104.0, 0.0, 89.0, 1e30, f32::INFINITY, f32::NAN];
    let of = |name: Name| bits(&apply(Isa::Portable, &name, &x));
    let inf = f32::INFINITY;
    assert_eq!(of(Name::Exp), bits(&[0.0, 0.0, 0.0, 1.0, inf, inf, inf, f32::NAN]));
    assert_eq!(of(Name::Tanh), bits(&[-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0, f32::NAN]));
    for name in [Name::Silu, Name::GeluTanh, Name::Gelu] {
        let values = apply(Isa::Portable, &name, &x);
        assert_eq!(values[1..7], [0.0, 0.0, 0.0, 89.0, 1e30, inf], "{name:?}");
        assert!(values[7].is_nan());
    }
}
