//! Byte-pair encoding by score: the vocabularies of SentencePiece (Kudo and Richardson, 2018), as Llama 2, Mistral,
//! Gemma and Phi-3 have them.
//!
//! Neighbors whose texts together are a token merge; of all such pairs the one whose token has the highest score comes
//! first, and of equal ones the leftmost. So no list of merges is needed, and none is made: a vocabulary of 262,144
//! tokens would have half a million.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{BuildHasher, RandomState},
};

use tokenizers::Token;

use crate::model_info::gguf::{ByteStrings, TokenKind};

const SPACE: char = '▁';
/// No symbol.
const NONE: u32 = u32::MAX;

/// A vocabulary with scores.
#[derive(Debug)]
pub(in crate::candle) struct ScoredTokens {
    tokens: ByteStrings,
    kinds: Vec<TokenKind>,
    /// A number for each token, higher for higher scores.
    ranks: Vec<u32>,
    /// A hash table with open addressing: an id plus 1, or 0. At most half of it is in use.
    table: Vec<u32>,
    hasher: RandomState,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// The length of the longest token, in bytes.
    longest: usize,
}

/// The reason why a vocabulary cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(in crate::candle) enum ScoreFault {
    #[error("tokens {0} and {1} are the same text")]
    Twice(u32, u32),
    #[error("the score of token {0} is not a number")]
    Score(u32),
    #[error(
        "the vocabulary has no token for byte {0:#04x}, and none for unknown text: some texts would have no tokens"
    )]
    Byte(u8),
}

impl ScoredTokens {
    /// Makes the tables. There must be as many kinds as tokens, and as many scores or none.
    pub(in crate::candle) fn new(
        tokens: ByteStrings,
        scores: &[f32],
        kinds: Vec<TokenKind>,
        unknown: Option<u32>,
    ) -> Result<Self, ScoreFault> {
        let mut ranks = Vec::with_capacity(tokens.len());
        for id in 0..tokens.len() {
            let score = scores.get(id).copied().unwrap_or(0.0);
            if score.is_nan() {
                return Err(ScoreFault::Score(id as u32));
            }
            ranks.push(rank(score));
        }
        let size = (tokens.len() * 2).next_power_of_two();
        let longest = tokens.iter().map(<[u8]>::len).max().unwrap_or(0);
        let mut scored = Self {
            tokens,
            kinds,
            ranks,
            table: vec![0; size],
            hasher: RandomState::new(),
            bytes: Vec::new(),
            unknown,
            longest,
        };
        for id in 0..scored.tokens.len() as u32 {
            let text = scored.tokens.get(id as usize).unwrap_or_default();
            let slot = scored.slot(text);
            if scored.table[slot] != 0 {
                return Err(ScoreFault::Twice(scored.table[slot] - 1, id));
            }
            scored.table[slot] = id + 1;
        }
        scored.bytes =
            (0..=u8::MAX).map(|b| scored.id(format!("<0x{b:02X}>").as_bytes())).collect();
        if unknown.is_none()
            && let Some(byte) =
                (0..=u8::MAX).find(|byte| scored.bytes[usize::from(*byte)].is_none())
        {
            return Err(ScoreFault::Byte(byte));
        }
        Ok(scored)
    }

    /// The index of a text's entry in the table, or of the free entry for it.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        while let Some(id) = self.table[slot].checked_sub(1) {
            if self.tokens.get(id as usize) == Some(text) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The number of tokens.
    pub(in crate::candle) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token with this text.
    pub(in crate::candle) fn id(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        self.table[self.slot(text)].checked_sub(1)
    }

    /// The token that a text without control tokens has for this part.
    fn part(&self, text: &[u8]) -> Option<u32> {
        self.id(text).filter(|id| {
            !matches!(
                self.kinds.get(*id as usize),
                Some(TokenKind::Control | TokenKind::Unknown | TokenKind::Byte)
            )
        })
    }

    /// A token as the file writes it, with U+FFFD for bytes that are no character.
    pub(in crate::candle) fn text(&self, id: u32) -> Option<String> {
        Some(String::from_utf8_lossy(self.tokens.get(id as usize)?).into_owned())
    }

    /// The bytes that a token stands for.
    pub(in crate::candle) fn bytes(&self, id: u32) -> Vec<u8> {
        let text = self.tokens.get(id as usize).unwrap_or_default();
        match self.kinds.get(id as usize) {
            Some(TokenKind::Byte) => {
                let hex = text.strip_prefix(b"<0x").and_then(|text| text.strip_suffix(b">"));
                let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
                let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                byte.map_or_else(|| text.to_vec(), |byte| vec![byte])
            }
            Some(TokenKind::UserDefined) => text.to_vec(),
            _ => unescaped(text),
        }
    }

    /// The tokens of a text, in which spaces are written as U+2581.
    pub(in crate::candle) fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        if text.len() >= NONE as usize {
            return Err(format!("it has {} bytes; allowed are less than {NONE}", text.len()).into());
        }
        let symbols = self.merged(text);
        let mut tokens = Vec::with_capacity(symbols.len() / 4);
        let mut at = 0;
        while let Some(symbol) = symbols.get(at as usize) {
            let range = symbol.start as usize..(symbol.start + symbol.len) as usize;
            self.emit(text, range, &mut tokens);
            at = symbol.next;
        }
        Ok(tokens)
    }

    /// The characters of a text after all merges, as a list; those that became part of the one before have length 0.
    fn merged(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start: start as u32,
                len: character.len_utf8() as u32,
                previous: (index as u32).wrapping_sub(1),
                next: index as u32 + 1,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut merges: BinaryHeap<Merge> = (1..symbols.len() as u32)
            .filter_map(|right| self.merge(text, &symbols, right - 1, right))
            .collect();
        while let Some(Merge { left: Reverse(left), right, len, .. }) = merges.pop() {
            let (first, second) = (symbols[left as usize], symbols[right as usize]);
            // One of the two is a part of another merge by now.
            if first.len == 0 || second.len == 0 || first.len + second.len != len {
                continue;
            }
            symbols[left as usize].len = len;
            symbols[left as usize].next = second.next;
            symbols[right as usize].len = 0;
            if let Some(after) = symbols.get_mut(second.next as usize) {
                after.previous = left;
            }
            merges.extend(self.merge(text, &symbols, first.previous, left));
            merges.extend(self.merge(text, &symbols, left, second.next));
        }
        symbols
    }

    /// The merge of two neighbors, if together they are a token.
    fn merge(&self, text: &str, symbols: &[Symbol], left: u32, right: u32) -> Option<Merge> {
        let (first, second) = (symbols.get(left as usize)?, symbols.get(right as usize)?);
        let len = first.len + second.len;
        let start = first.start as usize;
        let id = self.part(text.as_bytes().get(start..start + len as usize)?)?;
        let rank = *self.ranks.get(id as usize)?;
        Some(Merge { rank, left: Reverse(left), right, len })
    }

    fn emit(&self, text: &str, range: std::ops::Range<usize>, tokens: &mut Vec<Token>) {
        let part = &text[range.clone()];
        let offsets = (range.start, range.end);
        if let Some(id) = self.part(part.as_bytes()) {
            tokens.push(Token::new(id, part.to_owned(), offsets));
            return;
        }
        let bytes: Option<Vec<u32>> =
            part.bytes().map(|byte| self.bytes.get(usize::from(byte)).copied().flatten()).collect();
        // A vocabulary without all bytes has a token for unknown text.
        let ids = bytes.unwrap_or_else(|| self.unknown.into_iter().collect());
        tokens.extend(
            ids.into_iter().map(|id| Token::new(id, self.text(id).unwrap_or_default(), offsets)),
        );
    }
}

/// A number that is higher for a higher score.
fn rank(score: f32) -> u32 {
    // Both zeros are equal.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut space = [0; 4];
    let space = SPACE.encode_utf8(&mut space).as_bytes();
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(space) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// A part of a text, in a list.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    len: u32,
    previous: u32,
    next: u32,
}

/// A possible merge. The greatest comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    rank: u32,
    left: Reverse<u32>,
    right: u32,
    /// The length of both together, in bytes.
    len: u32,
}
