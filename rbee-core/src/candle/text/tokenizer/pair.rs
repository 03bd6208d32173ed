//! Two texts as one input: a query and a document.

use tokenizers::{Encoding, PostProcessor, TruncationDirection};

use super::{Codec, PromptText};
use crate::error::Result;

/// The tokens of one text, before it becomes part of a pair.
#[derive(Clone, Debug)]
pub(in crate::candle) struct Half(Encoding);

impl Half {
    /// The number of its tokens.
    pub(in crate::candle) fn len(&self) -> usize {
        self.0.len()
    }

    /// Cuts it at the end, to this many tokens.
    pub(in crate::candle) fn truncate(&mut self, tokens: usize) {
        self.0.truncate(tokens, 0, TruncationDirection::Right);
        // The rest would become pairs of its own.
        self.0.take_overflowing();
    }
}

/// The tokens of a pair, in the form that the tokenizer gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct Pair {
    /// The tokens, with those that separate the texts.
    pub(in crate::candle) ids: Vec<u32>,
    /// For each token, the number of the text that it belongs to; empty if all are 0.
    pub(in crate::candle) types: Vec<u32>,
}

impl Codec {
    /// The tokens of a text of the request, without those that the tokenizer adds.
    pub(in crate::candle) fn half(&self, text: &str) -> Result<Half> {
        self.encode_apart(&PromptText::from_caller(text))
            .map(Half)
            .map_err(|cause| self.unencodable(&cause))
    }

    /// The number of tokens that the tokenizer adds to a pair.
    pub(in crate::candle) fn added_to_pair(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(true))
    }

    /// Joins two texts as the tokenizer's template for pairs says.
    pub(in crate::candle) fn pair(&self, first: &Half, second: Half) -> Result<Pair> {
        let Half(mut second) = second;
        // A template replaces these.
        second.set_type_ids(vec![1; second.len()]);
        let joined = self
            .tokenizer
            .post_process(first.0.clone(), Some(second), true)
            .map_err(|cause| self.unencodable(&cause))?;
        self.check_vocab(joined.get_ids())?;
        let mut types = joined.get_type_ids().to_vec();
        if types.iter().all(|number| *number == 0) {
            types = Vec::new();
        }
        Ok(Pair { ids: joined.get_ids().to_vec(), types })
    }
}
