//! The tokenizer, chat template and end tokens of a GGUF file.
//!
//! There are two kinds of vocabularies: tokens with scores (`tokenizer.ggml.model` is `llama`), and byte-level pairs
//! with merges (`gpt2`). Of the second kind, `tokenizer.ggml.pre` names the regular expressions that divide a text
//! before. Token ids are those that llama.cpp gives, except in the following cases, in which it differs from the
//! tokenizers that the models were trained with:
//! - text becomes no control token and no byte token by merging;
//! - the text of Qwen models is converted to normal form C;
//! - in the expressions of `tekken` and `gpt-4o`, combining marks belong to their word;
//! - `</s>` ends an answer only if it is a control token: Gemma has it as an HTML tag;
//! - control tokens of Phi-3 take the white space after them, whatever the name of the model.

mod end_tokens;
#[cfg(test)]
mod file_tests;
mod pre_tokenizers;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path};

use tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    models::bpe::{BPE, Vocab},
    normalizers::{self, NFC, Prepend, Replace},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use self::pre_tokenizers::{PRE_TOKENIZERS, Splitting};
use super::{
    super::files::{LoadFault, Loaded, shown},
    added_tokens::check_texts,
    scored::{ScoreFault, ScoredTokens},
    template::{ChatTemplate, TokenNames},
    text_model::{TextModel, TextTokenizer},
    tokenizer::{Codec, Ends},
};
use crate::model_info::gguf::{ByteStrings, TokenKind, Vocabulary};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TEMPLATE: &str = "tokenizer.chat_template";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Everything about text in a GGUF file.
#[derive(Debug)]
pub(in crate::candle) struct GgufText {
    pub(in crate::candle) codec: Codec,
    /// The chat template, if the file has one: base models often do not.
    pub(in crate::candle) template: Option<ChatTemplate>,
    /// The tokens that end an answer, in ascending order.
    pub(in crate::candle) eos: Vec<u32>,
}

/// Reads the tokenizer of a GGUF file (of a split model, its first part), for a model that has an embedding for the
/// first `vocab` tokens.
pub(in crate::candle) fn load(path: &Path, vocab: usize) -> Loaded<GgufText> {
    Codec::from_gguf(Vocabulary::read(path)?, vocab)
}

impl Codec {
    /// Makes the tokenizer, template and end tokens from a header's values.
    pub(in crate::candle) fn from_gguf(
        mut vocabulary: Vocabulary,
        vocab: usize,
    ) -> Loaded<GgufText> {
        name_empty_tokens(&mut vocabulary);
        let kind = Kind::of(&vocabulary)?;
        let bos = special_id(&vocabulary, BOS, kind.default_bos())?;
        let eos = special_id(&vocabulary, EOS, kind.default_eos())?;
        let add_bos = vocabulary.flag(ADD_BOS)?.unwrap_or(kind.adds_bos());
        let add_eos = vocabulary.flag(ADD_EOS)?.unwrap_or(false);
        for (add, id, add_key, key) in [(add_bos, bos, ADD_BOS, BOS), (add_eos, eos, ADD_EOS, EOS)]
        {
            if add && id.is_none() && vocabulary.flag(add_key)?.is_some() {
                let what = format!("{add_key} is true, but there is no {key}");
                return Err(vocabulary.defect(what).into());
            }
        }
        let name = |id: Option<u32>| {
            id.and_then(|id| vocabulary.tokens.get(id as usize))
                .map(|text| String::from_utf8_lossy(text).into_owned())
        };
        let names = TokenNames { bos: name(bos), eos: name(eos) };
        let template = vocabulary
            .text(TEMPLATE)?
            .filter(|source| !source.trim().is_empty())
            .map(|source| ChatTemplate::compile(vocabulary.path().into(), source.into(), &names))
            .transpose()?;
        let mut ends = end_tokens::find(&vocabulary, eos)?;
        let added = added_tokens(&vocabulary, &ends)?;
        let path = vocabulary.path().to_owned();
        let mut tokenizer = match kind {
            Kind::Scored => scored(vocabulary)?,
            Kind::ByteLevel(splitting) => byte_level(vocabulary, splitting)?,
        };
        tokenizer
            .add_tokens(added)
            .map_err(|source| LoadFault::malformed(&path, "has added tokens of no use", source))?;
        let written = template.as_ref().map(ChatTemplate::written).unwrap_or_default();
        let around = Ends { first: bos.filter(|_| add_bos), last: eos.filter(|_| add_eos) };
        let codec = Self::new(path, tokenizer, vocab, &written, around)?;
        ends.retain(|id| (*id as usize) < vocab);
        Ok(GgufText { codec, template, eos: ends.into_iter().collect() })
    }
}

/// The kind of a vocabulary.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Tokens with scores.
    Scored,
    /// Byte-level pairs.
    ByteLevel(&'static Splitting),
}

impl Kind {
    fn of(vocabulary: &Vocabulary) -> Loaded<Self> {
        match vocabulary.text(MODEL)? {
            Some("llama") => return Ok(Self::Scored),
            Some("gpt2") => {}
            Some(other) => {
                let what = format!("{MODEL} is \"{}\"; allowed are llama and gpt2", shown(other));
                return Err(vocabulary.defect(what).into());
            }
            None => {
                let what = format!("has no {MODEL}; it must be llama or gpt2");
                return Err(vocabulary.defect(what).into());
            }
        }
        // Old files have no name; llama.cpp divides the texts of those as those of `default`.
        let name = vocabulary.text(PRE)?.filter(|name| !name.is_empty()).unwrap_or("default");
        let found = PRE_TOKENIZERS.iter().find(|splitting| splitting.names.contains(&name));
        found.map(Self::ByteLevel).ok_or_else(|| {
            let known: Vec<&str> =
                PRE_TOKENIZERS.iter().flat_map(|splitting| splitting.names).copied().collect();
            let (name, known) = (shown(name), known.join(", "));
            vocabulary.defect(format!("{PRE} is \"{name}\"; allowed are {known}")).into()
        })
    }

    fn default_bos(self) -> Option<u32> {
        matches!(self, Self::Scored).then_some(1)
    }

    fn default_eos(self) -> Option<u32> {
        matches!(self, Self::Scored).then_some(2)
    }

    fn adds_bos(self) -> bool {
        match self {
            Self::Scored => true,
            Self::ByteLevel(splitting) => splitting.adds_bos,
        }
    }
}

/// A token that a key names; if the file does not have the key, the default one if that is a control token.
fn special_id(vocabulary: &Vocabulary, key: &str, default: Option<u32>) -> Loaded<Option<u32>> {
    let is_control = |id: &u32| vocabulary.kinds.get(*id as usize) == Some(&TokenKind::Control);
    Ok(vocabulary.id(key)?.or_else(|| default.filter(is_control)))
}

/// Gives tokens without text a name of their own: several of them would be the same token.
fn name_empty_tokens(vocabulary: &mut Vocabulary) {
    if vocabulary.tokens.iter().all(|token| !token.is_empty()) {
        return;
    }
    let mut tokens = ByteStrings::default();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if token.is_empty() {
            tokens.push(format!("[EMPTY_{id}]").as_bytes());
        } else {
            tokens.push(token);
        }
    }
    vocabulary.tokens = tokens;
}

/// The tokens that are found in a text before it is divided.
fn added_tokens(vocabulary: &Vocabulary, ends: &BTreeSet<u32>) -> Loaded<Vec<AddedToken>> {
    let takes_space = takes_space_after_control(vocabulary)?;
    let mut added = Vec::new();
    for (id, (text, kind)) in vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate() {
        let special = match kind {
            TokenKind::Control | TokenKind::Unknown => true,
            TokenKind::UserDefined => ends.contains(&(id as u32)),
            TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => continue,
        };
        let text = utf8(vocabulary, id, text)?;
        let mut token = AddedToken::from(text, special).normalized(false);
        token.rstrip = takes_space && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>");
        added.push(token);
    }
    check_texts(added.iter().map(|token| &*token.content))
        .map_err(|what| vocabulary.defect(what))?;
    Ok(added)
}

/// The control tokens of Phi-3 take the white space after them. No key of the file says so.
fn takes_space_after_control(vocabulary: &Vocabulary) -> Loaded<bool> {
    let is_phi = vocabulary.text("general.architecture")? == Some("phi3");
    Ok(is_phi && vocabulary.text(MODEL)? == Some("llama"))
}

fn utf8<'a>(vocabulary: &Vocabulary, id: usize, text: &'a [u8]) -> Loaded<&'a str> {
    std::str::from_utf8(text).map_err(|_| {
        let text = shown(String::from_utf8_lossy(text));
        vocabulary.defect(format!("token {id} \"{text}\" is not UTF-8")).into()
    })
}

/// A tokenizer of tokens with scores.
fn scored(vocabulary: Vocabulary) -> Loaded<TextTokenizer> {
    let prefix = vocabulary.flag(ADD_SPACE_PREFIX)?.unwrap_or(true);
    let is_unknown = |id: &u32| vocabulary.kinds.get(*id as usize) == Some(&TokenKind::Unknown);
    let unknown = vocabulary.id(UNKNOWN)?.or(Some(0).filter(is_unknown));
    let path = vocabulary.path().to_owned();
    let Vocabulary { tokens, scores, kinds, .. } = vocabulary;
    let scored = ScoredTokens::new(tokens, &scores, kinds, unknown)
        .map_err(|fault: ScoreFault| LoadFault::defect(&path, fault.to_string()))?;
    let mut tokenizer = TextTokenizer::new(TextModel::Scored(scored));
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        steps.push(Prepend::new(" ".into()).into());
    }
    let replace = Replace::new(" ", "▁");
    steps.push(replace.map_err(|source| unusable(&path, source))?.into());
    tokenizer
        .with_normalizer(Some(normalizers::Sequence::new(steps)))
        .map_err(|source| unusable(&path, source))?;
    Ok(tokenizer)
}

/// A tokenizer of byte-level pairs.
fn byte_level(vocabulary: Vocabulary, splitting: &Splitting) -> Loaded<TextTokenizer> {
    let mut tokens: Vec<(String, u32)> = Vec::with_capacity(vocabulary.tokens.len());
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        tokens.push((utf8(&vocabulary, id, text)?.to_owned(), id as u32));
    }
    let count = tokens.len();
    let ids: Vocab = tokens.into_iter().collect();
    if ids.len() < count {
        let twice = vocabulary.tokens.iter().enumerate().find(|(id, text)| {
            std::str::from_utf8(text).is_ok_and(|text| ids.get(text) != Some(&(*id as u32)))
        });
        let (id, text) = twice.unwrap_or_default();
        let text = shown(String::from_utf8_lossy(text));
        return Err(vocabulary.defect(format!("token {id} \"{text}\" is listed twice")).into());
    }
    if vocabulary.merges.len() == 0 {
        return Err(vocabulary.defect("has no tokenizer.ggml.merges").into());
    }
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (index, merge) in vocabulary.merges.iter().enumerate() {
        let parts = std::str::from_utf8(merge).ok().and_then(|merge| merge.split_once(' '));
        let known = parts.filter(|(left, right)| {
            let whole = [*left, *right].concat();
            [left, right, &&*whole].iter().all(|part| ids.contains_key(**part))
        });
        let Some((left, right)) = known else {
            let merge = shown(String::from_utf8_lossy(merge));
            return Err(vocabulary
                .defect(format!(
                    "tokenizer.ggml.merges[{index}] is \"{merge}\"; allowed is two tokens that together are a token"
                ))
                .into());
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let path = vocabulary.path();
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(splitting.ignores_merges)
        .build()
        .map_err(|source| unusable(path, source))?;
    let mut tokenizer = TextTokenizer::new(TextModel::Library(ModelWrapper::BPE(bpe)));
    if splitting.normal_form_c {
        tokenizer.with_normalizer(Some(NFC)).map_err(|source| unusable(path, source))?;
    }
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for expression in splitting.expressions {
        let pattern = SplitPattern::Regex((*expression).into());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(split.map_err(|source| unusable(path, source))?.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    Ok(tokenizer)
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LoadFault {
    LoadFault::malformed(path, "has a tokenizer that cannot be used", source)
}
