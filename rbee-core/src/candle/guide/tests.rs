//! Tests of constrained decoding, each with a small real vocabulary and a larger made one.

mod grammars;
mod hostile;
mod json;
mod oracle;
mod parameters;
mod resume;
mod strictness;
mod tags;
mod tokenizer_json;
mod tokens;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Error, Grammar, GuideFactory, Mask, Matcher, TokenTable, factory::CompiledGrammar};

/// A vocabulary for tests, with its factory.
struct Vocabulary {
    tokenizer: Value,
    size: usize,
    end: u32,
    ends: Vec<u32>,
    table: TokenTable,
    factory: GuideFactory,
}

/// The vocabulary of the small model: 1,024 tokens of bytes.
static BEE: LazyLock<Vocabulary> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny/tokenizer.json");
    let text = std::fs::read_to_string(path).unwrap();
    Vocabulary::new(serde_json::from_str(&text).unwrap(), 1_024, &[6, 2])
});

/// A made vocabulary of about 30,000 tokens of bytes: every byte, every pair of visible characters, three letters,
/// numbers, chunks of JSON, characters of two to four bytes and beginnings of such characters. The logits are more than
/// the tokens.
static LARGE: LazyLock<Vocabulary> = LazyLock::new(|| {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let visible = || b' '..=b'~';
    words.extend(visible().flat_map(|a| visible().map(move |b| vec![a, b])));
    let letters = || b'a'..=b'z';
    words.extend(
        letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| vec![a, b, c]))),
    );
    words.extend((0..1_000).map(|number| format!("{number:03}").into_bytes()));
    for chunk in [
        "\": \"",
        "\", \"",
        "\":",
        "\"}",
        "\"]",
        "}}",
        "{\"",
        "[\"",
        "true",
        "false",
        "null",
        "<tool_call>\n",
    ] {
        words.push(chunk.into());
    }
    for character in
        ('\u{e0}'..'\u{200}').chain('\u{3041}'..'\u{3100}').chain('\u{1f600}'..'\u{1f640}')
    {
        let bytes = character.to_string().into_bytes();
        words.extend((2..bytes.len()).map(|end| bytes[..end].to_vec()));
        words.push(bytes);
    }
    words.sort();
    words.dedup();
    let controls =
        [("<end>", true), ("<tool_call>", false), ("[TOOL_CALLS]", true), ("[ARGS]", true)];
    let first = words.len();
    let vocab: Map<String, Value> =
        words.iter().zip(0..).map(|(word, id)| (spelled(word), json!(id))).collect();
    let added = controls.iter().zip(first..).map(|((text, special), id)| {
        json!({"id": id, "content": text, "special": special, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Vocabulary::new(tokenizer, first + 100, &[first as u32])
});

impl Vocabulary {
    fn new(tokenizer: Value, size: usize, ends: &[u32]) -> Self {
        let table = tokenizer_json::from_tokenizer_json(&tokenizer, size).unwrap();
        let factory = GuideFactory::from_table(table.clone(), ends).unwrap();
        Self { tokenizer, size, end: ends[0], ends: ends.to_vec(), table, factory }
    }

    fn compile(&self, grammar: &Grammar) -> CompiledGrammar {
        self.factory.compile(grammar).unwrap()
    }

    fn matcher(&self, grammar: &Grammar) -> Matcher {
        Matcher::new(&self.compile(grammar))
    }

    fn control(&self, name: &str) -> u32 {
        self.table.controls().find(|(_, other)| *other == name).unwrap().0
    }

    /// The tokens of a text, each as long as possible; control tokens are not found.
    fn encode(&self, text: &str) -> Vec<u32> {
        let mut rest = text.as_bytes();
        let mut tokens = Vec::new();
        while !rest.is_empty() {
            let longest = (0..self.size as u32)
                .filter_map(|id| Some((self.table.bytes(id)?, id)))
                .filter(|(bytes, _)| rest.starts_with(bytes))
                .max_by_key(|(bytes, _)| bytes.len());
            let (bytes, id) = longest.unwrap();
            tokens.push(id);
            rest = &rest[bytes.len()..];
        }
        tokens
    }

    /// Returns true if the grammar allows exactly this text, byte by byte and in long tokens.
    fn allows(&self, grammar: &Grammar, text: &str) -> bool {
        let bytes: Vec<u32> = text
            .bytes()
            .map(|byte| {
                (0..self.size as u32).find(|id| self.table.bytes(*id) == Some(&[byte])).unwrap()
            })
            .collect();
        let takes = |tokens: &[u32]| {
            let mut matcher = self.matcher(grammar);
            matcher.resume(tokens).is_ok() && matcher.is_complete()
        };
        let (short, long) = (takes(&bytes), takes(&self.encode(text)));
        assert_eq!(short, long, "{text}");
        short
    }
}

fn both() -> [&'static Vocabulary; 2] {
    [&BEE, &LARGE]
}

/// Bytes in the spelling of byte-level vocabularies.
fn spelled(bytes: &[u8]) -> String {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let spell = |byte: u8| {
        if is_visible(byte) {
            return char::from(byte);
        }
        let hidden = (0..byte).filter(|other| !is_visible(*other)).count() as u32;
        char::from_u32(256 + hidden).unwrap()
    };
    bytes.iter().copied().map(spell).collect()
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below.max(1) as u64) as usize
    }
}

/// The end of a walk.
struct Walk {
    tokens: Vec<u32>,
    text: Vec<u8>,
    is_whole: bool,
}

/// Chooses allowed tokens at random until the end or `most` tokens, and checks each step. Closing tokens are preferred.
fn walk(
    vocabulary: &Vocabulary,
    compiled: &CompiledGrammar,
    random: &mut Random,
    most: usize,
) -> Walk {
    let mut matcher = Matcher::new(compiled);
    let mut mask = Mask::new(vocabulary.size);
    let (mut tokens, mut text) = (Vec::new(), Vec::new());
    while tokens.len() < most {
        matcher.mask(&mut mask).unwrap();
        let may_end = mask.is_allowed(vocabulary.end);
        assert_eq!(may_end, matcher.is_complete(), "{}", String::from_utf8_lossy(&text));
        let allowed: Vec<u32> =
            mask.iter().filter(|token| !vocabulary.ends.contains(token)).collect();
        if may_end && (matcher.must_end() || random.next(3) == 0) {
            return Walk { tokens, text, is_whole: true };
        }
        let closing: Vec<u32> = allowed
            .iter()
            .copied()
            .filter(|token| {
                vocabulary
                    .table
                    .bytes(*token)
                    .is_some_and(|bytes| bytes.iter().any(|byte| b"\"]},".contains(byte)))
            })
            .collect();
        let from = if closing.is_empty() || random.next(2) == 0 { &allowed } else { &closing };
        let token = from[random.next(from.len())];
        matcher.accept(token).unwrap();
        tokens.push(token);
        text.extend_from_slice(vocabulary.table.bytes(token).unwrap_or_default());
    }
    Walk { tokens, text, is_whole: false }
}

fn schema(value: &Value) -> Grammar {
    Grammar::JsonSchema(value.to_string())
}

/// The message of a grammar that must be refused as invalid.
fn invalid(grammar: &Grammar) -> String {
    match BEE.factory.compile(grammar) {
        Err(Error::InvalidGrammar { message }) => message,
        other => panic!("{grammar:?}: {other:?}"),
    }
}

/// The message of a grammar that must be refused as too complex.
fn too_complex(grammar: &Grammar) -> String {
    match BEE.factory.compile(grammar) {
        Err(Error::TooComplex { message }) => message,
        other => panic!("{grammar:?}: {other:?}"),
    }
}
