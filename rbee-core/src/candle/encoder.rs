//! The model interface for making vectors.

use std::fmt;

use candle_core::Tensor;

/// A model that computes the vectors of tokens.
pub(super) trait Encoder: fmt::Debug + Send + Sync {
    /// The vectors of all tokens, as texts × tokens of the longest × width; texts are padded to the longest.
    fn encode(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor>;
}
