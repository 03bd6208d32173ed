//! The models of the fixture.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::rng::Rng;

#[derive(Deserialize)]
struct Fixture {
    models: Vec<Case>,
}

/// A model of random weights, and what the reference library gives for it.
#[derive(Deserialize)]
pub(in crate::candle) struct Case {
    pub(super) name: String,
    /// `config.json`.
    pub(super) config: Value,
    /// The shapes of the tensors in `model.safetensors`.
    pub(super) tensors: BTreeMap<String, Vec<usize>>,
    seed: u64,
    pub(super) prompt: Vec<u32>,
    /// The tokens whose logits are known.
    pub(super) columns: Vec<usize>,
    pub(super) logits: Vec<Known>,
    /// The tokens after the prompt, each the one of the highest logit.
    pub(super) continuation: Vec<u32>,
    /// The weights of a model that is not of the fixture.
    #[serde(skip)]
    stored: BTreeMap<String, Vec<f32>>,
}

/// Logits after the token at a position.
#[derive(Deserialize)]
pub(in crate::candle) struct Known {
    pub(super) position: usize,
    pub(super) values: Vec<f32>,
}

/// All models of the fixture.
pub(super) fn all() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders.json");
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    fixture.models
}

impl Case {
    /// A model with these tensors: their shapes and their numbers.
    pub(in crate::candle) fn of(
        config: Value,
        tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ) -> Self {
        let shape = |(name, (shape, _)): (&String, &(Vec<usize>, _))| (name.clone(), shape.clone());
        Self {
            name: String::new(),
            config,
            tensors: tensors.iter().map(shape).collect(),
            seed: 0,
            prompt: Vec::new(),
            columns: Vec::new(),
            logits: Vec::new(),
            continuation: Vec::new(),
            stored: tensors.into_iter().map(|(name, (_, numbers))| (name, numbers)).collect(),
        }
    }

    /// The weights of a tensor, as `make_decoders.py` makes them. Types of 16 bits have them exactly.
    pub(super) fn tensor(&self, name: &str) -> Vec<f32> {
        if let Some(numbers) = self.stored.get(name) {
            return numbers.clone();
        }
        let shape = &self.tensors[name];
        let cols = shape[shape.len() - 1];
        let parts = numbers(self.seed, name, shape.iter().product());
        if name.ends_with("norm.weight") {
            return parts.map(|part| (part * 16.0).floor() / 16.0 / 4.0 + 1.0).collect();
        }
        let mut scale = 0.25;
        if shape.len() > 1 {
            scale = 1.0;
            while scale * scale * cols as f32 > 4.0 {
                scale /= 2.0;
            }
        }
        parts.map(|part| part * scale).collect()
    }
}

/// Numbers from -1 to 1 with 7 binary digits: the high bytes of SplitMix64, whose state begins at the FNV-1a hash of the
/// name.
fn numbers(seed: u64, name: &str, count: usize) -> impl Iterator<Item = f32> {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut rng = Rng::new(state);
    (0..count).map(move |_| ((rng.next() >> 56) as f32 - 128.0) / 128.0)
}
