//! Decoders of every family compared with the transformers library: `tests/fixtures/decoders.json`.

mod by_hand;
mod cases;
mod gguf;
mod refused;

use std::io::Cursor;

use candle_core::{Device, quantized::gguf_file};

use self::cases::Case;
use rbee_decoder::tensors::Tensors;
use rbee_decoder::{
    architecture::{Architecture, Pairs},
    backend::{BLOCK, Backend, CacheShape, CacheType},
    forward::Decoder,
    matrix::{StoredMatrix, WeightType},
    model::Model,
    part::Part,
    weights::DecoderWeights,
};

/// The blocks of a sequence are anywhere in the cache.
const TABLES: [[u32; 4]; 2] = [[6, 2, 7, 0], [1, 5, 3, 4]];

fn decoder<B: Backend>(
    backend: B,
    architecture: Architecture,
    weights: DecoderWeights,
    kind: CacheType,
) -> Decoder<B> {
    let shape = CacheShape {
        kind,
        layers: architecture.layers.len(),
        blocks: TABLES.as_flattened().len(),
        kv_heads: architecture.kv_heads,
        head_dim: architecture.head_dim,
    };
    Decoder::new(backend, architecture, weights, shape).unwrap()
}

/// A case as a file of safetensors with this type has it.
fn safetensors(case: &Case, kind: WeightType) -> (Architecture, DecoderWeights) {
    let architecture = by_hand::architecture(&case.config);
    let weights = by_hand::weights(case, &architecture, kind);
    (architecture, weights)
}

/// A case as a GGUF file with this type has it, read by candle.
fn from_gguf(case: &Case, kind: WeightType) -> (Architecture, DecoderWeights) {
    let mut architecture = by_hand::architecture(&case.config);
    architecture.norm_shift = 0.0;
    let file = gguf::file(case, kind).to_bytes();
    let content = gguf_file::Content::read(&mut Cursor::new(&file)).unwrap();
    if content.metadata["general.architecture"].to_string().unwrap() == "llama" {
        architecture.ropes.iter_mut().for_each(|rope| rope.pairs = Pairs::Neighbors);
    }
    let tensor = |name: &str| {
        content.tensor(&mut Cursor::new(&file), &gguf::name(case, name), &Device::Cpu).unwrap()
    };
    let matrix = |name: &str| {
        let (tensor, shape) = (tensor(name), &case.tensors[name]);
        let exact = tensor.dtype() == candle_core::quantized::GgmlDType::F32;
        let kind = if exact { WeightType::F32 } else { kind };
        let bytes = tensor.data().unwrap().into_owned().into();
        let all = tensor.shape().elem_count() / shape[1];
        // The tensor of all experts has one after the other.
        let expert = name.split_once(".experts.").map_or(0, |(_, rest)| {
            let (expert, _) = rest.split_once('.').unwrap();
            expert.parse::<usize>().unwrap()
        });
        StoredMatrix { kind, rows: all, cols: shape[1], bytes }
            .slice(expert * shape[0]..(expert + 1) * shape[0])
    };
    let vector = |name: &str| tensor(name).dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
    let weights = by_hand::weights_from(case, &architecture, &matrix, &vector);
    (architecture, weights)
}

fn best(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
    best as u32
}

/// Two sequences in the same steps: the prompt of a case in chunks and its continuation, beside the prompt backwards.
struct Pair<B: Backend> {
    decoder: Decoder<B>,
    logits: Vec<f32>,
}

impl<B: Backend> Pair<B> {
    /// Computes these tokens of the first sequence and as many of the second, and returns the logits of the first.
    fn step(&mut self, start: usize, tokens: &[u32], others: &[u32]) -> &[f32] {
        let part = |tokens, blocks| Part { tokens, start, blocks, logits: true };
        let blocks = (start + tokens.len()).div_ceil(BLOCK);
        let parts = [part(others, &TABLES[1][..blocks]), part(tokens, &TABLES[0][..blocks])];
        self.decoder.step(&parts, &mut self.logits).unwrap();
        assert_eq!(self.logits.len(), 2 * self.decoder.vocab());
        &self.logits[self.decoder.vocab()..]
    }

    /// Computes the prompt, in chunks that end where logits are known. Returns the largest difference from those, and the
    /// next token.
    fn prompt(&mut self, case: &Case) -> (f32, u32) {
        let others: Vec<u32> = case.prompt.iter().rev().copied().collect();
        let (mut start, mut largest, mut next) = (0, 0.0_f32, 0);
        for known in &case.logits {
            let chunk = start..known.position + 1;
            let logits = self.step(start, &case.prompt[chunk.clone()], &others[chunk.clone()]);
            for (column, expected) in case.columns.iter().zip(&known.values) {
                let difference = (logits[*column] - expected).abs() / expected.abs().max(1.0);
                assert!(difference.is_finite(), "{}", case.name);
                largest = largest.max(difference);
            }
            (start, next) = (chunk.end, best(logits));
        }
        (largest, next)
    }
}

fn pair<B: Backend>(
    backend: B,
    (architecture, weights): (Architecture, DecoderWeights),
    kind: CacheType,
) -> Pair<B> {
    Pair { decoder: decoder(backend, architecture, weights, kind), logits: Vec::new() }
}

/// Compares logits and continuation.
fn compare<B: Backend>(backend: impl Fn() -> B, tolerance: f32) {
    for case in cases::all() {
        let mut pair = pair(backend(), safetensors(&case, WeightType::F32), CacheType::F32);
        let (difference, first) = pair.prompt(&case);
        assert!(difference <= tolerance, "{}: {difference}", case.name);
        let mut tokens = vec![first];
        while tokens.len() < case.continuation.len() {
            let (start, last) = (case.prompt.len() + tokens.len() - 1, tokens[tokens.len() - 1]);
            let next = best(pair.step(start, &[last], &[7]));
            tokens.push(next);
        }
        assert_eq!(tokens, case.continuation, "{}", case.name);
    }
}

/// Compares the logits of the prompts of all cases, from files that `load` gets.
fn compare_prompts<B: Backend>(
    backend: impl Fn() -> B,
    load: impl Fn(&Case) -> (Architecture, DecoderWeights),
    kind: CacheType,
    tolerance: f32,
) {
    let difference = |case: Case| {
        let (difference, _) = pair(backend(), load(&case), kind).prompt(&case);
        (case.name, difference)
    };
    let differences: Vec<_> = cases::all().into_iter().map(difference).collect();
    assert!(differences.iter().all(|(_, found)| *found <= tolerance), "{differences:?}");
}

fn tensors() -> Tensors {
    Tensors::new(Device::Cpu)
}

#[test]
fn candles_tensors_give_the_logits_and_tokens_of_the_reference_library() {
    compare(tensors, 1e-4);
}

#[test]
fn weights_of_16_bits_give_the_same_logits() {
    let (bf16, f16) = (WeightType::Bf16, WeightType::F16);
    compare_prompts(tensors, |case| safetensors(case, bf16), CacheType::F32, 1e-4);
    compare_prompts(tensors, |case| from_gguf(case, f16), CacheType::F32, 1e-4);
}

#[test]
fn keys_and_values_of_16_bits_give_nearly_the_same_logits() {
    compare_prompts(tensors, |case| safetensors(case, WeightType::F32), CacheType::F16, 1e-2);
}

#[test]
fn quantized_weights_give_nearly_the_same_logits() {
    compare_prompts(tensors, |case| from_gguf(case, WeightType::Q8_0), CacheType::F32, 0.3);
}
