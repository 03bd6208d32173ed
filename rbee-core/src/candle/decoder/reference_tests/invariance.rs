//! Loaded models of every family give the same bits for a sequence, however it is computed.

use super::{files::LoadedCase, *};

/// The positions whose logits are compared: both sides of the blocks of the cache, and others.
const ENDS: [usize; 9] = [1, 2, 17, 31, 32, 33, 63, 64, 65];

/// The logits at [`ENDS`], as bits, of the prompt of a case and what follows it.
struct Sequence<'a> {
    decoder: Decoder<Cpu>,
    tokens: &'a [u32],
}

impl Sequence<'_> {
    /// The logits after the last of these tokens, beside the ends of other sequences.
    fn step(
        &mut self,
        range: std::ops::Range<usize>,
        blocks: &[u32],
        beside: &[Part<'_>],
    ) -> Vec<u32> {
        let tokens = &self.tokens[range.clone()];
        let own = Part { tokens, start: range.start, blocks, logits: true };
        let parts = [beside, &[own]].concat();
        let mut logits = Vec::new();
        self.decoder.step(&parts, &mut logits).unwrap();
        let own = &logits[logits.len() - self.decoder.vocab()..];
        own.iter().map(|logit| logit.to_bits()).collect()
    }
}

fn compare(name: &str, tokens: &[u32], loaded: LoadedCase) {
    let mut sequence = Sequence { decoder: decoder(Cpu::new(), loaded, CacheType::F16), tokens };
    let [blocks, other] = TABLES;
    let at_once = ENDS.map(|end| sequence.step(0..end, &blocks, &[]));
    let mut single = Vec::new();
    for at in 0..ENDS[8] {
        let logits = sequence.step(at..at + 1, &blocks, &[]);
        if ENDS.contains(&(at + 1)) {
            single.push(logits);
        }
    }
    assert!(single == at_once, "{name}, token by token");
    let mut start = 0;
    for (end, expected) in ENDS.into_iter().zip(&at_once) {
        let chunk = sequence.step(start..end, &blocks, &[]);
        assert!(chunk == *expected, "{name}, in a chunk up to {end}");
        start = end;
    }
    // The other one reads the first block of the sequence, and replaces the rest by its own.
    let reversed: Vec<u32> = tokens.iter().rev().copied().collect();
    let other = [blocks[0], other[1], other[2], other[3]];
    for (number, (end, expected)) in ENDS.into_iter().zip(&at_once).enumerate().skip(4) {
        let beside = [
            Part {
                tokens: &reversed[..1 + number * 5],
                start: BLOCK,
                blocks: &other,
                logits: true,
            },
            Part {
                tokens: &reversed[..number],
                start: BLOCK,
                blocks: &[blocks[0], 4],
                logits: false,
            },
        ];
        let got = sequence.step(BLOCK - 1..end, &blocks, &beside);
        assert!(got == *expected, "{name}, beside others up to {end}");
    }
}

#[test]
fn a_loaded_model_of_every_family_gives_the_same_bits_however_its_tokens_are_divided() {
    for case in cases::all() {
        let tokens = [&case.prompt[..], &case.continuation].concat();
        compare(&case.name, &tokens, safetensors(&case, WeightType::Bf16));
        if gguf::can_have(&case) {
            compare(&case.name, &tokens, whole_gguf(&case, WeightType::Q8_0));
        }
    }
}
