//! The state of one sequence in the batch.

use std::time::Duration;

use super::{outlet::Outlet, prefix::Chain};
use crate::candle::generate::Generation;

/// A run that generates, and its blocks.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) generation: Box<Generation>,
    pub(super) outlet: Outlet,
    pub(super) chain: Chain,
    /// The number of tokens whose keys and values are in the blocks.
    pub(super) computed: usize,
    /// When it joined.
    pub(super) since: Duration,
}

impl Sequence {
    /// True if a step can compute some of its tokens.
    pub(super) fn is_ready(&self) -> bool {
        !self.outlet.is_full() && !self.outlet.has_ended()
    }

    /// True if it has blocks.
    pub(super) fn has_begun(&self) -> bool {
        !self.chain.blocks.is_empty()
    }

    /// The tokens that are not computed yet.
    pub(super) fn missing(&self) -> usize {
        self.generation.tokens().len() - self.computed
    }

    /// True if its next token needs one row of a step.
    pub(super) fn generates(&self) -> bool {
        self.has_begun() && self.missing() == 1 && !self.generation.is_new()
    }
}
