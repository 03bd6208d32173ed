//! The interface between a loaded model and the engine that batches sequences.

use std::fmt;

use super::{backend::CacheShape, part::Part};

/// Loaded weights, with a cache for keys and values.
///
/// The logits of a token depend on the tokens before it and on nothing else, bit for bit: not on the other parts of a
/// step, and not on how a sequence was divided into steps.
pub trait Model: fmt::Debug + Send {
    /// The number of logits of a token.
    fn vocab(&self) -> usize;

    /// The shape of its cache.
    fn cache(&self) -> CacheShape;

    /// Computes a step: stores keys and values of all tokens, and replaces `logits` by those of the parts that want
    /// them, one row of `vocab` numbers after the other.
    ///
    /// If it fails, the cache contents of the parts' own positions are undefined; the rest of the cache is unchanged.
    fn step(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> candle_core::Result<()>;
}
