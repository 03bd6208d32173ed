//! Text to tokens, and what each token stands for.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use tokenizers::{DecoderWrapper, ModelWrapper, Tokenizer};

use super::files::{self, LoadFault, Loaded, MAX_TOKENIZER_BYTES, shown};
use crate::{Error, ErrorKind, Result};

/// The model's own tokenizer.
#[derive(Debug)]
pub(super) struct Codec {
    path: PathBuf,
    tokenizer: Tokenizer,
    special: HashSet<u32>,
    /// Each token stands for bytes of its own, whatever stands beside it.
    byte_level: bool,
}

impl Codec {
    /// Reads `tokenizer.json`; its tokens must all be known to a model of this vocabulary.
    pub(super) fn load(dir: &Path, vocab: usize) -> Loaded<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = files::read(&path, MAX_TOKENIZER_BYTES)?;
        // The library is lenient with text that is not JSON in places; a first look gives the better message.
        files::parse_object(&path, &bytes)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|source| LoadFault::malformed(&path, "is not a tokenizer", source))?;
        drop(bytes);
        if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
            && let Some(dropout) = bpe.dropout
            && dropout != 0.0
        {
            let what = format!(
                "model.dropout is {dropout}; allowed is none: the same text must give the same tokens"
            );
            return Err(LoadFault::defect(&path, what));
        }
        if let Some((token, id)) = tokenizer.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
            && id as usize >= vocab
        {
            let what = format!(
                "token {:?} has id {id}; allowed are ids below vocab_size of config.json, {vocab}",
                shown(token)
            );
            return Err(LoadFault::defect(&path, what));
        }
        // Settings of a training run that would silently cut or fill prompts.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|source| LoadFault::malformed(&path, "is not a tokenizer", source))?;
        let special = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Self { path, tokenizer, special, byte_level })
    }

    /// The tokens of a text. A chat template writes the special tokens itself; to bare text the tokenizer adds its own.
    pub(super) fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        self.tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|cause| {
                let message =
                    format!("the prompt cannot be encoded by {}: {cause}", self.path.display());
                Error::new(ErrorKind::InvalidRequest, message)
                    .with_client_message("the prompt cannot be encoded for the model")
            })
    }

    /// The id of a token by its text.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The text of tokens that stand together, special tokens left out.
    pub(super) fn decode(&self, tokens: &[u32]) -> String {
        // Decoding fails only in decoders that no Llama tokenizer has; what cannot be said is left out.
        self.tokenizer.decode(tokens, true).unwrap_or_default()
    }

    /// Does each token stand for bytes of its own?
    pub(super) fn is_byte_level(&self) -> bool {
        self.byte_level
    }

    /// The bytes that a token of a byte-level vocabulary stands for; none for special tokens.
    pub(super) fn bytes(&self, token: u32) -> Vec<u8> {
        if self.special.contains(&token) {
            return Vec::new();
        }
        let text = self.tokenizer.id_to_token(token).unwrap_or_default();
        let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
        // A token added later is written plainly.
        bytes.unwrap_or_else(|| text.into_bytes())
    }
}

/// Byte-level vocabularies write each byte as a character that can be seen: those of Latin-1 that can are themselves,
/// the others stand from U+0100 on, in their order.
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
