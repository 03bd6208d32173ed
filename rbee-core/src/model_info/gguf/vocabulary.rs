//! The vocabulary in the header of a GGUF file.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    super::files::{FileFault, Found, shown},
    Reader, Value,
};

/// The longest token or merge that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 16;
/// The most tokens, and the most merges. The largest vocabularies have about 260,000 tokens and 600,000 merges; each
/// takes some hundred bytes of memory, many times its bytes in the file.
const MAX_STRINGS: u64 = 1 << 22;
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
/// The types of values in a file.
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Byte strings, one after the other. Tokens may end within a character.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByteStrings {
    bytes: Vec<u8>,
    /// The end of each string. A header is too short for more than 32 bits.
    ends: Vec<u32>,
}

impl ByteStrings {
    /// The number of strings.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string with this index; `None` at the end.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }

    /// All strings, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Adds a string.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// The purpose of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A part of text.
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Controls the model, and is no text.
    Control,
    /// Text that is always this token.
    UserDefined,
    /// A token that the model was not trained with.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

impl TokenKind {
    const fn of(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            1 => Self::Normal,
            _ => Self::Unused,
        }
    }
}

/// A tokenizer's values of the header.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    path: PathBuf,
    /// The tokens, by id.
    pub(crate) tokens: ByteStrings,
    /// The score of each token; empty if the file has none.
    pub(crate) scores: Vec<f32>,
    /// The kind of each token.
    pub(crate) kinds: Vec<TokenKind>,
    /// The merges in order, each of two tokens with a space between them; empty if the file has none.
    pub(crate) merges: ByteStrings,
    values: BTreeMap<String, Value>,
}

impl Vocabulary {
    /// Reads the values from the header of a file: of a split model, the first one.
    pub(crate) fn read(path: &Path) -> Found<Self> {
        let mut reader = Reader::open(path)?;
        let (_, value_count) = reader.counts()?;
        let mut tokens = None;
        let (mut scores, mut types) = (None, None);
        let mut merges = None;
        let mut values = BTreeMap::new();
        for _ in 0..value_count {
            let key = reader.name("value")?;
            let kind = reader.u32()?;
            let is_new = match &*key {
                TOKENS => tokens.replace(reader.byte_strings(&key, kind)?).is_none(),
                MERGES => merges.replace(reader.byte_strings(&key, kind)?).is_none(),
                SCORES => scores.replace(reader.numbers(&key, kind)?).is_none(),
                TOKEN_TYPES => types.replace(reader.numbers(&key, kind)?).is_none(),
                _ => {
                    let value = reader.value(&key, kind, 0)?;
                    !is_wanted(&key) || values.insert(key.clone(), value).is_none()
                }
            };
            if !is_new {
                return Err(reader.defect(format!("value {} is listed twice", shown(&key))));
            }
        }
        let path = path.to_owned();
        let Some(tokens) = tokens.filter(|tokens| tokens.len() > 0) else {
            return Err(FileFault::defect(&path, format!("has no {TOKENS}: it has no tokenizer")));
        };
        let count = tokens.len();
        for (key, length) in [(SCORES, length(&scores)), (TOKEN_TYPES, length(&types))] {
            if length.is_some_and(|length| length < count) {
                let what = format!(
                    "{key} has {} values; it must have one for each of the {count} tokens",
                    length.unwrap_or(0)
                );
                return Err(FileFault::defect(&path, what));
            }
        }
        let scores = scores.map_or_else(Vec::new, Numbers::floats);
        let kinds = types.map_or_else(
            || vec![TokenKind::Normal; count],
            |types| types.whole().into_iter().take(count).map(TokenKind::of).collect(),
        );
        Ok(Self { path, tokens, scores, kinds, merges: merges.unwrap_or_default(), values })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error that something in the file cannot be used.
    pub(crate) fn defect(&self, what: impl Into<String>) -> FileFault {
        FileFault::defect(&self.path, what)
    }

    /// A text value.
    pub(crate) fn text(&self, key: &str) -> Found<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => {
                let most = super::MAX_TEXT_BYTES;
                Err(self
                    .defect(format!("{key} is {other}; allowed is a text of at most {most} bytes")))
            }
        }
    }

    /// A token's id.
    pub(crate) fn id(&self, key: &str) -> Found<Option<u32>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Whole(id)) if *id < self.tokens.len() as u64 => Ok(Some(*id as u32)),
            Some(other) => {
                let count = self.tokens.len();
                Err(self.defect(format!(
                    "{key} is {other}; allowed is the id of one of {count} tokens"
                )))
            }
        }
    }

    /// A value that is true or false.
    pub(crate) fn flag(&self, key: &str) -> Found<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => {
                Err(self.defect(format!("{key} is {other}; allowed are true and false")))
            }
        }
    }
}

/// Returns true for keys of single values that a tokenizer needs.
fn is_wanted(key: &str) -> bool {
    key.starts_with("tokenizer.") || key == "general.architecture"
}

/// A list of 32-bit numbers.
enum Numbers {
    Whole(Vec<i32>),
    Floats(Vec<f32>),
}

impl Numbers {
    fn floats(self) -> Vec<f32> {
        match self {
            Self::Whole(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Self::Floats(numbers) => numbers,
        }
    }

    fn whole(self) -> Vec<i32> {
        match self {
            Self::Whole(numbers) => numbers,
            Self::Floats(numbers) => numbers.into_iter().map(|number| number as i32).collect(),
        }
    }
}

fn length(numbers: &Option<Numbers>) -> Option<usize> {
    numbers.as_ref().map(|numbers| match numbers {
        Numbers::Whole(numbers) => numbers.len(),
        Numbers::Floats(numbers) => numbers.len(),
    })
}

impl Reader<'_> {
    /// The type of a list's values, and their number.
    fn array(&mut self, key: &str, kind: u32, allowed: &[u32], what: &str) -> Found<(u32, u64)> {
        if kind == ARRAY {
            let (inner, length) = (self.u32()?, self.u64()?);
            if allowed.contains(&inner) {
                return Ok((inner, length));
            }
            return Err(self.defect(format!(
                "{key} is a list of values of type {inner}; allowed is a list of {what}"
            )));
        }
        Err(self.defect(format!("{key} has type {kind}; allowed is a list of {what}")))
    }

    fn byte_strings(&mut self, key: &str, kind: u32) -> Found<ByteStrings> {
        let (_, count) = self.array(key, kind, &[STRING], "texts")?;
        let mut strings = ByteStrings::default();
        if count > MAX_STRINGS {
            // A count that the file has no bytes for is another defect.
            self.claim(count.saturating_mul(8))?;
            let what = format!("{key} has {count} values; allowed are at most {MAX_STRINGS}");
            return Err(self.defect(what));
        }
        for index in 0..count {
            let length = self.u64()?;
            if length > MAX_TOKEN_BYTES {
                return Err(self.defect(format!(
                    "{key}[{index}] has {length} bytes; allowed are at most {MAX_TOKEN_BYTES}"
                )));
            }
            self.claim(length)?;
            let start = strings.bytes.len();
            strings.bytes.resize(start + length as usize, 0);
            let read = self.source.read_exact(&mut strings.bytes[start..]);
            read.map_err(|source| FileFault::unreadable(self.path, source))?;
            strings.ends.push(strings.bytes.len() as u32);
        }
        Ok(strings)
    }

    fn numbers(&mut self, key: &str, kind: u32) -> Found<Numbers> {
        let (kind, count) = self.array(key, kind, &[INT32, FLOAT32], "32-bit numbers")?;
        // A count that the file has no bytes for fails here, before memory is allocated.
        self.claim(count.saturating_mul(4))?;
        let mut bytes = vec![0; count as usize * 4];
        let read = self.source.read_exact(&mut bytes);
        read.map_err(|source| FileFault::unreadable(self.path, source))?;
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        Ok(if kind == INT32 {
            Numbers::Whole(words.map(i32::from_le_bytes).collect())
        } else {
            Numbers::Floats(words.map(f32::from_le_bytes).collect())
        })
    }
}
