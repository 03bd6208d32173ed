//! A part of a step.

/// The part of a step that belongs to one sequence: some of its tokens, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The tokens to compute; at least one.
    pub tokens: &'a [u32],
    /// The position of the first one: this many tokens of the sequence are in the cache already.
    pub start: usize,
    /// The blocks of the cache that hold the sequence, in order: position `p` is entry `p % BLOCK` of block
    /// `blocks[p / BLOCK]`. There are enough for all positions below `start + tokens.len()`. Blocks before `start`'s may
    /// be shared with other sequences; they are only read.
    pub blocks: &'a [u32],
    /// True if the logits after the last token are wanted.
    pub logits: bool,
}
