//! A token's logits have the same bits whatever is computed beside it, however its sequence is divided into steps, and
//! with every instruction set.

use std::sync::OnceLock;

use bytes::Bytes;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::*;
use crate::{
    architecture::{Activation, Experts, Layer, Pairs, Rope},
    backend::CacheType,
    cpu::Cpu,
    matrix::{StoredMatrix, WeightType},
    rng::Rng,
    weights::{FeedForwardWeights, GatedWeights},
};

const CACHES: [CacheType; 3] = [CacheType::F16, CacheType::F32, CacheType::Q8];
/// More than two blocks of the cache.
const LENGTH: usize = 77;
/// The blocks of the compared sequence: anywhere in the cache, and not in order.
const TABLE: [u32; 3] = [9, 2, 12];
const BLOCKS: usize = 24;

/// A small model with the properties that all families have in common.
fn plain(family: &'static str) -> Architecture {
    let layer = Layer { window: None, rope: 0, experts: false };
    Architecture {
        family,
        vocab: 211,
        hidden: 128,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        inner: 160,
        positions: 256,
        layers: vec![layer; 2],
        ropes: vec![rope(1e4, 16)],
        norm_eps: 1e-5,
        norm_shift: 0.0,
        post_norms: false,
        qk_norm: false,
        qkv_bias: false,
        output_bias: false,
        query_scale: 32_f32.powf(-0.5),
        attention_softcap: None,
        final_softcap: None,
        activation: Activation::Silu,
        embedding_scale: 1.0,
        tied: true,
        experts: None,
    }
}

fn rope(theta: f32, pairs: usize) -> Rope {
    let frequency = |pair: usize| theta.powf(-(pair as f32) / pairs as f32);
    let inverse_frequencies = (0..pairs).map(frequency).collect();
    Rope { inverse_frequencies, magnitude: 1.0, pairs: Pairs::Halves }
}

/// A model of each family.
fn families() -> Vec<Architecture> {
    let mut llama = Architecture { tied: false, ..plain("Llama") };
    llama.ropes[0].pairs = Pairs::Neighbors;
    let mut mistral = Architecture { kv_heads: 1, ..plain("Mistral") };
    mistral.layers[1].window = Some(20);
    let qwen2 = Architecture { qkv_bias: true, ..plain("Qwen2") };
    let qwen3 = Architecture { qk_norm: true, head_dim: 48, ..plain("Qwen3") };
    let experts = Experts { count: 5, used: 2, inner: 96, normalized: true };
    let mut mixture = Architecture { experts: Some(experts), qk_norm: true, ..plain("Qwen3Moe") };
    mixture.layers.iter_mut().for_each(|layer| layer.experts = true);
    let mut gemma2 = Architecture {
        norm_shift: 1.0,
        post_norms: true,
        attention_softcap: Some(5.0),
        final_softcap: Some(12.0),
        activation: Activation::GeluTanh,
        embedding_scale: 128_f32.sqrt(),
        ..plain("Gemma2")
    };
    gemma2.layers[0].window = Some(33);
    let mut gemma3 = Architecture {
        qk_norm: true,
        attention_softcap: None,
        final_softcap: None,
        ropes: vec![rope(1e6, 16), rope(1e4, 16)],
        ..gemma2.clone()
    };
    gemma3.family = "Gemma3";
    gemma3.layers[0].rope = 1;
    let mut phi3 = Architecture { kv_heads: 4, tied: false, ..plain("Phi3") };
    phi3.ropes = vec![Rope { magnitude: 1.2, ..rope(1e4, 12) }];
    vec![llama, mistral, qwen2, qwen3, mixture, gemma2, gemma3, phi3]
}

/// A model wide enough for blocks of 256 weights, and with enough outputs for several threads at a single token.
fn wide() -> Architecture {
    let mut model = Architecture {
        vocab: 1_040,
        hidden: 256,
        head_dim: 64,
        inner: 256,
        qk_norm: true,
        ropes: vec![rope(1e4, 32)],
        query_scale: 0.125,
        ..plain("wide")
    };
    model.layers[0].window = Some(40);
    model
}

/// Random weights of about the sizes that trained models have.
struct Source {
    rng: Rng,
    /// Used in turn.
    kinds: Vec<WeightType>,
    matrices: usize,
}

impl Source {
    fn number(&mut self) -> f32 {
        (self.rng.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn numbers(&mut self, count: usize, middle: f32, size: f32) -> Vec<f32> {
        (0..count).map(|_| middle + size * self.number()).collect()
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> StoredMatrix {
        let kind = self.kinds[self.matrices % self.kinds.len()];
        self.matrices += 1;
        let numbers = self.numbers(rows * cols, 0.0, 2.0 / (cols as f32).sqrt());
        let tensor = Tensor::from_vec(numbers, (rows, cols), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, candles(kind)).unwrap();
        let bytes = Bytes::from(tensor.data().unwrap().into_owned());
        StoredMatrix { kind, rows, cols, bytes }
    }

    fn gated(&mut self, hidden: usize, inner: usize) -> GatedWeights {
        GatedWeights {
            gate: self.matrix(inner, hidden),
            up: self.matrix(inner, hidden),
            down: self.matrix(hidden, inner),
        }
    }

    fn layer(&mut self, model: &Architecture, experts: Option<Experts>) -> LayerWeights {
        let Architecture { hidden, head_dim, qk_norm, post_norms, .. } = *model;
        let (q, kv) = (model.heads * head_dim, model.kv_heads * head_dim);
        let middle = 1.0 - model.norm_shift;
        let mut projection = |rows, cols, bias: bool| Projection {
            matrix: self.matrix(rows, cols),
            bias: bias.then(|| self.numbers(rows, 0.0, 0.5)),
        };
        let qkv_bias = model.qkv_bias;
        let [q, k, v, o] = [
            projection(q, hidden, qkv_bias),
            projection(kv, hidden, qkv_bias),
            projection(kv, hidden, qkv_bias),
            projection(hidden, q, model.output_bias),
        ];
        let mut norm = |width| self.numbers(width, middle, 0.3);
        LayerWeights {
            attention_norm: norm(hidden),
            q,
            k,
            v,
            o,
            q_norm: qk_norm.then(|| norm(head_dim)),
            k_norm: qk_norm.then(|| norm(head_dim)),
            attention_post_norm: post_norms.then(|| norm(hidden)),
            feed_forward_norm: norm(hidden),
            feed_forward_post_norm: post_norms.then(|| norm(hidden)),
            feed_forward: match experts {
                None => FeedForwardWeights::Dense(self.gated(hidden, model.inner)),
                Some(experts) => FeedForwardWeights::Experts {
                    router: self.matrix(experts.count, hidden),
                    experts: (0..experts.count)
                        .map(|_| self.gated(hidden, experts.inner))
                        .collect(),
                },
            },
        }
    }
}

const fn candles(kind: WeightType) -> GgmlDType {
    match kind {
        WeightType::F32 => GgmlDType::F32,
        WeightType::F16 => GgmlDType::F16,
        WeightType::Bf16 => GgmlDType::BF16,
        WeightType::Q4_0 => GgmlDType::Q4_0,
        WeightType::Q4_1 => GgmlDType::Q4_1,
        WeightType::Q5_0 => GgmlDType::Q5_0,
        WeightType::Q5_1 => GgmlDType::Q5_1,
        WeightType::Q8_0 => GgmlDType::Q8_0,
        WeightType::Q2K => GgmlDType::Q2K,
        WeightType::Q3K => GgmlDType::Q3K,
        WeightType::Q4K => GgmlDType::Q4K,
        WeightType::Q5K => GgmlDType::Q5K,
        WeightType::Q6K => GgmlDType::Q6K,
    }
}

/// Weights of these types. Equal calls give equal weights.
fn weights(model: &Architecture, kinds: &[WeightType]) -> DecoderWeights {
    let mut source = Source { rng: Rng::new(7), kinds: kinds.to_vec(), matrices: 0 };
    DecoderWeights {
        embeddings: source.matrix(model.vocab, model.hidden),
        layers: (model.layers.iter())
            .map(|layer| source.layer(model, model.experts.filter(|_| layer.experts)))
            .collect(),
        output_norm: source.numbers(model.hidden, 1.0 - model.norm_shift, 0.3),
        output: (!model.tied).then(|| source.matrix(model.vocab, model.hidden)),
    }
}

fn tokens(seed: u64, length: usize, vocab: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..length).map(|_| rng.below(vocab as u64) as u32).collect()
}

/// A decoder, and the sequence whose logits are compared.
struct Bench {
    decoder: Decoder<Cpu>,
    sequence: Vec<u32>,
    /// The logits of all its positions, as bits.
    expected: Vec<Vec<u32>>,
}

impl Bench {
    fn new(backend: Cpu, model: &Architecture, weights: DecoderWeights, kind: CacheType) -> Self {
        let shape = CacheShape::of(model, kind, BLOCKS);
        let decoder = Decoder::new(backend, model.clone(), weights, shape).unwrap();
        let sequence = tokens(3, LENGTH, model.vocab);
        let mut bench = Self { decoder, sequence, expected: Vec::new() };
        bench.expected = bench.alone(&TABLE, &[LENGTH]);
        let (first, last) = (&bench.expected[0], &bench.expected[LENGTH - 1]);
        assert!(last.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{}", model.family);
        assert_ne!(first, last, "{}", model.family);
        bench
    }

    /// Computes a step, and returns the logits of every token of one of its parts.
    fn step(&mut self, parts: &[Part<'_>], own: usize) -> Vec<Vec<u32>> {
        let mut logits = Vec::new();
        self.decoder.step(parts, &mut logits).unwrap();
        let wanted: Vec<&Part<'_>> = parts.iter().filter(|part| part.logits).collect();
        assert_eq!(logits.len(), wanted.len() * self.decoder.vocab());
        let own_row = parts[..own].iter().filter(|part| part.logits).count();
        let last = bits(&logits[own_row * self.decoder.vocab()..][..self.decoder.vocab()]);
        // A step gives the logits of the last token only; the rows of the others are still there.
        let first: usize = parts[..own].iter().map(|part| part.tokens.len()).sum();
        let rows = first..first + parts[own].tokens.len();
        self.decoder.space.last = rows.map(|row| row as u32).collect();
        self.decoder.logits(&mut logits).unwrap();
        let all: Vec<_> = logits.chunks(self.decoder.vocab()).map(bits).collect();
        assert!(all.last() == Some(&last), "the logits of the last token depend on the others'");
        all
    }

    /// The logits of the whole sequence, computed alone in steps of these lengths, which repeat.
    fn alone(&mut self, table: &[u32], lengths: &[usize]) -> Vec<Vec<u32>> {
        let sequence = self.sequence.clone();
        let mut all = Vec::new();
        for length in lengths.iter().cycle() {
            let start = all.len();
            let end = LENGTH.min(start + length);
            let part = Part { tokens: &sequence[start..end], start, blocks: table, logits: true };
            all.extend(self.step(&[part], 0));
            if end == LENGTH {
                break;
            }
        }
        all
    }

    /// The logits of the sequence, computed beside seven others: those come and go, two continue the sequence's first
    /// block with tokens of their own, and the place of the sequence in a step changes.
    fn beside_others(&mut self) -> Vec<Vec<u32>> {
        let sequence = self.sequence.clone();
        let vocab = self.decoder.vocab();
        let lengths = [50, 64, 33, 5, 1, 60, 41];
        let mut others: Vec<Vec<u32>> = lengths
            .iter()
            .enumerate()
            .map(|(at, length)| tokens(20 + at as u64, *length, vocab))
            .collect();
        let mut tables: Vec<Vec<u32>> =
            [[0, 1], [3, 4], [6, 5], [7, 8], [10, 11], [14, 13], [16, 15]].map(Vec::from).to_vec();
        for shared in [0, 5] {
            others[shared][..BLOCK].copy_from_slice(&sequence[..BLOCK]);
            tables[shared][0] = TABLE[0];
        }
        let mut done = [0; 7];
        (done[0], done[5]) = (BLOCK, BLOCK);
        let mut all = Vec::new();
        for (number, length) in [2, 31, 1, 1, 14, 1, 1, 26].into_iter().enumerate() {
            let end = all.len() + length;
            let own = Part {
                tokens: &sequence[all.len()..end],
                start: all.len(),
                blocks: &TABLE[..end.div_ceil(BLOCK)],
                logits: true,
            };
            let mut parts = Vec::new();
            for (at, other) in others.iter().enumerate() {
                // The shared block is there after the sequence has computed it.
                let waits = all.len() < BLOCK && (at == 0 || at == 5);
                // Some take one token, some many.
                let count = (1 + (at + number) % 3 * 9).min(other.len() - done[at]);
                if !waits && count > 0 {
                    let tokens = &other[done[at]..done[at] + count];
                    let logits = at % 2 == 0;
                    parts.push(Part { tokens, start: done[at], blocks: &tables[at], logits });
                    done[at] += count;
                }
            }
            let place = number % (parts.len() + 1);
            parts.insert(place, own);
            all.extend(self.step(&parts, place));
        }
        assert_eq!(all.len(), LENGTH);
        all
    }

    #[track_caller]
    fn expect(&self, got: &[Vec<u32>], how: &str) {
        let name = (self.decoder.architecture.family, self.decoder.shape.kind);
        let differs = self.expected.iter().zip(got).position(|(expected, got)| expected != got);
        assert_eq!((got.len(), differs), (LENGTH, None), "{name:?} {how}");
    }

    /// Compares all ways to compute the sequence.
    fn compare(&mut self, what: &str) {
        for (threads, pool) in [(1, &pools()[0]), (3, &pools()[1])] {
            let how = |how: &str| format!("{what}: {how}, with {threads} threads");
            let mut whole = pool.install(|| self.alone(&[20, 0, 7], &[LENGTH]));
            self.expect(&whole, &how("at once, in other blocks"));
            // Another sequence with the same beginning uses the blocks of this one.
            let sequence = self.sequence.clone();
            let start = 2 * BLOCK;
            let part =
                Part { tokens: &sequence[start..], start, blocks: &[20, 0, 23], logits: true };
            whole.splice(start.., pool.install(|| self.step(&[part], 0)));
            self.expect(&whole, &how("after the blocks of another sequence"));
            let single = pool.install(|| self.alone(&TABLE, &[1]));
            self.expect(&single, &how("token by token"));
            let chunks = pool.install(|| self.alone(&[4, 3, 2], &[5, 29, 3, 17, 1, 2]));
            self.expect(&chunks, &how("in chunks"));
            let beside = pool.install(|| self.beside_others());
            self.expect(&beside, &how("beside others"));
        }
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// One thread, and three.
fn pools() -> &'static [ThreadPool; 2] {
    static POOLS: OnceLock<[ThreadPool; 2]> = OnceLock::new();
    POOLS.get_or_init(|| {
        [1, 3].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
    })
}

#[test]
fn models_of_every_family_give_the_same_bits_alone_and_in_chunks_and_beside_others() {
    let kinds = [WeightType::Q8_0, WeightType::Q5_0, WeightType::F16, WeightType::Q4_0];
    for model in families() {
        for kind in CACHES {
            let mut bench = Bench::new(Cpu::new(), &model, weights(&model, &kinds), kind);
            bench.compare("weights of several types");
        }
    }
}

#[test]
fn weights_of_every_type_give_the_same_bits_alone_and_in_chunks_and_beside_others() {
    let model = wide();
    for (kind, cache) in WeightType::ALL.into_iter().zip(CACHES.into_iter().cycle()) {
        let mut bench = Bench::new(Cpu::new(), &model, weights(&model, &[kind]), cache);
        bench.compare(kind.name());
    }
}

#[test]
fn every_instruction_set_gives_the_same_logits() {
    let kinds = vec![WeightType::Q8_0, WeightType::Bf16];
    let mut cases: Vec<_> = families().into_iter().map(|model| (model, kinds.clone())).collect();
    let mut model = wide();
    model.layers.truncate(1);
    cases.extend(WeightType::ALL.map(|kind| (model.clone(), vec![kind])));
    for ((model, kinds), cache) in cases.into_iter().zip(CACHES.into_iter().cycle()) {
        let mut expected = None;
        for backend in Cpu::every() {
            let mut bench = Bench::new(backend, &model, weights(&model, &kinds), cache);
            let sequence = bench.sequence.clone();
            for (at, token) in sequence.iter().enumerate().skip(LENGTH - 5) {
                let part = Part { tokens: &[*token], start: at, blocks: &TABLE, logits: true };
                assert!(bench.step(&[part], 0)[0] == bench.expected[at], "{backend:?} {kinds:?}");
            }
            let expected = expected.get_or_insert_with(|| bench.expected.clone());
            let name = model.family;
            assert!(*expected == bench.expected, "{name} {kinds:?} {cache:?} {backend:?}");
        }
    }
}

#[test]
fn a_cache_longer_than_the_model_does_not_make_its_texts_longer() {
    let model = Architecture { positions: 40, ..plain("Llama") };
    let weights = weights(&model, &[WeightType::F32]);
    let shape = CacheShape::of(&model, CacheType::F16, BLOCKS);
    let mut decoder = Decoder::new(Cpu::new(), model, weights, shape).unwrap();
    let tokens = tokens(3, 41, 211);
    let part =
        |count: usize| Part { tokens: &tokens[..count], start: 0, blocks: &TABLE, logits: true };
    assert!(decoder.step(&[part(40)], &mut Vec::new()).is_ok());
    let error = decoder.step(&[part(41)], &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("ends at position 41 of 40"), "{error}");
}
