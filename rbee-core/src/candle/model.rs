//! The model interface for generation, and the Llama family behind it.
//!
//! The trait is small on purpose: a batched engine can replace this one, which computes one sequence at a time.

use std::{collections::HashMap, fmt};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama};

use super::config::ModelConfig;

/// Loaded weights.
pub(super) trait Model: fmt::Debug + Send {
    /// A sequence without tokens.
    fn sequence(&self) -> Box<dyn Sequence + '_>;
}

/// One text that grows.
pub(super) trait Sequence {
    /// Adds tokens and returns the logits of the next token.
    ///
    /// The last bits of the logits may depend on how many tokens were added at once, and on nothing else.
    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>>;
}

/// A model of the Llama family.
pub(super) struct LlamaModel {
    llama: Llama,
    /// A cache without tokens; it is cloned for each sequence.
    empty: Cache,
    device: Device,
}

impl LlamaModel {
    /// Builds the model from tensors that were checked against this configuration.
    pub(super) fn new(
        config: &ModelConfig,
        tensors: HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let vars = VarBuilder::from_tensors(tensors, dtype, device);
        Ok(Self {
            llama: Llama::load(vars, &config.llama)?,
            empty: Cache::new(true, dtype, &config.llama, device)?,
            device: device.clone(),
        })
    }
}

impl fmt::Debug for LlamaModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlamaModel").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Model for LlamaModel {
    fn sequence(&self) -> Box<dyn Sequence + '_> {
        Box::new(LlamaSequence { model: self, cache: self.empty.clone(), length: 0 })
    }
}

struct LlamaSequence<'a> {
    model: &'a LlamaModel,
    cache: Cache,
    length: usize,
}

impl Sequence for LlamaSequence<'_> {
    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let input = Tensor::new(tokens, &self.model.device)?.unsqueeze(0)?;
        let logits = self.model.llama.forward(&input, self.length, &mut self.cache)?;
        self.length += tokens.len();
        logits.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()
    }
}
