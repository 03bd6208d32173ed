//! The interface between a loaded model and the engine that batches sequences.

use std::fmt;

use super::backend::CacheShape;

/// The part of a step that belongs to one sequence: some of its tokens, one after the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::candle) struct Part<'a> {
    /// The tokens to compute; at least one.
    pub(in crate::candle) tokens: &'a [u32],
    /// The position of the first one: this many tokens of the sequence are in the cache already.
    pub(in crate::candle) start: usize,
    /// The blocks of the cache that hold the sequence, in order: position `p` is entry `p % BLOCK` of block
    /// `blocks[p / BLOCK]`. There are enough for all positions below `start + tokens.len()`. Blocks before `start`'s may
    /// be shared with other sequences; they are only read.
    pub(in crate::candle) blocks: &'a [u32],
    /// True if the logits after the last token are wanted.
    pub(in crate::candle) logits: bool,
}

/// Loaded weights, with a cache for keys and values.
///
/// The logits of a token depend on the tokens before it and on nothing else, bit for bit: not on the other parts of a
/// step, and not on how a sequence was divided into steps.
pub(in crate::candle) trait Model: fmt::Debug + Send {
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
