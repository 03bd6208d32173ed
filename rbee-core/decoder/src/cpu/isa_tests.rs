use super::*;
use crate::{
    cpu::testing::{Function, apply, bits, number},
    rng::Rng,
};

/// Numbers of all sizes, and the special ones.
fn samples() -> Vec<f32> {
    let mut rng = Rng::new(1);
    let special = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 2.5, -3.5];
    let tiny = [f32::MIN_POSITIVE, -1e-40, f32::MAX, 65504.0, 65519.0, 65520.0, 6e-8, 2.9e-8];
    let mut all: Vec<f32> = special.into_iter().chain(tiny).collect();
    for exponent in -30..30 {
        all.extend((0..8).map(|_| number(&mut rng) * f32::powi(2.0, exponent)));
    }
    all
}

/// Each operation, by its place in the trait.
struct Operation(usize);

const OPERATIONS: usize = 15;

impl Function for Operation {
    fn call<S: Simd>(&self, s: S, [a, b, c]: [S::F; 3]) -> S::F {
        let small = |x| s.min(s.splat(120.0), s.max(s.splat(-120.0), x));
        match self.0 {
            0 => s.add(a, b),
            1 => s.sub(a, b),
            2 => s.mul(a, b),
            3 => s.div(a, b),
            4 => s.fma(a, b, c),
            5 => s.max(a, b),
            6 => s.min(a, b),
            7 => s.if_less(a, b, c, a),
            8 => s.abs(a),
            9 => s.with_sign(s.abs(a), b),
            10 => s.round(small(a)),
            11 => s.scale(a, s.round(small(b))),
            12 => s.swap_pairs(a),
            13 => s.splat(s.sum(a)),
            _ => s.splat(s.largest(a)),
        }
    }
}

#[test]
fn every_operation_has_the_same_bits_with_every_instruction_set() {
    let samples = samples();
    for operation in 0..OPERATIONS {
        let expected = bits(&apply(Isa::Portable, &Operation(operation), &samples));
        for isa in Isa::available() {
            let found = bits(&apply(isa, &Operation(operation), &samples));
            assert_eq!(found, expected, "operation {operation} with {isa:?}");
        }
    }
}

/// Decodes half-precision floats and 8-bit integers, and encodes the former.
struct Convert<'a> {
    halves: &'a [u16],
    floats: &'a [f32],
    integers: &'a [i8],
}

impl Kernel for Convert<'_> {
    type Out = (Vec<f32>, Vec<u16>, Vec<f32>);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Out {
        let (mut decoded, mut encoded, mut integers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut floats, mut halves) = ([0.0; LANES], [0; LANES]);
        for chunk in self.halves.as_chunks().0 {
            s.store(s.load_f16(chunk), &mut floats);
            decoded.extend(floats);
        }
        for chunk in self.floats.as_chunks().0 {
            s.store_f16(s.load(chunk), &mut halves);
            encoded.extend(halves);
        }
        for chunk in self.integers.as_chunks().0 {
            s.store(s.load_i8(chunk), &mut floats);
            integers.extend(floats);
        }
        (decoded, encoded, integers)
    }
}

#[test]
fn conversions_are_exact_and_the_same_with_every_instruction_set() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let integers: Vec<i8> = (i8::MIN..=i8::MAX).collect();
    let values: Vec<f32> = halves.iter().map(|half| f16_value(*half)).collect();
    // Each finite value, the middle to the next one, and what is right beside it.
    let mut floats = Vec::new();
    for pair in values[..0x7c00].windows(2) {
        let middle = pair[0].midpoint(pair[1]);
        floats.extend([pair[0], middle.next_down(), middle, -middle, middle.next_up()]);
    }
    floats.extend(samples());
    floats.resize(floats.len().next_multiple_of(LANES), 1e5);
    let expected: Vec<u16> = floats.iter().map(|float| f16_bits(*float)).collect();
    for isa in Isa::available() {
        let kernel = Convert { halves: &halves, floats: &floats, integers: &integers };
        let (decoded, encoded, whole) = isa.run(kernel);
        assert!(bits(&decoded) == bits(&values), "{isa:?}");
        let numbers: Vec<u16> = encoded.iter().zip(&floats).map(nan_as_one).collect();
        let expected: Vec<u16> = expected.iter().zip(&floats).map(nan_as_one).collect();
        assert!(numbers == expected, "{isa:?}");
        assert!(whole.iter().zip(&integers).all(|(float, integer)| *float == f32::from(*integer)));
    }
}

fn nan_as_one((half, float): (&u16, &f32)) -> u16 {
    if float.is_nan() { u16::from(half & 0x7fff > 0x7c00) } else { *half }
}

#[test]
fn half_precision_rounds_to_nearest_and_ties_to_even() {
    let cases = [
        (1.0, 0x3c00),
        (1.0 + 1.0 / 2048.0, 0x3c00),
        (1.0 + 3.0 / 2048.0, 0x3c02),
        (65504.0, 0x7bff),
        (65519.996, 0x7bff),
        (65520.0, 0x7c00),
        (-f32::INFINITY, 0xfc00),
        (5.960_464_5e-8, 0x0001),
        (2.980_232_2e-8, 0x0000),
        (-2.980_233e-8, 0x8001),
        (6.103_515_6e-5, 0x0400),
    ];
    for (float, half) in cases {
        assert_eq!(f16_bits(float), half, "{float}");
    }
    for half in (0..=u16::MAX).filter(|half| half & 0x7fff <= 0x7c00) {
        assert_eq!(f16_bits(f16_value(half)), half);
    }
    assert_eq!(f16_value(0x3555), 0.333_251_95);
    assert_eq!(f16_value(0x8001), -5.960_464_5e-8);
}
