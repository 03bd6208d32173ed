//! The bytes of each token by `tokenizer.json`, read independently of the tokenizer.

use serde_json::Value;

use super::super::{
    error::Error,
    token_table::{TokenEntry, TokenTable},
};

/// How a vocabulary writes bytes.
#[derive(Clone, Copy)]
enum Spelling {
    /// Each byte is one visible character.
    Bytes,
    /// Characters are themselves, except one that stands for a space; `<0x0A>` is a byte.
    Text { space: char },
}

/// Reads the table from the JSON of a `tokenizer.json`, for a model with logits for the first `vocab_size` tokens.
/// Tokens from `vocab_size` on are left out.
///
/// # Errors
/// [`Error::Tokenizer`] if it is not a tokenizer with tokens of fixed bytes.
pub(super) fn from_tokenizer_json(json: &Value, vocab_size: usize) -> Result<TokenTable, Error> {
    let spelling = spelling(json)?;
    let mut entries = vec![TokenEntry::None; vocab_size];
    for (text, id) in vocabulary(json)? {
        if let Some(entry) = entries.get_mut(id) {
            *entry = TokenEntry::Bytes(spelling.bytes(text));
        }
    }
    let added = json.get("added_tokens").and_then(Value::as_array);
    for token in added.into_iter().flatten() {
        let (Some(id), Some(text)) =
            (token.get("id").and_then(Value::as_u64), token.get("content").and_then(Value::as_str))
        else {
            return Err(Error::tokenizer(
                "tokenizer.json has an added token without id or content",
            ));
        };
        let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
        if let Some(entry) = usize::try_from(id).ok().and_then(|id| entries.get_mut(id)) {
            *entry = if special {
                TokenEntry::Control(text.to_owned())
            } else {
                TokenEntry::Bytes(text.as_bytes().to_vec())
            };
        }
    }
    TokenTable::new(entries)
}

impl Spelling {
    fn bytes(self, text: &str) -> Vec<u8> {
        match self {
            Self::Bytes => {
                let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
                // A token that is not in this spelling is its own text.
                bytes.unwrap_or_else(|| text.as_bytes().to_vec())
            }
            Self::Text { space } => fallback_byte(text)
                .map_or_else(|| text.replace(space, " ").into_bytes(), |byte| vec![byte]),
        }
    }
}

/// Finds the spelling by the decoder.
fn spelling(json: &Value) -> Result<Spelling, Error> {
    let decoder = json.get("decoder").unwrap_or(&Value::Null);
    let steps = match decoder.get("decoders").and_then(Value::as_array) {
        Some(steps) => steps.iter().collect(),
        None => vec![decoder],
    };
    let kind = |step: &Value| step.get("type").and_then(Value::as_str).unwrap_or("none").to_owned();
    if steps.iter().any(|step| kind(step) == "ByteLevel") {
        return Ok(Spelling::Bytes);
    }
    if steps.iter().any(|step| kind(step) == "ByteFallback") {
        let space = steps.iter().find_map(|step| {
            let pattern = step.get("pattern")?.get("String")?.as_str()?;
            let is_space = kind(step) == "Replace" && step.get("content")?.as_str()? == " ";
            let mut characters = pattern.chars();
            characters.next().filter(|_| is_space && characters.next().is_none())
        });
        return Ok(Spelling::Text { space: space.unwrap_or(' ') });
    }
    let kinds: Vec<String> = steps.into_iter().map(kind).collect();
    Err(Error::tokenizer(format!(
        "the tokenizer has decoder {}; constrained decoding needs ByteLevel or ByteFallback",
        kinds.join(", ")
    )))
}

/// The tokens of the model itself.
fn vocabulary(json: &Value) -> Result<Vec<(&str, usize)>, Error> {
    let vocab = json.get("model").and_then(|model| model.get("vocab"));
    match vocab {
        Some(Value::Object(vocab)) => Ok(vocab
            .iter()
            .filter_map(|(text, id)| Some((text.as_str(), usize::try_from(id.as_u64()?).ok()?)))
            .collect()),
        // Unigram models: the position is the id.
        Some(Value::Array(vocab)) => Ok(vocab
            .iter()
            .enumerate()
            .filter_map(|(id, entry)| Some((entry.get(0)?.as_str()?, id)))
            .collect()),
        _ => Err(Error::tokenizer("tokenizer.json has no model.vocab")),
    }
}

/// Byte-level vocabularies write each byte as a visible character: the visible characters of Latin-1 stand for
/// themselves, the others start at U+0100, in order.
fn byte(character: char) -> Option<u8> {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_visible(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !is_visible(*byte)).nth((code - 256) as usize),
    }
}

/// The byte of a token like `<0x0A>`.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
