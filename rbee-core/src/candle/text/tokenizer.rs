//! Text to tokens, and tokens to text.

mod pair;

pub(in crate::candle) use pair::Pair;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::{
    DecoderWrapper, Encoding, Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper,
    OffsetType, PreTokenizedString, PreTokenizer, Token, normalizer::Range,
};

use super::{
    super::files::{self, LoadFault, Loaded, MAX_TOKENIZER_BYTES, shown},
    added_tokens::{AddedTokens, Part, check_texts},
    prompt::PromptText,
    text_model::{TextModel, TextTokenizer},
};
use crate::error::{Error, ErrorKind, Result};

/// The texts of tokens that separate the parts of an answer: see [`AnswerParser`](crate::answer::AnswerParser). Some
/// tokenizers call them special.
const MARKERS: [&str; 12] = [
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
];

/// Those among them that any answer may have.
const REASONING: [&str; 4] = ["<think>", "</think>", "[THINK]", "[/THINK]"];

/// The meaning of a token in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) enum Meaning {
    /// It stands for these bytes of text.
    Text(Vec<u8>),
    /// It has no text, or separates parts of the answer.
    Control(String),
}

/// The model's own tokenizer.
#[derive(Debug)]
pub(in crate::candle) struct Codec {
    path: PathBuf,
    tokenizer: TextTokenizer,
    /// Special tokens that answers do not show.
    special: HashSet<u32>,
    /// Special tokens that answers show, because they separate the parts of an answer.
    markers: HashMap<u32, String>,
    /// Added tokens that are stored as plain text.
    plain: HashSet<u32>,
    added: AddedTokens,
    /// True if each token stands for fixed bytes, independent of its neighbors.
    byte_level: bool,
    /// The number of tokens that the model has an embedding for.
    vocab: usize,
    /// The tokens around bare text, if not the tokenizer itself adds them.
    ends: Ends,
}

/// Tokens before and after a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) first: Option<u32>,
    pub(super) last: Option<u32>,
}

impl Codec {
    /// Reads `tokenizer.json`, for a model that has an embedding for the first `vocab` tokens. The tokenizer may have
    /// more tokens: a prompt that needs one is refused. `written` is the text that the model's templates write: added
    /// tokens in it are control tokens.
    pub(in crate::candle) fn load(dir: &Path, vocab: usize, written: &str) -> Loaded<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = files::read(&path, MAX_TOKENIZER_BYTES)?;
        // The library accepts some text that is not JSON; checking it first gives the better message.
        check_sizes(&path, &files::parse_object(&path, &bytes)?)?;
        let mut tokenizer = TextTokenizer::from_bytes(&bytes)
            .map_err(|source| LoadFault::malformed(&path, "is not a tokenizer", source))?;
        drop(bytes);
        if let TextModel::Library(ModelWrapper::BPE(bpe)) = tokenizer.get_model()
            && let Some(dropout) = bpe.dropout
            && dropout != 0.0
        {
            let what = format!(
                "model.dropout is {dropout}; allowed is none: the same text must give the same tokens"
            );
            return Err(LoadFault::defect(&path, what));
        }
        // Settings of a training run that would silently cut or fill prompts.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|source| LoadFault::malformed(&path, "is not a tokenizer", source))?;
        Self::new(path, tokenizer, vocab, written, Ends::default())
    }

    /// Makes one from a tokenizer that was read from a file.
    pub(super) fn new(
        path: PathBuf,
        tokenizer: TextTokenizer,
        vocab: usize,
        written: &str,
        ends: Ends,
    ) -> Loaded<Self> {
        let (mut special, mut plain) = (HashSet::new(), HashSet::new());
        let mut markers = HashMap::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if !token.special {
                plain.insert(id);
            } else if MARKERS.contains(&&*token.content) {
                markers.insert(id, token.content);
            } else {
                special.insert(id);
            }
        }
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
            || matches!(tokenizer.get_model(), TextModel::Scored(_));
        let added = AddedTokens::new(&tokenizer, written)
            .map_err(|source| LoadFault::malformed(&path, "has added tokens of no use", source))?;
        Ok(Self { path, tokenizer, special, markers, plain, added, byte_level, vocab, ends })
    }

    /// The tokens of a text. A chat template writes the special tokens itself; to bare text the tokenizer adds its own.
    ///
    /// Text of the request never becomes a control token. Other text gives the tokens that the tokenizer alone gives.
    pub(in crate::candle) fn encode(
        &self,
        prompt: &PromptText,
        add_special_tokens: bool,
    ) -> Result<Vec<u32>> {
        let encoded = if prompt.is_trusted() {
            self.tokenizer.encode_fast(prompt.text.as_str(), add_special_tokens)
        } else {
            self.encode_apart(prompt).and_then(|encoding| {
                self.tokenizer.post_process(encoding, None, add_special_tokens)
            })
        };
        let mut ids = encoded
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|cause| self.unencodable(&cause))?;
        if add_special_tokens {
            ids.splice(0..0, self.ends.first);
            ids.extend(self.ends.last);
        }
        self.check_vocab(&ids)?;
        Ok(ids)
    }

    fn unencodable(&self, cause: &tokenizers::Error) -> Error {
        let message = format!("the prompt cannot be encoded by {}: {cause}", self.path.display());
        Error::new(ErrorKind::InvalidRequest, message)
            .with_client_message("the prompt cannot be encoded for the model")
    }

    /// Refuses tokens that the model has no embedding for.
    fn check_vocab(&self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab) {
            let token = shown(self.tokenizer.id_to_token(*id).unwrap_or_default());
            let message = format!(
                "the prompt has token {token:?} with id {id}, for which the model has no embedding; its vocab_size is {}. \
                 Leave this text out, or use a model whose tokenizer fits it",
                self.vocab
            );
            return Err(Error::for_client(ErrorKind::InvalidRequest, message));
        }
        Ok(())
    }

    /// The steps of the tokenizer, with control tokens only in text that does not come from the request.
    fn encode_apart(&self, prompt: &PromptText) -> tokenizers::Result<Encoding> {
        let mut chunks = PreTokenizedString::from(prompt.text.as_str());
        chunks.split(|_, chunk| {
            let parts = self.added.cut(chunk.get(), |range| prompt.is_trusted_at(range));
            Ok(split(&chunk, parts))
        })?;
        chunks.split(|_, mut chunk| {
            if let Some(normalizer) = self.tokenizer.get_normalizer() {
                normalizer.normalize(&mut chunk)?;
            }
            let allowed = |range: &std::ops::Range<usize>| is_trusted(prompt, &chunk, range);
            let parts = self.added.cut_normalized(chunk.get(), allowed);
            Ok(split(&chunk, parts))
        })?;
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut chunks)?;
        }
        chunks.tokenize(|chunk| self.tokenize(prompt, chunk))?;
        chunks.into_encoding(None, 0, OffsetType::None)
    }

    /// The model's tokens of a part of text. Some models have control tokens in their own vocabulary, and find them in
    /// any text: for them the text is tokenized in smaller parts.
    fn tokenize(
        &self,
        prompt: &PromptText,
        chunk: &NormalizedString,
    ) -> tokenizers::Result<Vec<Token>> {
        let text = chunk.get();
        let mut tokens = self.tokenizer.get_model().tokenize(text)?;
        let part = |token: &Token| text.get(token.offsets.0..token.offsets.1).unwrap_or_default();
        let is_forged = |token: &Token| {
            self.added.is_text_of(token.id, part(token))
                && !is_trusted(prompt, chunk, &(token.offsets.0..token.offsets.1))
        };
        if tokens.iter().any(is_forged) {
            let mut apart = Vec::with_capacity(tokens.len() + 8);
            for token in tokens {
                if is_forged(&token) {
                    self.tokenize_apart(part(&token), &mut apart)?;
                } else {
                    apart.push(token);
                }
            }
            tokens = apart;
        }
        Ok(tokens)
    }

    /// The tokens of a text that is the text of a control token, without that token.
    fn tokenize_apart(&self, text: &str, tokens: &mut Vec<Token>) -> tokenizers::Result<()> {
        // A control token of one character has no other tokens; it is left out.
        let first = text.chars().next().map_or(0, char::len_utf8);
        if first == text.len() {
            return Ok(());
        }
        for part in [&text[..first], &text[first..]] {
            for token in self.tokenizer.get_model().tokenize(part)? {
                let own = part.get(token.offsets.0..token.offsets.1).unwrap_or_default();
                if self.added.is_text_of(token.id, own) {
                    self.tokenize_apart(own, tokens)?;
                } else {
                    tokens.push(token);
                }
            }
        }
        Ok(())
    }

    /// The tokenizer's added tokens.
    pub(in crate::candle) fn added(&self) -> &AddedTokens {
        &self.added
    }

    /// The id of a token by its text.
    pub(in crate::candle) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The text of neighboring tokens, without special tokens.
    pub(in crate::candle) fn decode(&self, tokens: &[u32]) -> String {
        if self.byte_level {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.bytes(*token)).collect();
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        let mut text = String::new();
        let is_marker = |token: &u32| self.markers.contains_key(token);
        for part in tokens.split_inclusive(is_marker) {
            let (last, rest) = part.split_last().filter(|(last, _)| is_marker(last)).unzip();
            // Decoding fails only in decoders that no Llama tokenizer has; tokens that cannot be decoded are left out.
            text.push_str(&self.tokenizer.decode(rest.unwrap_or(part), true).unwrap_or_default());
            text.extend(last.and_then(|last| self.markers.get(last)).map(String::as_str));
        }
        text
    }

    /// The bytes that a token stands for by itself; of a special token, those of its name.
    pub(in crate::candle) fn token_bytes(&self, token: u32) -> Vec<u8> {
        let name = self.tokenizer.id_to_token(token).unwrap_or_default();
        if self.special.contains(&token) || self.markers.contains_key(&token) {
            return name.into_bytes();
        }
        if self.byte_level {
            return self.bytes(token);
        }
        // SentencePiece writes a space as U+2581.
        fallback_byte(&name)
            .map_or_else(|| name.replace('\u{2581}', " ").into_bytes(), |byte| vec![byte])
    }

    /// The meaning of a token by itself; `None` if there is no token with this id.
    pub(in crate::candle) fn meaning(&self, token: u32) -> Option<Meaning> {
        let name = self.tokenizer.id_to_token(token)?;
        let is_mark = |name: &String| !REASONING.contains(&&**name);
        let is_control =
            self.special.contains(&token) || self.markers.get(&token).is_some_and(is_mark);
        Some(match is_control {
            true => Meaning::Control(name),
            false => Meaning::Text(self.token_bytes(token)),
        })
    }

    /// True if each token stands for fixed bytes.
    pub(in crate::candle) fn is_byte_level(&self) -> bool {
        self.byte_level
    }

    /// The bytes of a token of such a vocabulary; empty for special tokens.
    pub(in crate::candle) fn bytes(&self, token: u32) -> Vec<u8> {
        if self.special.contains(&token) {
            return Vec::new();
        }
        if let Some(text) = self.markers.get(&token) {
            return text.clone().into_bytes();
        }
        if let TextModel::Scored(scored) = self.tokenizer.get_model() {
            return scored.bytes(token);
        }
        let text = self.tokenizer.id_to_token(token).unwrap_or_default();
        if self.plain.contains(&token) {
            return text.into_bytes();
        }
        let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
        bytes.unwrap_or_else(|| text.into_bytes())
    }
}

/// The most that the normalizer's steps together may lengthen a text.
const MAX_GROWTH: usize = 100;

/// Checks what would take much memory as soon as the tokenizer is made: added tokens, and steps of the normalizer that
/// each replace a character by many.
fn check_sizes(path: &Path, tokenizer: &Map<String, Value>) -> Loaded<()> {
    let tokens = tokenizer.get("added_tokens").and_then(Value::as_array);
    let texts = tokens.into_iter().flatten().filter_map(|token| token.get("content")?.as_str());
    check_texts(texts).map_err(|what| LoadFault::defect(path, what))?;
    let Some(normalizer) = tokenizer.get("normalizer").filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let normalizer = NormalizerWrapper::deserialize(normalizer)
        .map_err(|source| LoadFault::malformed(path, "is not a tokenizer", source))?;
    let growth = growth(&normalizer);
    if growth > MAX_GROWTH {
        let what = format!(
            "the steps of normalizer can make a text {growth} times as long; allowed is at most {MAX_GROWTH} times"
        );
        return Err(LoadFault::defect(path, what));
    }
    Ok(())
}

/// How many times as long a normalizer can make a text, apart from the tables of Unicode.
fn growth(normalizer: &NormalizerWrapper) -> usize {
    match normalizer {
        NormalizerWrapper::Sequence(steps) => {
            steps.as_ref().iter().map(growth).fold(1, usize::saturating_mul)
        }
        NormalizerWrapper::Replace(replace) => replace.content.len().max(1),
        NormalizerWrapper::Prepend(prepend) => prepend.prepend.len() + 1,
        NormalizerWrapper::ByteLevel(_) => 2,
        _ => 1,
    }
}

/// The byte of a token like `<0x0A>`, with which SentencePiece vocabularies spell characters that they do not have.
fn fallback_byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// A part of text, split at its tokens.
fn split(
    chunk: &NormalizedString,
    parts: Vec<Part>,
) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
    let cut = |(token, range): Part| {
        let part = chunk.slice(Range::Normalized(range))?;
        let tokens = token.map(|id| vec![Token::new(id, part.get().to_owned(), (0, part.len()))]);
        Some((part, tokens))
    };
    parts.into_iter().filter_map(cut).collect()
}

/// Returns true if nothing in this range of a normalized part comes from the request.
fn is_trusted(
    prompt: &PromptText,
    chunk: &NormalizedString,
    range: &std::ops::Range<usize>,
) -> bool {
    let (start, _) = chunk.offsets_original();
    let original = chunk.convert_offsets(Range::Normalized(range.clone()));
    original.is_some_and(|range| prompt.is_trusted_at(&(start + range.start..start + range.end)))
}

/// Byte-level vocabularies write each byte as a visible character: the visible characters of Latin-1 stand for
/// themselves, the others start at U+0100, in order.
fn byte(character: char) -> Option<u8> {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => seen(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !seen(*byte)).nth((code - 256) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hexadecimal_digits_name_a_byte() {
        assert_eq!((fallback_byte("<0x0A>"), fallback_byte("<0xff>")), (Some(10), Some(255)));
        for text in ["<0x+1>", "<0x1>", "<0x001>", "<0xgg>", "0x0A", "<0x0A> "] {
            assert_eq!(fallback_byte(text), None, "{text}");
        }
    }

    #[test]
    fn every_byte_has_one_character_and_back() {
        let all: Vec<u8> = (0..=0x143).filter_map(char::from_u32).filter_map(byte).collect();
        let different: HashSet<u8> = all.iter().copied().collect();
        assert_eq!((all.len(), different.len()), (256, 256));
        assert_eq!(
            (byte('Ġ'), byte('Ċ'), byte('é'), byte('€')),
            (Some(b' '), Some(b'\n'), Some(0xe9), None)
        );
    }
}
