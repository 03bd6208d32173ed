//! The bytes of each token of a model.

use super::{error::Error, limits};
use crate::candle::text::tokenizer::{Codec, Meaning};

/// One token of a vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TokenEntry {
    /// No token has this id, or it stands for nothing. It is never allowed.
    #[default]
    None,
    /// A token that stands for these bytes.
    Bytes(Vec<u8>),
    /// A control token with this name. It has no text.
    Control(String),
}

/// The bytes of each token of a model.
#[derive(Clone, Debug)]
pub(in crate::candle) struct TokenTable {
    pub(super) entries: Vec<TokenEntry>,
}

impl TokenTable {
    /// The table of a model with logits for the first `vocab_size` tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it is too large.
    pub(in crate::candle) fn of(codec: &Codec, vocab_size: usize) -> Result<Self, Error> {
        let entry = |token| match codec.meaning(token) {
            None => TokenEntry::None,
            Some(Meaning::Text(bytes)) => TokenEntry::Bytes(bytes),
            Some(Meaning::Control(name)) => TokenEntry::Control(name),
        };
        Self::new((0..u32::try_from(vocab_size).unwrap_or(u32::MAX)).map(entry).collect())
    }

    /// Checks the sizes that the trie of the tokens can have.
    pub(super) fn new(mut entries: Vec<TokenEntry>) -> Result<Self, Error> {
        let most = limits::MAX_VOCAB;
        if entries.is_empty() || entries.len() > most {
            let count = entries.len();
            return Err(Error::tokenizer(format!(
                "the model has {count} tokens; allowed for constrained decoding are 1 to {most}"
            )));
        }
        for entry in &mut entries {
            let is_usable = match entry {
                TokenEntry::None => true,
                TokenEntry::Bytes(bytes) => (1..=limits::MAX_TOKEN_BYTES).contains(&bytes.len()),
                TokenEntry::Control(name) => (1..=limits::MAX_TOKEN_BYTES).contains(&name.len()),
            };
            if !is_usable {
                *entry = TokenEntry::None;
            }
        }
        let table = Self { entries };
        let total: usize = (0..table.len()).map(|token| table.word(token).len()).sum();
        if total > limits::MAX_TABLE_BYTES {
            return Err(Error::tokenizer(format!(
                "the tokens of the model have {total} bytes together; allowed for constrained decoding are {}",
                limits::MAX_TABLE_BYTES
            )));
        }
        Ok(table)
    }

    /// The number of tokens.
    pub(in crate::candle) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the text that a token stands for; `None` if it has no text.
    #[cfg(test)]
    pub(in crate::candle) fn bytes(&self, token: u32) -> Option<&[u8]> {
        match self.entries.get(token as usize)? {
            TokenEntry::Bytes(bytes) => Some(bytes),
            TokenEntry::None | TokenEntry::Control(_) => None,
        }
    }

    /// Makes the tokens that end an answer control tokens: text must never contain them.
    pub(super) fn mark_ends(&mut self, ends: &[u32]) {
        for end in ends {
            if let Some(entry) = self.entries.get_mut(*end as usize)
                && !matches!(entry, TokenEntry::Control(_))
            {
                let name = match entry {
                    TokenEntry::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    _ => format!("<|end {end}|>"),
                };
                *entry = TokenEntry::Control(name);
            }
        }
    }

    /// The control tokens with their names.
    pub(super) fn controls(&self) -> impl Iterator<Item = (u32, &str)> {
        self.entries.iter().zip(0..).filter_map(|(entry, id)| match entry {
            TokenEntry::Control(name) => Some((id, name.as_str())),
            _ => None,
        })
    }

    /// The token in the spelling of the trie.
    pub(super) fn word(&self, token: usize) -> Vec<u8> {
        match self.entries.get(token) {
            Some(TokenEntry::Bytes(bytes)) => bytes.clone(),
            Some(TokenEntry::Control(name)) => {
                let mut word = vec![toktrie::TokTrie::SPECIAL_TOKEN_MARKER];
                word.extend_from_slice(name.as_bytes());
                word
            }
            Some(TokenEntry::None) | None => Vec::new(),
        }
    }
}
