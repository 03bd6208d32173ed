//! The state of one answer.

use std::fmt;

use llguidance::api::StopReason;

use super::{
    error::{Error, fault},
    factory::CompiledGrammar,
    mask::Mask,
};

/// Follows one answer through its grammar, token by token.
pub(in crate::candle) struct Matcher {
    inner: llguidance::Matcher,
    grammar: CompiledGrammar,
    position: usize,
    /// True if the answer has its end-of-text token.
    is_over: bool,
}

impl Matcher {
    /// A matcher for an answer without tokens. It shares nothing that changes with other matchers.
    pub(in crate::candle) fn new(grammar: &CompiledGrammar) -> Self {
        let inner = grammar.start();
        Self { inner, grammar: grammar.clone(), position: 0, is_over: false }
    }

    /// Fills the mask with the tokens that may come next. If the answer must end, these are the end-of-text tokens.
    ///
    /// # Errors
    /// [`Error::TooComplex`] if this position takes too much work, [`Error::InvalidGrammar`] if no token of the model
    /// can continue the answer. The answer cannot go on then: each later call fails in the same way.
    pub(in crate::candle) fn mask(&mut self, into: &mut Mask) -> Result<(), Error> {
        let tokens = self.grammar.tokens();
        if self.must_end() {
            into.set_tokens(tokens.ends(), tokens.vocab());
            return Ok(());
        }
        match self.inner.compute_mask() {
            Ok(mask) => {
                into.set(mask.as_slice(), tokens.vocab());
                Ok(())
            }
            Err(error) => Err(fault(&error.to_string(), self.position)),
        }
    }

    /// Takes the next token of the answer.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the grammar does not allow it; the matcher is unchanged then. [`Error::TooComplex`] if it
    /// takes too much work.
    pub(in crate::candle) fn accept(&mut self, token: u32) -> Result<(), Error> {
        let mismatch = Error::Mismatch { position: self.position, token };
        if self.is_over {
            return Err(mismatch);
        }
        if self.grammar.tokens().ends().contains(&token) {
            if !self.is_complete() {
                return Err(mismatch);
            }
            self.is_over = true;
        } else if self.must_end() || token as usize >= self.grammar.tokens().vocab() {
            return Err(mismatch);
        } else {
            match self.inner.try_consume_tokens(&[token]) {
                Ok(0) => return Err(mismatch),
                Ok(_) => {}
                Err(error) => return Err(fault(&error.to_string(), self.position)),
            }
        }
        self.position += 1;
        Ok(())
    }

    /// Takes the tokens of an answer so far, as if each had been accepted.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), for the first token that fails.
    #[cfg(test)]
    pub(in crate::candle) fn resume(&mut self, tokens: &[u32]) -> Result<(), Error> {
        tokens.iter().try_for_each(|token| self.accept(*token))
    }

    /// Returns true if the answer matches the grammar as it is: an end-of-text token is allowed.
    pub(in crate::candle) fn is_complete(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }

    /// Returns true if it is certain that nothing can follow but an end-of-text token, so no token needs to be computed.
    /// Otherwise the mask shows what can follow.
    pub(in crate::candle) fn must_end(&self) -> bool {
        self.is_over || self.inner.stop_reason() == StopReason::NoExtension
    }

    /// The number of tokens that were accepted.
    #[cfg(test)]
    pub(in crate::candle) fn position(&self) -> usize {
        self.position
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("position", &self.position)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
