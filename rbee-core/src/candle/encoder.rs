//! The model interfaces for making vectors, and for scoring pairs of texts.

use std::fmt;

use candle_core::Tensor;

use super::text::tokenizer::Pair;

/// A model that computes the vectors of tokens.
pub(super) trait Encoder: fmt::Debug + Send + Sync {
    /// The vectors of all tokens, as texts × tokens of the longest × width; texts are padded to the longest.
    fn encode(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor>;
}

/// A model that scores pairs of texts.
pub(super) trait PairScorer: fmt::Debug + Send + Sync {
    /// A number for each pair; pairs are padded to the longest.
    fn logits(&self, pairs: &[&Pair]) -> candle_core::Result<Vec<f32>>;
}
