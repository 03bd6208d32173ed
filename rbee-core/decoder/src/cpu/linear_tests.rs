//! The products give the same bits with every instruction set, and the numbers of the formats.

use bytes::Bytes;
use candle_core::{
    Device,
    quantized::{GgmlDType, QStorage, QTensor},
};
use half::{bf16, f16};
use rayon::ThreadPoolBuilder;

use super::{
    isa::Isa,
    linear::{LinearProduct, decode_row, linear},
};
use crate::matrix::{StoredMatrix, WeightType};

const PLAIN: [WeightType; 3] = [WeightType::F32, WeightType::F16, WeightType::Bf16];
const QUANTIZED: [WeightType; 10] = [
    WeightType::Q4_0,
    WeightType::Q4_1,
    WeightType::Q5_0,
    WeightType::Q5_1,
    WeightType::Q8_0,
    WeightType::Q2K,
    WeightType::Q3K,
    WeightType::Q4K,
    WeightType::Q5K,
    WeightType::Q6K,
];

/// Numbers that only look random (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Some rows have large numbers, zeros, or whole groups of zeros among them.
    fn activations(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| match self.next() % 64 {
                0 => 40.0 * self.unit(),
                1 => 0.0,
                _ if i / 32 % 29 == 28 => 0.0,
                _ => self.unit(),
            })
            .collect()
    }
}

/// The places of 16-bit floats in a block.
fn floats(kind: WeightType) -> &'static [usize] {
    match kind {
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q2K => &[80, 82],
        WeightType::Q3K => &[108],
        WeightType::Q6K => &[208],
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => &[],
    }
}

/// A matrix with all bit patterns in its integers, and scales of all signs.
fn matrix(kind: WeightType, rows: usize, cols: usize, numbers: &mut Numbers) -> StoredMatrix {
    let mut bytes = Vec::new();
    for _ in 0..rows * cols / kind.block() {
        match kind {
            WeightType::F32 => bytes.extend(numbers.unit().to_le_bytes()),
            // Some are subnormal.
            WeightType::F16 if numbers.next().is_multiple_of(8) => {
                bytes.extend([numbers.next() as u8, 0])
            }
            WeightType::F16 => bytes.extend(f16::from_f32(numbers.unit()).to_le_bytes()),
            WeightType::Bf16 => bytes.extend(bf16::from_f32(numbers.unit()).to_le_bytes()),
            _ => {
                let start = bytes.len();
                bytes.extend((0..kind.block_bytes()).map(|_| (numbers.next() >> 11) as u8));
                for at in floats(kind) {
                    let float = f16::from_f32(numbers.unit() * 0.01).to_le_bytes();
                    bytes[start + at..][..2].copy_from_slice(&float);
                }
            }
        }
    }
    StoredMatrix { kind, rows, cols, bytes: Bytes::from(bytes) }
}

fn product(isa: Isa, x: &[f32], matrix: &StoredMatrix, bias: Option<&[f32]>) -> Vec<u32> {
    let mut out = vec![f32::NAN; x.len() / matrix.cols * matrix.rows];
    linear(isa, x, matrix.cols, &mut [LinearProduct { matrix, bias, out: &mut out }]);
    out.into_iter().map(f32::to_bits).collect()
}

fn dequantized(matrix: &StoredMatrix) -> Vec<f32> {
    let mut weights = vec![0.0; matrix.rows * matrix.cols];
    for (row, out) in weights.chunks_exact_mut(matrix.cols).enumerate() {
        decode_row(matrix, row, 1.0, out);
    }
    weights
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut numbers = Numbers(2026);
    for kind in QUANTIZED.into_iter().chain(PLAIN) {
        let widths: &[usize] = match kind.block() {
            256 => &[256, 768],
            32 => &[32, 64, 96, 320, 608],
            _ => &[1, 15, 16, 53],
        };
        for (case, cols) in widths.iter().enumerate() {
            let rows = [1, 7, 16, 35, 49][case];
            let matrix = matrix(kind, rows, *cols, &mut numbers);
            let bias: Vec<f32> = (0..rows).map(|_| numbers.unit()).collect();
            let bias = (case % 2 == 1).then_some(&bias[..]);
            let x = numbers.activations(33 * cols);
            let reference = product(Isa::Portable, &x, &matrix, bias);
            for isa in Isa::available() {
                for m in [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33] {
                    // The rows at the end, so that their place in the batch differs too.
                    let first = 33 - m;
                    let some = product(isa, &x[first * cols..], &matrix, bias);
                    assert_eq!(
                        some,
                        reference[first * rows..],
                        "{} {rows}x{cols} {isa:?} {m} rows",
                        kind.name()
                    );
                }
            }
        }
    }
}

#[test]
fn weights_are_those_that_candle_decodes() {
    let mut numbers = Numbers(7);
    for kind in QUANTIZED {
        let theirs = match kind {
            WeightType::Q4_0 => GgmlDType::Q4_0,
            WeightType::Q4_1 => GgmlDType::Q4_1,
            WeightType::Q5_0 => GgmlDType::Q5_0,
            WeightType::Q5_1 => GgmlDType::Q5_1,
            WeightType::Q8_0 => GgmlDType::Q8_0,
            WeightType::Q2K => GgmlDType::Q2K,
            WeightType::Q3K => GgmlDType::Q3K,
            WeightType::Q4K => GgmlDType::Q4K,
            WeightType::Q5K => GgmlDType::Q5K,
            _ => GgmlDType::Q6K,
        };
        let matrix = matrix(kind, 5, 512, &mut numbers);
        let storage =
            QStorage::from_data((&matrix.bytes[..]).into(), &Device::Cpu, theirs).unwrap();
        let tensor = QTensor::new(storage, (5, 512)).unwrap().dequantize(&Device::Cpu).unwrap();
        let expected: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        for (index, (own, expected)) in dequantized(&matrix).iter().zip(&expected).enumerate() {
            // Candle rounds the product before it adds the minimum.
            assert!(
                (own - expected).abs() <= 1e-6,
                "{} weight {index}: {own}, not {expected}",
                kind.name()
            );
        }
    }
}

#[test]
fn products_are_near_the_exact_ones() {
    let mut numbers = Numbers(11);
    for kind in QUANTIZED.into_iter().chain(PLAIN) {
        let matrix = matrix(kind, 19, 512, &mut numbers);
        let weights = dequantized(&matrix);
        let x = numbers.activations(512);
        let products = product(Isa::best(), &x, &matrix, None);
        for (row, product) in products.into_iter().enumerate() {
            let weights = &weights[row * 512..][..512];
            let terms = || weights.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let exact: f64 = terms().sum();
            let size: f64 = terms().map(|term| term * term).sum::<f64>().sqrt();
            // Each activation is off by at most 1/254 of the largest of its group; the errors are independent.
            let group_max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            let step = f64::from(group_max) / 254.0;
            let spread: f64 =
                weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt() * step;
            let allowed =
                if PLAIN.contains(&kind) { size * 1e-5 } else { spread * 3.0 + size * 1e-5 };
            let error = (f64::from(f32::from_bits(product)) - exact).abs();
            assert!(
                error <= allowed,
                "{} row {row}: off by {error} of {allowed} allowed",
                kind.name()
            );
        }
    }
}

#[test]
fn an_activation_that_is_not_finite_makes_its_own_row_nan() {
    let mut numbers = Numbers(13);
    for kind in [WeightType::Q8_0, WeightType::Q4K, WeightType::Q6K] {
        let matrix = matrix(kind, 17, 256, &mut numbers);
        let mut x = numbers.activations(3 * 256);
        let clean = product(Isa::Portable, &x, &matrix, None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[256 + 77] = bad;
            for isa in Isa::available() {
                let products = product(isa, &x, &matrix, None);
                assert_eq!(products[..17], clean[..17]);
                assert_eq!(products[34..], clean[34..]);
                assert!(
                    products[17..34].iter().all(|bits| f32::from_bits(*bits).is_nan()),
                    "{} {isa:?}",
                    kind.name()
                );
            }
        }
    }
}

#[test]
fn extreme_activations_and_scales_give_the_same_bits() {
    let mut numbers = Numbers(17);
    for kind in QUANTIZED {
        let mut matrix = matrix(kind, 18, 256, &mut numbers);
        let mut bytes = matrix.bytes.to_vec();
        for (block, bytes) in bytes.chunks_exact_mut(kind.block_bytes()).enumerate() {
            for at in floats(kind) {
                let scale = [0x0001_u16, 0x8000, 0x7bff, 0x0000, 0x03ff][block % 5];
                bytes[*at..][..2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        matrix.bytes = Bytes::from(bytes);
        for size in [1e-40, f32::MIN_POSITIVE * 256.0, 1e-30, 1e30, f32::MAX] {
            let x: Vec<f32> = (0..3 * 256).map(|_| numbers.unit() * size).collect();
            let reference = product(Isa::Portable, &x, &matrix, None);
            for isa in Isa::available() {
                for (m, first) in [(3, 0), (1, 2)] {
                    let products = product(isa, &x[first * 256..][..m * 256], &matrix, None);
                    for (own, reference) in products.into_iter().zip(&reference[first * 18..]) {
                        let both_nan =
                            f32::from_bits(own).is_nan() && f32::from_bits(*reference).is_nan();
                        assert!(both_nan || own == *reference, "{} {isa:?} {size}", kind.name());
                    }
                }
            }
        }
    }
}

#[test]
fn threads_and_other_products_change_no_bits() {
    let mut numbers = Numbers(19);
    let kinds = [WeightType::Q5_0, WeightType::F16, WeightType::Q4K, WeightType::Q8_0];
    let matrices = kinds.map(|kind| matrix(kind, 203, 256, &mut numbers));
    let x = numbers.activations(5 * 256);
    let expected = matrices.each_ref().map(|matrix| product(Isa::best(), &x, matrix, None));
    let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut outs = kinds.map(|_| vec![0.0; 5 * 203]);
    let mut products: Vec<_> = (matrices.iter().zip(&mut outs))
        .map(|(matrix, out)| LinearProduct { matrix, bias: None, out })
        .collect();
    pool.install(|| linear(Isa::best(), &x, 256, &mut products));
    assert_eq!(outs.map(|out| out.into_iter().map(f32::to_bits).collect::<Vec<_>>()), expected);
}

#[test]
fn a_decoded_row_is_scaled() {
    let mut numbers = Numbers(23);
    for kind in QUANTIZED.into_iter().chain(PLAIN) {
        let matrix = matrix(kind, 3, 256, &mut numbers);
        let weights = dequantized(&matrix);
        let mut row = vec![0.0; 256];
        decode_row(&matrix, 2, 25.25, &mut row);
        assert!(weights[512..].iter().zip(&row).all(|(weight, scaled)| weight * 25.25 == *scaled));
    }
}

#[test]
#[should_panic(expected = "bytes of a matrix")]
fn a_matrix_without_all_its_bytes_is_refused() {
    let mut matrix = matrix(WeightType::Q8_0, 4, 64, &mut Numbers(29));
    matrix.bytes.truncate(matrix.bytes.len() - 1);
    product(Isa::best(), &[0.0; 64], &matrix, None);
}
