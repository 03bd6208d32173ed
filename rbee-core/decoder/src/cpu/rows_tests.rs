use super::*;
use crate::{
    cpu::testing::{bits, numbers},
    rng::Rng,
};

fn normed(isa: Isa, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len()];
    norm(isa, x, weight, 1e-6, &mut out);
    out
}

#[test]
fn norm_is_that_of_each_part_with_every_instruction_set() {
    let mut rng = Rng::new(2);
    for width in [1, 7, 16, 40, 128, 640] {
        let x = numbers(&mut rng, width * 5, 8.0);
        let weight = numbers(&mut rng, width, 2.0);
        let expected = normed(Isa::Portable, &x, &weight);
        for isa in Isa::available() {
            assert_eq!(bits(&normed(isa, &x, &weight)), bits(&expected), "{width} with {isa:?}");
        }
        for (part, found) in x.chunks(width).zip(expected.chunks(width)) {
            assert_eq!(bits(&normed(Isa::Portable, part, &weight)), bits(found));
            let mean = part.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            for ((x, weight), found) in part.iter().zip(&weight).zip(found) {
                let exact = f64::from(*x) / (mean + 1e-6).sqrt() * f64::from(*weight);
                assert!((exact - f64::from(*found)).abs() <= exact.abs() * 1e-6, "{width}");
            }
        }
    }
}

#[test]
fn gates_and_sums_have_the_same_bits_with_every_instruction_set() {
    let mut rng = Rng::new(3);
    for width in [3, 16, 100] {
        let (x, y) = (numbers(&mut rng, width, 9.0), numbers(&mut rng, width, 9.0));
        let all = |isa| {
            let mut results = Vec::new();
            for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
                let mut x = x.clone();
                gate(isa, activation, &mut x, &y);
                results.extend(x);
            }
            let (mut sum, mut scaled) = (x.clone(), x.clone());
            add(isa, &mut sum, &y);
            add_scaled(isa, &mut scaled, 0.3, &y);
            results.extend(sum.iter().chain(&scaled));
            results
        };
        let expected = all(Isa::Portable);
        for isa in Isa::available() {
            assert_eq!(bits(&all(isa)), bits(&expected), "{width} with {isa:?}");
        }
        for i in 0..width {
            let sigmoid = 1.0 / (1.0 + (-f64::from(x[i])).exp());
            let exact = f64::from(x[i]) * sigmoid * f64::from(y[i]);
            assert!((f64::from(expected[i]) - exact).abs() <= exact.abs() * 1e-6);
            assert_eq!(expected[3 * width + i], x[i] + y[i]);
            assert_eq!(expected[4 * width + i], 0.3_f32.mul_add(y[i], x[i]));
        }
    }
}

#[test]
fn threads_change_no_bits() {
    let mut rng = Rng::new(4);
    let width = 96;
    let x = numbers(&mut rng, width * 400, 3.0);
    let y = numbers(&mut rng, width * 400, 3.0);
    let compute = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut out = normed(Isa::best(), &x, &y[..width]);
            gate(Isa::best(), Activation::Silu, &mut out, &y);
            add(Isa::best(), &mut out, &y);
            out
        })
    };
    assert!(bits(&compute(1)) == bits(&compute(3)));
}

#[test]
fn a_shape_that_no_memory_holds_is_refused() {
    let mut rows = Rows::default();
    assert!(rows.reshape(usize::MAX, 2).is_err());
    let fault = rows.reshape(1 << 60, 1).expect_err("too many rows").to_string();
    assert!(fault.contains("1152921504606846976 rows of 1 numbers"), "{fault}");
}
