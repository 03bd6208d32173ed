//! The tokens that end an answer.

use std::collections::BTreeSet;

use super::super::super::files::Loaded;
use crate::model_info::gguf::{TokenKind, Vocabulary};

/// Keys that name end tokens: the end of a text is another key.
const KEYS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Texts that are end tokens, if they are control tokens or can be nothing else.
const WRITTEN_AS_CONTROL: [&str; 9] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
];

/// Texts that are end tokens if they are control tokens. Vocabularies with tokens for HTML have `</s>`.
const CONTROL: [&str; 9] = [
    "</s>",
    "<eos>",
    "<EOT>",
    "[EOT]",
    "[EOS]",
    "<|file_sep|>",
    "<|repo_name|>",
    "<|fim_pad|>",
    "<turn|>",
];

/// The tokens that the file names, and those whose text is known. Most files name only one of several.
pub(super) fn find(vocabulary: &Vocabulary, eos: Option<u32>) -> Loaded<BTreeSet<u32>> {
    let mut found: BTreeSet<u32> = eos.into_iter().collect();
    for key in KEYS {
        found.extend(vocabulary.id(key)?);
    }
    for (id, (text, kind)) in vocabulary.tokens.iter().zip(&vocabulary.kinds).enumerate() {
        let is = |known: &[&str]| known.iter().any(|known| known.as_bytes() == text);
        let ends = match kind {
            TokenKind::Control => is(&WRITTEN_AS_CONTROL) || is(&CONTROL),
            TokenKind::UserDefined => is(&WRITTEN_AS_CONTROL),
            _ => false,
        };
        if ends {
            found.insert(id as u32);
        }
    }
    Ok(found)
}
