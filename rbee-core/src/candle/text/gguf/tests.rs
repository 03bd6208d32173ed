use std::{fs, sync::LazyLock};

use proptest::prelude::*;
use serde_json::Value;

use super::{
    super::{
        super::files::LoadFault, detokenizer::Detokenizer, prompt::PromptText, tokenizer::Codec,
    },
    GgufText,
    file_tests::{texts, write},
    load,
    pre_tokenizers::PRE_TOKENIZERS,
};
use crate::{
    chat::{Message, Role},
    error::{Error, ErrorKind},
    test_gguf::{GgufFile, GgufValue},
};

const ALL: usize = 1 << 20;

pub(super) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/tokens/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| of(&fixture("corpus")));
static BYTE_LEVEL: LazyLock<Value> = LazyLock::new(|| fixture("byte_level"));
static SCORED: LazyLock<Value> = LazyLock::new(|| fixture("scored"));

pub(super) fn of<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn byte_level_header(pre: &str) -> GgufFile {
    let tokens: Vec<String> = of(&BYTE_LEVEL["tokens"]);
    let id = |text: &str| tokens.iter().position(|token| token == text).unwrap() as u32;
    GgufFile::empty()
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.pre", pre)
        .with("tokenizer.ggml.tokens", tokens.clone())
        .with("tokenizer.ggml.token_type", of::<Vec<i32>>(&BYTE_LEVEL["types"]))
        .with("tokenizer.ggml.merges", of::<Vec<String>>(&BYTE_LEVEL["merges"]))
        .with("tokenizer.ggml.bos_token_id", id("<|endoftext|>"))
        .with("tokenizer.ggml.eos_token_id", id("<|im_end|>"))
}

fn scored_header() -> GgufFile {
    GgufFile::empty()
        .with("tokenizer.ggml.model", "llama")
        .with("tokenizer.ggml.tokens", of::<Vec<String>>(&SCORED["tokens"]))
        .with("tokenizer.ggml.scores", of::<Vec<f32>>(&SCORED["scores"]))
        .with("tokenizer.ggml.token_type", of::<Vec<i32>>(&SCORED["types"]))
}

fn loaded(header: &GgufFile) -> GgufText {
    let (_dir, path) = write(header, ALL);
    load(&path, 100_000).unwrap()
}

fn refused(header: &GgufFile) -> String {
    let (_dir, path) = write(header, ALL);
    refusal(load(&path, 100_000).unwrap_err())
}

fn refusal(fault: LoadFault) -> String {
    assert!(matches!(fault, LoadFault::File(_)), "{fault:?}");
    let error = Error::from(fault);
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
    error.to_string()
}

static QWEN: LazyLock<Codec> =
    LazyLock::new(|| loaded(&byte_level_header("deepseek-r1-qwen")).codec);
static LLAMA: LazyLock<Codec> = LazyLock::new(|| loaded(&scored_header()).codec);
static GEMMA: LazyLock<Codec> =
    LazyLock::new(|| loaded(&scored_header().with("tokenizer.ggml.add_space_prefix", false)).codec);

fn trusted(codec: &Codec, text: &str, add_special: bool) -> Vec<u32> {
    codec.encode(&PromptText::trusted(text), add_special).unwrap()
}

fn from_caller(codec: &Codec, text: &str, add_special: bool) -> Vec<u32> {
    codec.encode(&PromptText::from_caller(text), add_special).unwrap()
}

/// The text of these tokens, as a stream of them gives it.
pub(super) fn streamed(codec: &Codec, ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new(codec, &[], 0);
    let mut text: String = ids.iter().map(|id| detokenizer.push(codec, *id)).collect();
    text += &detokenizer.finish(codec);
    text
}

#[test]
fn byte_level_ids_are_those_of_the_tokenizers_library_and_of_llama_cpp() {
    let all = BYTE_LEVEL["pre"].as_object().unwrap();
    for (pre, expected) in all {
        let codec = loaded(&byte_level_header(pre)).codec;
        let expected: Vec<Vec<u32>> = of(&expected["ids"]);
        assert_eq!(expected.len(), CORPUS.len());
        for (text, ids) in CORPUS.iter().zip(expected) {
            assert_eq!(trusted(&codec, text, false), ids, "{pre}: {text:?}");
        }
    }
    let names = |name: &str| PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name));
    let tested: Vec<_> = all.keys().map(|name| names(name).unwrap().names[0]).collect();
    for known in PRE_TOKENIZERS {
        assert!(tested.contains(&known.names[0]), "{:?} have no ids to compare with", known.names);
    }
}

#[test]
fn ids_by_score_are_those_of_llama_cpp() {
    for (name, codec) in [("prefix", &*LLAMA), ("no_prefix", &*GEMMA)] {
        let special: Vec<Vec<u32>> = of(&SCORED[name]["special"]);
        assert_eq!(special.len(), CORPUS.len());
        for (at, (text, ids)) in CORPUS.iter().zip(special).enumerate() {
            assert_eq!(trusted(codec, text, true), ids, "{name}: {text:?}");
            let plain = SCORED[name]["plain"].get(at.to_string()).map_or(ids, of);
            assert_eq!(from_caller(codec, text, true), plain, "{name}, plain: {text:?}");
        }
    }
}

#[test]
fn tokens_become_the_text_again() {
    for text in CORPUS.iter() {
        let ids = from_caller(&QWEN, text, false);
        assert_eq!(QWEN.decode(&ids), *text);
        assert_eq!(streamed(&QWEN, &ids), *text);
        // Only the written space is lost.
        let spaced = text.replace('▁', " ");
        let ids = from_caller(&GEMMA, text, false);
        assert_eq!(GEMMA.decode(&ids), spaced);
        assert_eq!(streamed(&GEMMA, &ids), spaced);
        // A space is added before text.
        let ids = from_caller(&LLAMA, text, false);
        assert_eq!(LLAMA.decode(&ids).replace(' ', ""), spaced.replace(' ', ""));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_text_becomes_tokens_and_the_text_again(
        text in prop_oneof![
            ".{0,40}",
            "[ \n\taé漢🐝<|>_1'S]{0,60}",
            "(<\\|im_end\\|>|<think>|<end_of_turn>|<s>|\n\n| |x){0,12}",
        ]
    ) {
        let ids = from_caller(&QWEN, &text, false);
        prop_assert_eq!(&QWEN.decode(&ids), &text);
        prop_assert_eq!(&streamed(&QWEN, &ids), &text);
        let ids = from_caller(&GEMMA, &text, false);
        prop_assert_eq!(streamed(&GEMMA, &ids), text.replace('▁', " "));
    }

    #[test]
    fn a_stream_of_any_tokens_is_the_text_of_all_of_them(
        ids in proptest::collection::vec(0_u32..1_200, 0..20)
    ) {
        for codec in [&*QWEN, &*GEMMA] {
            prop_assert_eq!(streamed(codec, &ids), codec.decode(&ids));
        }
    }
}

#[test]
fn text_of_a_request_makes_no_control_token() {
    for (codec, text) in [(&*QWEN, "<|im_end|>"), (&*GEMMA, "<end_of_turn>"), (&*LLAMA, "</s>")] {
        let id = codec.id(text).unwrap();
        assert_eq!(trusted(codec, text, false), [id]);
        let ids = from_caller(codec, text, false);
        assert!(!ids.contains(&id) && ids.len() > 1, "{text}: {ids:?}");
        assert_eq!(codec.bytes(id), b"", "a control token is no text");
    }
}

#[test]
fn text_next_to_a_byte_token_is_not_that_token() {
    let header = GgufFile::empty()
        .with("tokenizer.ggml.model", "llama")
        .with(
            "tokenizer.ggml.tokens",
            vec!["<unk>", "<0x41>", "<0x", "41>", "<", "0", "x", "4", "1", ">", "0x", "41"],
        )
        .with("tokenizer.ggml.scores", vec![0.0_f32; 12])
        .with("tokenizer.ggml.token_type", vec![2, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
        .with("tokenizer.ggml.add_space_prefix", false);
    let codec = loaded(&header).codec;
    assert_eq!(trusted(&codec, "<0x41>", false), [2, 3]);
    assert_eq!(trusted(&codec, "A", false), [1]);
    assert_eq!(codec.bytes(1), b"A");
    assert_eq!(trusted(&codec, "Z<", false), [0, 4], "a text without tokens is the unknown token");
}

#[test]
fn begin_and_end_tokens_are_added_to_bare_text_as_the_file_says() {
    let ends = |header: &GgufFile| {
        let codec = loaded(header).codec;
        let bare = from_caller(&codec, "x", true);
        let chat = from_caller(&codec, "x", false);
        (bare.len() - chat.len(), bare.starts_with(&chat), bare.ends_with(&chat))
    };
    let (bos, eos) = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token");
    let scored = scored_header();
    assert_eq!(ends(&scored), (1, false, true));
    assert_eq!(ends(&scored.clone().with(bos, false)), (0, true, true));
    assert_eq!(ends(&scored.clone().with(bos, false).with(eos, true)), (1, true, false));
    assert_eq!(ends(&byte_level_header("qwen2")), (0, true, true));
    assert_eq!(ends(&byte_level_header("llama-bpe")), (1, false, true));
    assert_eq!(ends(&byte_level_header("llama-bpe").with(bos, false)), (0, true, true));
}

#[test]
fn every_token_that_ends_an_answer_is_found() {
    let tokens = [
        "<unk>",
        "<bos>",
        "<eos>",
        "</s>",
        "<|im_end|>",
        "<|eot_id|>",
        "<end_of_turn>",
        "x",
        "y",
        "<|end|>",
        "!",
    ];
    let header = |types: [i32; 11]| {
        GgufFile::empty()
            .with("tokenizer.ggml.model", "llama")
            .with("tokenizer.ggml.tokens", tokens.to_vec())
            .with("tokenizer.ggml.token_type", types.to_vec())
            .with("tokenizer.ggml.bos_token_id", 1_u32)
            .with("tokenizer.ggml.eos_token_id", 2_u32)
    };
    let types = [2, 3, 3, 4, 4, 3, 3, 1, 1, 1, 1];
    let text = loaded(&header(types));
    assert_eq!(text.eos, [2, 4, 5, 6], "</s> is HTML here, and a normal token is text");
    assert_eq!(text.codec.bytes(4), b"", "what ends an answer is no text");
    assert_eq!(text.codec.bytes(3), b"</s>");
    let named = header(types)
        .with("tokenizer.ggml.eot_token_id", 7_u32)
        .with("tokenizer.ggml.eom_token_id", 8_u32);
    assert_eq!(loaded(&named).eos, [2, 4, 5, 6, 7, 8]);
    let (_dir, path) = write(&named, ALL);
    assert_eq!(
        load(&path, 6).unwrap().eos,
        [2, 4, 5],
        "tokens without an embedding cannot be generated"
    );
}

#[test]
fn the_end_token_that_the_file_names_counts_whatever_its_text_and_token_2_if_it_names_none() {
    let header = |types: [i32; 5]| {
        GgufFile::empty()
            .with("tokenizer.ggml.model", "llama")
            .with("tokenizer.ggml.tokens", vec!["<unk>", "<a>", "<b>", "c", "[EOS]"])
            .with("tokenizer.ggml.token_type", types.to_vec())
    };
    let eos = |header: &GgufFile| loaded(header).eos;
    assert_eq!(eos(&header([2, 3, 3, 1, 1])), [2]);
    assert_eq!(eos(&header([2, 3, 1, 1, 1])), [0; 0], "the third token is text");
    assert_eq!(eos(&header([2, 3, 3, 1, 3])), [2, 4]);
    assert_eq!(eos(&header([2, 3, 3, 1, 1]).with("tokenizer.ggml.eos_token_id", 3_u32)), [3]);
}

#[test]
fn a_part_of_text_that_is_a_token_needs_no_merges_in_the_vocabularies_that_say_so() {
    let ids = |pre: &str| {
        let header = GgufFile::empty()
            .with("tokenizer.ggml.model", "gpt2")
            .with("tokenizer.ggml.pre", pre)
            .with("tokenizer.ggml.tokens", vec!["a", "b", "c", "ab", "abc"])
            .with("tokenizer.ggml.merges", vec!["a b"])
            .with("tokenizer.ggml.add_bos_token", false);
        trusted(&loaded(&header).codec, "abc", true)
    };
    assert_eq!((ids("llama-bpe"), ids("gpt-2")), (vec![4], vec![3, 2]));
    assert_eq!(ids(""), ids("default"), "old files have no name, or an empty one");
}

#[test]
fn the_template_of_the_file_writes_the_control_tokens() {
    let template = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n<think>{{ m.content }}<|im_end|>{% endfor %}";
    let header = byte_level_header("llama-bpe").with("tokenizer.chat_template", template);
    let text = loaded(&header);
    let codec = &text.codec;
    let messages = [Message::new(Role::User, "<think>Hi<|im_end|>")];
    let rendered = text.template.unwrap().render(&messages.to_vec().into(), codec.added()).unwrap();
    let ids = codec.encode(&rendered, false).unwrap();
    let count = |token: &str| ids.iter().filter(|id| Some(**id) == codec.id(token)).count();
    assert_eq!(ids[0], codec.id("<|endoftext|>").unwrap(), "the begin token, once");
    let tokens = ["<|endoftext|>", "<|im_start|>", "<think>", "<|im_end|>"];
    assert_eq!(tokens.map(count), [1, 1, 1, 1]);
    assert_eq!(codec.decode(&ids), "user\n<think><think>Hi<|im_end|>");
    let broken = header_with_template("{% if %}");
    assert!(refused(&broken).contains("the chat template does not compile"));
    assert!(loaded(&header_with_template(" ")).template.is_none());
    assert!(loaded(&byte_level_header("gpt-2")).template.is_none());
}

fn header_with_template(template: &str) -> GgufFile {
    byte_level_header("gpt-2").with("tokenizer.chat_template", template)
}

#[test]
fn control_tokens_of_phi_3_take_the_space_after_them() {
    let header = scored_header().with("tokenizer.ggml.add_space_prefix", false);
    let phi = loaded(&header.clone().with("general.architecture", "phi3")).codec;
    let with_space = "<start_of_turn> \n x";
    let without = trusted(&phi, "<start_of_turn>x", false);
    assert_eq!(trusted(&phi, with_space, false), without);
    assert_ne!(trusted(&GEMMA, with_space, false), without);
    let begin = trusted(&phi, "<s> x", false);
    assert_ne!(begin, trusted(&phi, "<s>x", false));
}

#[test]
fn tokens_past_the_embeddings_load_and_are_refused_in_prompts() {
    let (_dir, path) = write(&byte_level_header("qwen2"), ALL);
    let codec = load(&path, 400).unwrap().codec;
    let last = codec.id("</think>").unwrap();
    assert!(last >= 400);
    let error = codec.encode(&PromptText::trusted("</think>"), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.message().contains(&format!("id {last}")), "{error}");
    let larger = load(&path, 1 << 20).unwrap().codec;
    assert_eq!(larger.decode(&[1 << 19]), "", "an embedding without a token is no text");
}

#[test]
fn a_token_that_is_stored_as_text_is_not_taken_for_bytes() {
    let header = byte_level_header("gpt-2");
    let tokens: Vec<String> = of(&BYTE_LEVEL["tokens"]);
    let mut types: Vec<i32> = of(&BYTE_LEVEL["types"]);
    let e = tokens.iter().position(|token| token == "é").unwrap();
    assert_eq!(loaded(&header).codec.bytes(e as u32), [0xe9]);
    types[e] = 4;
    let header = GgufFile::empty()
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.tokens", tokens)
        .with("tokenizer.ggml.token_type", types)
        .with("tokenizer.ggml.merges", of::<Vec<String>>(&BYTE_LEVEL["merges"]));
    let codec = loaded(&header).codec;
    assert_eq!(codec.bytes(e as u32), "é".as_bytes());
    assert_eq!(codec.decode(&from_caller(&codec, "né", false)), "né");
}

#[test]
fn an_unknown_kind_or_name_is_refused_with_those_that_are_known() {
    let message = refused(&byte_level_header("who-knows\u{7}"));
    assert!(message.contains("tokenizer.ggml.pre is \"who-knows"), "{message}");
    assert!(
        message.contains("allowed are default, gpt-2") && message.contains("tekken"),
        "{message}"
    );
    let header = GgufFile::empty().with("tokenizer.ggml.tokens", vec!["a"]);
    assert!(refused(&header).contains("has no tokenizer.ggml.model; it must be llama or gpt2"));
    let message = refused(&header.with("tokenizer.ggml.model", "t5"));
    assert!(
        message.contains("tokenizer.ggml.model is \"t5\"; allowed are llama and gpt2"),
        "{message}"
    );
}

#[test]
fn a_damaged_vocabulary_is_refused_by_key_and_value() {
    let kind = |name: &str| GgufFile::empty().with("tokenizer.ggml.model", name);
    let tokens =
        |name: &str| kind(name).with("tokenizer.ggml.tokens", vec!["a", "b", "ab", "<unk>"]);
    let types = |header: GgufFile| header.with("tokenizer.ggml.token_type", vec![1, 1, 1, 2]);
    let merges = |merge: &str| {
        tokens("gpt2")
            .with("tokenizer.ggml.pre", "gpt-2")
            .with("tokenizer.ggml.merges", vec![merge])
    };
    let cases = [
        (kind("llama"), "has no tokenizer.ggml.tokens"),
        (
            kind("llama").with("tokenizer.ggml.tokens", Vec::<&str>::new()),
            "has no tokenizer.ggml.tokens",
        ),
        (
            kind("llama").with("tokenizer.ggml.tokens", vec![1]),
            "tokenizer.ggml.tokens is a list of values of type 5",
        ),
        (kind("llama").with("tokenizer.ggml.tokens", "a"), "tokenizer.ggml.tokens has type 8"),
        (
            tokens("llama").with("tokenizer.ggml.tokens", vec!["a"]),
            "value tokenizer.ggml.tokens is listed twice",
        ),
        (tokens("llama"), "no token for byte 0x00"),
        (
            tokens("llama").with("tokenizer.ggml.scores", vec![1.0_f32]),
            "tokenizer.ggml.scores has 1 values; it must have one for each of the 4",
        ),
        (
            tokens("llama").with("tokenizer.ggml.token_type", GgufValue::raw_array(5, 0, &[])),
            "tokenizer.ggml.token_type has 0 values",
        ),
        (
            types(tokens("llama")).with("tokenizer.ggml.scores", vec![0.0_f32, f32::NAN, 0.0, 0.0]),
            "the score of token 1 is not a number",
        ),
        (
            kind("llama")
                .with("tokenizer.ggml.tokens", vec!["a", "a"])
                .with("tokenizer.ggml.unknown_token_id", 0_u32),
            "tokens 0 and 1 are the same text",
        ),
        (
            types(tokens("llama")).with("tokenizer.ggml.eos_token_id", 4_u32),
            "tokenizer.ggml.eos_token_id is 4; allowed is the id of one of 4 tokens",
        ),
        (
            types(tokens("llama")).with("tokenizer.ggml.bos_token_id", "a"),
            "tokenizer.ggml.bos_token_id is \"a\"; allowed",
        ),
        (
            types(tokens("llama")).with("tokenizer.ggml.add_bos_token", true),
            "tokenizer.ggml.add_bos_token is true, but there is no tokenizer.ggml.bos_token_id",
        ),
        (
            types(tokens("llama")).with("tokenizer.ggml.add_eos_token", 1_u32),
            "tokenizer.ggml.add_eos_token is 1; allowed are true and false",
        ),
        (
            types(tokens("llama")).with("tokenizer.chat_template", 1_u32),
            "tokenizer.chat_template is 1; allowed is a text",
        ),
        (tokens("gpt2"), "has no tokenizer.ggml.merges"),
        (
            merges("a c"),
            "tokenizer.ggml.merges[0] is \"a c\"; allowed is two tokens that together are a token",
        ),
        (merges("ab"), "tokenizer.ggml.merges[0] is \"ab\""),
        (merges("b a"), "tokenizer.ggml.merges[0] is \"b a\""),
        (
            merges("a b").with("tokenizer.ggml.merges", vec!["a b"]),
            "value tokenizer.ggml.merges is listed twice",
        ),
        (
            kind("gpt2").with("tokenizer.ggml.tokens", vec!["a", "b", "a"]),
            "token 0 \"a\" is listed twice",
        ),
        (
            kind("gpt2").with("tokenizer.ggml.tokens", texts(&[b"a".as_slice(), b"\xff"])),
            "token 1 \"\u{fffd}\" is not UTF-8",
        ),
        (
            kind("llama")
                .with("tokenizer.ggml.tokens", texts(&[b"\xff"]))
                .with("tokenizer.ggml.token_type", vec![3]),
            "token 0 \"\u{fffd}\" is not UTF-8",
        ),
    ];
    for (header, expected) in cases {
        let message = refused(&header);
        assert!(message.contains(expected), "{message}\n{expected}");
        assert!(message.contains("bee.gguf"), "{message}");
    }
}

#[test]
fn a_vocabulary_that_lies_about_its_length_is_refused_before_memory_is_allocated() {
    let base = GgufFile::empty().with("tokenizer.ggml.model", "llama");
    for (key, kind) in [
        ("tokenizer.ggml.tokens", 8),
        ("tokenizer.ggml.merges", 8),
        ("tokenizer.ggml.scores", 6),
        ("tokenizer.ggml.token_type", 5),
    ] {
        for length in [1 << 20, 1 << 40, u64::MAX / 4, u64::MAX] {
            let list = GgufValue::raw_array(kind, length, &[0; 64]);
            let message = refused(&base.clone().with(key, list));
            assert!(
                message.contains("continues past the end of the file"),
                "{key} {length}: {message}"
            );
        }
    }
    let long = GgufValue::raw_array(8, 1, &(1_u64 << 50).to_le_bytes());
    assert!(refused(&base.with("tokenizer.ggml.tokens", long)).contains(
        "tokenizer.ggml.tokens[0] has 1125899906842624 bytes; allowed are at most 65536"
    ));
}

#[test]
fn a_vocabulary_of_too_many_values_is_refused_before_memory_is_allocated() {
    for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.merges"] {
        let count = (1 << 22) + 1;
        let header = GgufFile::empty()
            .with("tokenizer.ggml.model", "gpt2")
            .with(key, GgufValue::raw_array(8, count, &[]));
        let (_dir, path) = write(&header, ALL);
        // Texts without bytes; the file system stores none of them.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let message = refusal(load(&path, 100_000).unwrap_err());
        let said = format!("{key} has 4194305 values; allowed are at most 4194304");
        assert!(message.contains(&said), "{message}");
    }
}

#[test]
fn a_control_token_that_is_very_long_is_refused() {
    let header = |length: usize| {
        GgufFile::empty()
            .with("tokenizer.ggml.model", "llama")
            .with("tokenizer.ggml.tokens", vec!["<unk>".to_owned(), "x".repeat(length)])
            .with("tokenizer.ggml.token_type", vec![2, 3])
    };
    loaded(&header(1_024));
    let message = refused(&header(1_025));
    assert!(message.contains("has 1025 bytes; allowed are at most 1024"), "{message}");
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let header = GgufFile::empty()
        .with("tokenizer.ggml.model", "llama")
        .with("tokenizer.ggml.tokens", vec!["<unk>", "b"])
        .with("tokenizer.ggml.scores", vec![1.0_f32, 2.0])
        .with("tokenizer.ggml.token_type", vec![2, 1])
        .with("tokenizer.ggml.bos_token_id", 1_u32);
    // The last value is 1, in four bytes. The padding after it may be missing.
    let whole = header.to_bytes().iter().rposition(|byte| *byte != 0).unwrap() + 4;
    let (_dir, path) = write(&header, whole);
    assert!(load(&path, 2).is_ok());
    for most in 0..whole {
        let (_dir, path) = write(&header, most);
        refusal(load(&path, 2).unwrap_err());
    }
}

#[test]
fn tokens_without_text_and_tokens_that_are_no_characters_load() {
    let tokens: [&[u8]; 6] = [b"<unk>", b"", b"", b"\xe2\x96", b"a\xff", b"x"];
    let header = GgufFile::empty()
        .with("tokenizer.ggml.model", "llama")
        .with("tokenizer.ggml.tokens", texts(&tokens))
        .with("tokenizer.ggml.token_type", vec![2, 1, 1, 1, 1, 1]);
    let codec = loaded(&header).codec;
    assert_eq!(codec.bytes(4), b"a\xff");
    assert_eq!(streamed(&codec, &[3, 4, 5]), "\u{fffd}a\u{fffd}x");
    assert_eq!(codec.id("[EMPTY_2]"), Some(2));
}

#[test]
fn a_long_text_without_any_boundary_becomes_tokens() {
    let text = "ab".repeat(10_000) + " ".repeat(10_000).as_str();
    for codec in [&*GEMMA, &*QWEN] {
        let ids = from_caller(codec, &text, false);
        assert!(ids.len() < 20_000, "{} tokens: nothing was merged", ids.len());
        assert_eq!(codec.decode(&ids), text);
    }
}
