//! The Llama family, computed by candle.

use std::{collections::HashMap, fmt};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama};

use super::{
    config::ModelConfig,
    decoder::{
        backend::{BLOCK, CacheShape, CacheType},
        model::{Model, Part},
    },
};

/// The sequences whose keys and values are kept.
const MOST_SEQUENCES: usize = 64;

/// A model of the Llama family.
///
/// Every token is computed alone, because the kernels round differently for one row than for many. Keys and values are
/// kept for whole sequences; the blocks of the cache only record the tokens.
pub(super) struct LlamaModel {
    llama: Llama,
    /// A cache without tokens; it is cloned for each sequence.
    empty: Cache,
    device: Device,
    vocab: usize,
    shape: CacheShape,
    /// The token of every entry of every block.
    tokens: Vec<[u32; BLOCK]>,
    /// The last sequences, with their tokens.
    sequences: Vec<(Vec<u32>, Cache)>,
}

impl LlamaModel {
    /// Builds the model from tensors that were checked against this configuration.
    pub(super) fn new(
        config: &ModelConfig,
        tensors: HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
        blocks: usize,
    ) -> candle_core::Result<Self> {
        let vars = VarBuilder::from_tensors(tensors, dtype, device);
        let llama = &config.llama;
        Ok(Self {
            llama: Llama::load(vars, llama)?,
            empty: Cache::new(true, dtype, llama, device)?,
            device: device.clone(),
            vocab: llama.vocab_size,
            shape: CacheShape {
                kind: if dtype == DType::F32 { CacheType::F32 } else { CacheType::F16 },
                layers: llama.num_hidden_layers,
                blocks,
                kv_heads: llama.num_key_value_heads,
                head_dim: llama.hidden_size / llama.num_attention_heads,
            },
            tokens: vec![[0; BLOCK]; blocks],
            sequences: Vec::new(),
        })
    }

    fn part(&mut self, part: &Part<'_>) -> candle_core::Result<Vec<f32>> {
        let before: Vec<u32> = (0..part.start)
            .map(|at| self.tokens[part.blocks[at / BLOCK] as usize][at % BLOCK])
            .collect();
        for (at, token) in (part.start..).zip(part.tokens) {
            self.tokens[part.blocks[at / BLOCK] as usize][at % BLOCK] = *token;
        }
        let known = self.sequences.iter().position(|(tokens, _)| *tokens == before);
        let (mut tokens, mut cache) = match known {
            Some(known) => self.sequences.remove(known),
            None => (Vec::new(), self.empty.clone()),
        };
        let missing = before[tokens.len()..].iter().chain(part.tokens);
        let mut logits = Vec::new();
        for token in missing {
            let input = Tensor::new(&[*token], &self.device)?.unsqueeze(0)?;
            let output = self.llama.forward(&input, tokens.len(), &mut cache)?;
            tokens.push(*token);
            if part.logits && tokens.len() == part.start + part.tokens.len() {
                logits = output.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()?;
            }
        }
        if self.sequences.len() == MOST_SEQUENCES {
            self.sequences.remove(0);
        }
        self.sequences.push((tokens, cache));
        Ok(logits)
    }
}

impl fmt::Debug for LlamaModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlamaModel").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Model for LlamaModel {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn cache(&self) -> CacheShape {
        self.shape
    }

    fn step(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> candle_core::Result<()> {
        logits.clear();
        for part in parts {
            logits.extend(self.part(part)?);
        }
        Ok(())
    }
}
