//! Masks: which tokens may come next in one answer.

use std::fmt;

use crate::error::Result;

/// The logit of a token that is not allowed.
pub(super) const FORBIDDEN: f32 = f32::NEG_INFINITY;

/// Restricts the next token of one answer. It sees every token of the answer, also those of earlier attempts, so an
/// answer that another worker continues is restricted in the same way.
pub(super) trait TokenMask: fmt::Debug + Send {
    /// Sets the logits of the tokens that may not come next to [`FORBIDDEN`]; changes no other.
    ///
    /// # Errors
    /// The answer cannot go on.
    fn apply(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Takes note of the next token of the answer.
    fn advance(&mut self, token: u32);

    /// Returns true if every token is allowed from now on.
    fn is_over(&self) -> bool;
}

/// Forbids the tokens that end an answer until it has a minimum length.
#[derive(Debug)]
pub(super) struct MinTokens {
    left: u32,
    ends: Box<[u32]>,
}

impl MinTokens {
    pub(super) fn new(min_tokens: u32, ends: &[u32]) -> Self {
        Self { left: min_tokens, ends: ends.into() }
    }
}

impl TokenMask for MinTokens {
    fn apply(&mut self, logits: &mut [f32]) -> Result<()> {
        // Another mask may have left only the end.
        let is_end = |token: usize| self.ends.iter().any(|end| *end as usize == token);
        let is_other = |(token, logit): (usize, &f32)| *logit != FORBIDDEN && !is_end(token);
        if self.left == 0 || !logits.iter().enumerate().any(is_other) {
            return Ok(());
        }
        for token in &self.ends {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = FORBIDDEN;
            }
        }
        Ok(())
    }

    fn advance(&mut self, _token: u32) {
        self.left = self.left.saturating_sub(1);
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}
