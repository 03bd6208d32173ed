//! The set of tokens that may come next.

/// The logit of a token that is not allowed.
const FORBIDDEN: f32 = f32::NEG_INFINITY;

/// Which tokens of a vocabulary may come next. One mask is filled again for each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct Mask {
    /// One bit for each token, from the lowest; the bits after the last token are 0.
    words: Vec<u32>,
    vocab: usize,
}

impl Mask {
    /// A mask for this number of tokens that allows none of them.
    pub(in crate::candle) fn new(vocab: usize) -> Self {
        Self { words: vec![0; vocab.div_ceil(32)], vocab }
    }

    /// Returns true if the token is allowed.
    #[cfg(test)]
    pub(in crate::candle) fn is_allowed(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32).copied().unwrap_or(0);
        (token as usize) < self.vocab && word >> (token % 32) & 1 == 1
    }

    /// The allowed tokens, in ascending order.
    #[cfg(test)]
    pub(in crate::candle) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0_u32..).filter(|(word, _)| **word != 0).flat_map(|(word, at)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 32 + bit)
        })
    }

    /// The number of allowed tokens.
    #[cfg(test)]
    pub(in crate::candle) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Sets the logits of tokens that are not allowed to negative infinity; changes no other. Logits without a token
    /// are not allowed.
    pub(in crate::candle) fn apply(&self, logits: &mut [f32]) {
        let (known, rest) = logits.split_at_mut(logits.len().min(self.vocab));
        for (logits, word) in known.chunks_mut(32).zip(&self.words) {
            match *word {
                u32::MAX => {}
                0 => logits.fill(FORBIDDEN),
                word => {
                    for (logit, bit) in logits.iter_mut().zip(0..32) {
                        if word >> bit & 1 == 0 {
                            *logit = FORBIDDEN;
                        }
                    }
                }
            }
        }
        rest.fill(FORBIDDEN);
    }

    /// Takes over the bits of a vocabulary of `vocab` tokens.
    pub(super) fn set(&mut self, bits: &[u32], vocab: usize) {
        self.vocab = vocab;
        self.words.clear();
        self.words
            .extend(bits.iter().copied().chain(std::iter::repeat(0)).take(vocab.div_ceil(32)));
        if let (Some(last), 1..) = (self.words.last_mut(), vocab % 32) {
            *last &= (1 << (vocab % 32)) - 1;
        }
    }

    /// Allows these tokens only.
    pub(super) fn set_tokens(&mut self, tokens: &[u32], vocab: usize) {
        self.set(&[], vocab);
        for token in tokens.iter().filter(|token| (**token as usize) < vocab) {
            if let Some(word) = self.words.get_mut(*token as usize / 32) {
                *word |= 1 << (token % 32);
            }
        }
    }
}
