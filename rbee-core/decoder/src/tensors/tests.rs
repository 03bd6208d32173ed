//! The operations on tensors, compared with the same in 64 bits.

use bytes::Bytes;
use candle_core::quantized::{GgmlDType, QTensor};

use super::*;
use crate::{
    architecture::Pairs,
    backend::{BLOCK, CacheType},
    matrix::WeightType,
    rng::Rng,
};

const CPU: Tensors = Tensors::new(Device::Cpu);

/// Numbers from -1 to 1.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| (rng.next() >> 40) as f32 / 8_388_608.0 - 1.0).collect()
}

fn rows(numbers: Vec<f32>, width: usize) -> TensorRows {
    let count = numbers.len() / width;
    TensorRows(Some(Tensor::from_vec(numbers, (count, width), &Device::Cpu).unwrap()))
}

fn read(rows: &TensorRows) -> Vec<f32> {
    let mut numbers = Vec::new();
    CPU.read(rows, &mut numbers).unwrap();
    numbers
}

fn near(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(*got) - expected).abs() <= tolerance, "number {at}: {got}, {expected}");
    }
}

/// The attention of one head to `k` and `v`, which are all tokens up to its own.
fn attention_of_head(q: &[f32], k: &[Vec<f32>], v: &[Vec<f32>], spec: &Attention) -> Vec<f64> {
    let first = k.len().saturating_sub(spec.window.unwrap_or(usize::MAX));
    let powers: Vec<f64> = k[first..]
        .iter()
        .map(|k| {
            let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
            let score = dot * f64::from(spec.scale);
            let cap = spec.softcap.map(f64::from);
            cap.map_or(score, |cap| cap * (score / cap).tanh()).exp()
        })
        .collect();
    let sum: f64 = powers.iter().sum();
    let column = |column: usize| {
        let weighted = powers.iter().zip(&v[first..]).map(|(p, v)| p * f64::from(v[column]));
        weighted.sum::<f64>() / sum
    };
    (0..q.len()).map(column).collect()
}

/// Two sequences of 75 and 40 tokens, in chunks that begin and end anywhere in blocks.
fn compare_attention(spec: &Attention, kind: CacheType, tolerance: f64) {
    let (q_width, kv_width) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    let tables: [&[u32]; 2] = [&[3, 0, 4], &[2, 5]];
    let lengths = [75, 40];
    let shape =
        CacheShape { kind, layers: 2, blocks: 6, kv_heads: spec.kv_heads, head_dim: spec.head_dim };
    let mut cache = CPU.cache(&shape).unwrap();
    let all = |seed, width| lengths.map(|length| numbers(seed + length as u64, length * width));
    let (q, k, v) = (all(1, q_width), all(2, kv_width), all(3, kv_width));
    let mut got = [Vec::new(), Vec::new()];
    let mut starts = [0, 0];
    for step in [[1, 40], [30, 0], [1, 0], [33, 0], [10, 0]] {
        let tokens = [7; 40];
        let mut parts = Vec::new();
        let mut inputs = [Vec::new(), Vec::new(), Vec::new()];
        for sequence in 0..2 {
            let (start, count) = (starts[sequence], step[sequence]);
            if count > 0 {
                let blocks = tables[sequence];
                parts.push(Part { tokens: &tokens[..count], start, blocks, logits: false });
                for (input, (all, width)) in
                    inputs.iter_mut().zip([(&q, q_width), (&k, kv_width), (&v, kv_width)])
                {
                    input.extend(&all[sequence][start * width..(start + count) * width]);
                }
            }
        }
        let [q, k, v] = inputs;
        CPU.store(&mut cache, 1, &parts, &rows(k, kv_width), &rows(v, kv_width)).unwrap();
        let mut out = TensorRows::default();
        CPU.attend(&cache, 1, &parts, &rows(q, q_width), spec, &mut out).unwrap();
        let out = read(&out);
        let mut out = out.as_slice();
        for sequence in 0..2 {
            let (own, rest) = out.split_at(step[sequence] * q_width);
            got[sequence].extend(own);
            out = rest;
            starts[sequence] += step[sequence];
        }
    }
    for sequence in 0..2 {
        let group = spec.heads / spec.kv_heads;
        let mut expected = Vec::new();
        for token in 0..lengths[sequence] {
            for head in 0..spec.heads {
                let of = |all: &[Vec<f32>; 2]| -> Vec<Vec<f32>> {
                    let start = head / group * spec.head_dim;
                    let rows = all[sequence].chunks(kv_width).take(token + 1);
                    rows.map(|row| row[start..start + spec.head_dim].to_vec()).collect()
                };
                let (k, v) = (of(&k), of(&v));
                let start = token * q_width + head * spec.head_dim;
                let q = &q[sequence][start..start + spec.head_dim];
                expected.extend(attention_of_head(q, &k, &v, spec));
            }
        }
        near(&got[sequence], &expected, tolerance);
    }
}

const SPEC: Attention =
    Attention { heads: 4, kv_heads: 2, head_dim: 8, scale: 1.5, softcap: None, window: None };

#[test]
fn attention_is_over_all_tokens_before() {
    compare_attention(&SPEC, CacheType::F32, 1e-5);
    compare_attention(&Attention { kv_heads: 4, ..SPEC }, CacheType::F32, 1e-5);
    compare_attention(&Attention { kv_heads: 1, ..SPEC }, CacheType::F32, 1e-5);
}

#[test]
fn attention_is_limited_to_the_window() {
    for window in [1, 2, 31, 32, 33, 64, 200] {
        compare_attention(&Attention { window: Some(window), ..SPEC }, CacheType::F32, 1e-5);
    }
}

#[test]
fn scores_are_limited_by_the_softcap() {
    compare_attention(&Attention { softcap: Some(0.5), ..SPEC }, CacheType::F32, 1e-5);
}

#[test]
fn keys_and_values_of_16_bits_differ_by_their_rounding() {
    compare_attention(&SPEC, CacheType::F16, 2e-3);
}

#[test]
fn keys_and_values_of_8_bits_are_refused() {
    let shape =
        CacheShape { kind: CacheType::Q8, layers: 1, blocks: 1, kv_heads: 1, head_dim: BLOCK };
    let error = CPU.cache(&shape).unwrap_err().to_string();
    assert!(error.contains("8 bits") && error.contains("f16"), "{error}");
}

#[test]
fn quantized_matrices_need_no_alignment() {
    let numbers = numbers(5, 3 * 64);
    let tensor = Tensor::from_slice(&numbers, (3, 64), &Device::Cpu).unwrap();
    let blocks = QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap().data().unwrap().into_owned();
    let mut expected = None;
    for offset in 0..4 {
        let bytes = Bytes::from([&vec![0; offset][..], &blocks].concat()).slice(offset..);
        let stored = StoredMatrix { kind: WeightType::Q8_0, rows: 3, cols: 64, bytes };
        let matrix = CPU.matrix(&stored).unwrap();
        let mut out = TensorRows::default();
        CPU.embed(&matrix, &[2, 0, 2], 3.0, &mut out).unwrap();
        let row = |row: usize| numbers[row * 64..(row + 1) * 64].iter();
        let wanted = row(2).chain(row(0)).chain(row(2)).map(|number| f64::from(*number) * 3.0);
        near(&read(&out), &wanted.collect::<Vec<_>>(), 0.02);
        let x = rows(self::numbers(6, 2 * 64), 64);
        CPU.linear(&x, &mut [Product { matrix: &matrix, bias: None, out: &mut out }]).unwrap();
        let got = read(&out);
        assert_eq!(*expected.get_or_insert_with(|| got.clone()), got, "offset {offset}");
    }
}

#[test]
fn a_product_has_its_bias() {
    let (x, w, b) = (numbers(7, 2 * 4), numbers(8, 3 * 4), numbers(9, 3));
    let bytes: Vec<u8> = w.iter().flat_map(|number| number.to_le_bytes()).collect();
    let stored = StoredMatrix { kind: WeightType::F32, rows: 3, cols: 4, bytes: bytes.into() };
    let (matrix, bias) = (CPU.matrix(&stored).unwrap(), CPU.vector(b.clone()).unwrap());
    let mut out = TensorRows::default();
    let product = Product { matrix: &matrix, bias: Some(&bias), out: &mut out };
    CPU.linear(&rows(x.clone(), 4), &mut [product]).unwrap();
    let mut expected = Vec::new();
    for x in x.chunks(4) {
        for (w, b) in w.chunks(4).zip(&b) {
            let dot: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            expected.push(dot + f64::from(*b));
        }
    }
    near(&read(&out), &expected, 1e-6);
}

#[test]
fn a_rotation_turns_the_pairs_of_the_first_numbers_of_a_head() {
    let (head, heads, positions) = (8, 2, [0, 3, 9]);
    let frequencies = [0.7, 0.2, 0.05];
    let x = numbers(10, positions.len() * heads * head);
    for pairs in [Pairs::Halves, Pairs::Neighbors] {
        let rope = Rope { inverse_frequencies: frequencies.to_vec(), magnitude: 1.25, pairs };
        let rotation = CPU.rotation(&rope, 10).unwrap();
        let mut expected: Vec<f64> = x.iter().copied().map(f64::from).collect();
        for (row, position) in positions.iter().enumerate() {
            for start in (0..heads).map(|at| (row * heads + at) * head) {
                for (pair, frequency) in frequencies.iter().enumerate() {
                    let (a, b) = match pairs {
                        Pairs::Halves => (start + pair, start + pair + 3),
                        Pairs::Neighbors => (start + 2 * pair, start + 2 * pair + 1),
                    };
                    let (sin, cos) = (f64::from(*position) * f64::from(*frequency)).sin_cos();
                    let (first, second) = (f64::from(x[a]), f64::from(x[b]));
                    expected[a] = 1.25 * (first * cos - second * sin);
                    expected[b] = 1.25 * (first * sin + second * cos);
                }
            }
        }
        let mut out = rows(x.clone(), heads * head);
        CPU.rotate(&mut out, &rotation, head, &positions).unwrap();
        near(&read(&out), &expected, 1e-6);
    }
}

#[test]
fn scaled_rows_are_added_where_they_belong() {
    let mut x = TensorRows::default();
    CPU.zeros(3, 2, &mut x).unwrap();
    CPU.add_scaled(&mut x, &[2, 0], &[0.5, 2.0], &rows(vec![1.0, 2.0, 3.0, 4.0], 2)).unwrap();
    CPU.add_scaled(&mut x, &[2], &[1.0], &rows(vec![10.0, 20.0], 2)).unwrap();
    assert_eq!(read(&x), [6.0, 8.0, 0.0, 0.0, 10.5, 21.0]);
    let mut out = TensorRows::default();
    CPU.select(&x, &[2, 2, 1], &mut out).unwrap();
    assert_eq!(read(&out), [10.5, 21.0, 10.5, 21.0, 0.0, 0.0]);
}

#[test]
fn a_norm_is_of_whole_rows_or_of_every_head() {
    let (x, weight) = (numbers(11, 2 * 8), numbers(12, 4));
    let mut out = TensorRows::default();
    CPU.norm(&rows(x.clone(), 8), &CPU.vector(weight.clone()).unwrap(), 1e-2, &mut out).unwrap();
    let mut expected = Vec::new();
    for x in x.chunks(4) {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 4.0;
        let scale = 1.0 / (mean + 1e-2).sqrt();
        expected.extend(x.iter().zip(&weight).map(|(x, w)| f64::from(*x) * scale * f64::from(*w)));
    }
    near(&read(&out), &expected, 1e-6);
}

#[test]
fn the_activations_are_silu_and_the_two_kinds_of_gelu() {
    let (x, up) = (vec![-3.0, -0.5, 0.0, 0.5, 3.0], vec![1.0, 2.0, 3.0, 4.0, 5.0]);
    for (activation, at_half) in [
        (Activation::Silu, 0.5 / (1.0 + (-0.5_f64).exp())),
        (Activation::GeluTanh, 0.345_714_010_279),
        (Activation::Gelu, 0.345_731_230_637),
    ] {
        let mut gate = rows(x.clone(), 5);
        CPU.gate(activation, &mut gate, &rows(up.clone(), 5)).unwrap();
        let got = read(&gate);
        near(&got[3..4], &[at_half * 4.0], 2e-6);
        near(&got[1..2], &[(at_half - 0.5) * 2.0], 2e-6);
    }
}
