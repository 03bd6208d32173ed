//! Decoders of every family compared with the transformers library: `tests/fixtures/decoders.json`.

mod by_hand;
mod cases;

use candle_core::Device;

use self::cases::Case;
use super::{
    backend::{BLOCK, Backend, CacheShape, CacheType},
    forward::Decoder,
    matrix::WeightType,
    model::{Model, Part},
};
use crate::candle::tensors::Tensors;

/// The blocks of a sequence are anywhere in the cache.
const TABLES: [[u32; 4]; 2] = [[6, 2, 7, 0], [1, 5, 3, 4]];

fn decoder<B: Backend>(backend: B, case: &Case, stored: WeightType, kind: CacheType) -> Decoder<B> {
    let architecture = by_hand::architecture(&case.config);
    let weights = by_hand::weights(case, &architecture, stored);
    let shape = CacheShape {
        kind,
        layers: architecture.layers.len(),
        blocks: TABLES.as_flattened().len(),
        kv_heads: architecture.kv_heads,
        head_dim: architecture.head_dim,
    };
    Decoder::new(backend, architecture, weights, shape).unwrap()
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

    /// Compares the logits of the prompt, whose chunks end where logits are known.
    fn compare_prompt(&mut self, case: &Case, tolerance: f32) -> u32 {
        let others: Vec<u32> = case.prompt.iter().rev().copied().collect();
        let (mut start, mut next) = (0, 0);
        for known in &case.logits {
            let chunk = start..known.position + 1;
            let logits = self.step(start, &case.prompt[chunk.clone()], &others[chunk.clone()]);
            for (column, expected) in case.columns.iter().zip(&known.values) {
                let (got, name) = (logits[*column], &case.name);
                assert!(
                    (got - expected).abs() <= tolerance * expected.abs().max(1.0),
                    "{name}: position {}, token {column}: {got} is not {expected}",
                    known.position
                );
            }
            (start, next) = (chunk.end, best(logits));
        }
        next
    }
}

/// Compares logits and continuation.
fn compare<B: Backend>(backend: impl Fn() -> B, tolerance: f32) {
    for case in cases::all() {
        let decoder = decoder(backend(), &case, WeightType::F32, CacheType::F32);
        let mut pair = Pair { decoder, logits: Vec::new() };
        let mut tokens = vec![pair.compare_prompt(&case, tolerance)];
        while tokens.len() < case.continuation.len() {
            let (start, last) = (case.prompt.len() + tokens.len() - 1, tokens[tokens.len() - 1]);
            let next = best(pair.step(start, &[last], &[7]));
            tokens.push(next);
        }
        assert_eq!(tokens, case.continuation, "{}", case.name);
    }
}

#[test]
fn candles_tensors_give_the_logits_and_tokens_of_the_reference_library() {
    compare(|| Tensors::new(Device::Cpu), 1e-4);
}
