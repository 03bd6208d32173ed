//! The text of answers of a SentencePiece vocabulary, in which the text of a token depends on its neighbors.

use std::fs;

use serde_json::{Value, json};

use super::*;

const BYTES: u32 = 1;
const LETTERS: u32 = BYTES + 256;

/// A vocabulary of all bytes, some letters alone and after a space, and a control token. A space at the beginning of a
/// text is not part of it.
fn codec() -> Codec {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let letters =
        ('a'..='z').map(String::from).chain(('a'..='z').map(|letter| format!("▁{letter}")));
    let all = ["<unk>".to_owned()].into_iter().chain(bytes).chain(letters);
    let vocab: serde_json::Map<String, Value> =
        all.enumerate().map(|(id, text)| (text, id.into())).collect();
    let control = ["<bos>", "[TOOL_CALLS]"].iter().zip(vocab.len()..).map(|(content, id)| {
        json!({
            "id": id, "content": content, "special": true, "normalized": false, "single_word": false,
            "lstrip": false, "rstrip": false,
        })
    });
    let control: Vec<Value> = control.collect();
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": control, "normalizer": null, "pre_tokenizer": null, "decoder": decoder,
        "post_processor": null, "truncation": null, "padding": null,
        "model": {
            "type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": true,
        },
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    Codec::load(dir.path(), 1_000, "").unwrap()
}

/// The token of a letter.
fn of(letter: char) -> u32 {
    LETTERS + u32::from(letter) - u32::from('a')
}

/// The token of a space and a letter.
fn after_space(letter: char) -> u32 {
    of(letter) + 26
}

fn byte_tokens(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|byte| BYTES + u32::from(*byte)).collect()
}

fn pushed(codec: &Codec, text: &mut Detokenizer, tokens: &[u32]) -> Vec<String> {
    tokens.iter().map(|token| text.push(codec, *token)).collect()
}

#[test]
fn each_token_gives_the_text_that_it_adds_to_those_before_it() {
    let codec = codec();
    let mut text = Detokenizer::new(&codec, &[], 0);
    let tokens = [after_space('h'), of('i'), after_space('y'), of('o'), after_space('u')];
    assert_eq!(pushed(&codec, &mut text, &tokens), ["h", "i", " y", "o", " u"]);
    assert_eq!(codec.decode(&tokens), "hi yo u");
    let Decoder::Window { tokens, .. } = &text.decoder else { panic!("{text:?}") };
    assert_eq!(tokens.len(), 1, "only the last tokens are decoded again");
}

#[test]
fn a_special_token_is_not_text_unless_it_separates_the_parts_of_an_answer() {
    let codec = codec();
    let [bos, calls] = ["<bos>", "[TOOL_CALLS]"].map(|token| codec.id(token).unwrap());
    let mut text = Detokenizer::new(&codec, &[], 0);
    let tokens = [of('a'), bos, of('b'), calls, of('f'), after_space('x'), bos];
    let parts = ["a", "", "b", "[TOOL_CALLS]", "f", " x", ""];
    assert_eq!(pushed(&codec, &mut text, &tokens), parts);
    assert_eq!(codec.decode(&tokens), parts.concat());
    assert_eq!(codec.token_bytes(calls), b"[TOOL_CALLS]");
}

#[test]
fn a_character_of_several_tokens_is_given_with_the_last_of_them() {
    let codec = codec();
    let mut text = Detokenizer::new(&codec, &[], 0);
    let tokens = [vec![of('x')], byte_tokens("é🐝".as_bytes()), vec![of('y')]].concat();
    assert_eq!(pushed(&codec, &mut text, &tokens), ["x", "", "é", "", "", "", "🐝", "y"]);
    assert_eq!(text.finish(&codec), "");
}

#[test]
fn bytes_that_never_become_a_character_are_not_held_back_for_long() {
    let codec = codec();
    let mut text = Detokenizer::new(&codec, &[], 0);
    let tokens = byte_tokens(&[0xff; 20]);
    let mut parts = pushed(&codec, &mut text, &tokens);
    let waited = parts.iter().take_while(|part| part.is_empty()).count();
    assert_eq!(waited, MOST_WAITING);
    parts.push(text.finish(&codec));
    assert_eq!(parts.concat(), codec.decode(&tokens));
}

#[test]
fn the_bytes_of_a_token_by_itself_are_those_that_it_stands_for() {
    let codec = codec();
    for (token, bytes) in [
        (of('a'), &b"a"[..]),
        (after_space('a'), b" a"),
        (BYTES + 0xc3, b"\xc3"),
        (codec.id("<bos>").unwrap(), b"<bos>"),
    ] {
        assert_eq!(codec.token_bytes(token), bytes);
    }
}

#[test]
fn text_that_may_become_a_stop_text_is_given_as_soon_as_it_does_not() {
    let codec = codec();
    let stop = ["bz".to_owned()];
    let mut text = Detokenizer::new(&codec, &stop, 0);
    assert_eq!(
        pushed(&codec, &mut text, &[of('a'), of('b'), of('c'), of('b')]),
        ["a", "", "bc", ""]
    );
    assert_eq!(text.finish(&codec), "b");
    // Not in the text of the first two tokens.
    let mut text = Detokenizer::new(&codec, &stop, 2);
    let tokens = [of('b'), of('z'), of('c'), of('b'), of('z')];
    assert_eq!(pushed(&codec, &mut text, &tokens), ["b", "z", "c", "", ""]);
    assert!(text.stopped());
}

#[test]
fn a_continued_answer_goes_on_after_the_bytes_that_readers_have() {
    let codec = codec();
    let stop = ["bz".to_owned()];
    let continued = |said: usize| {
        let mut text = Detokenizer::new(&codec, &stop, 0);
        text.replay(&codec, &[of('a'), of('b')]).unwrap();
        text.said(said).unwrap();
        pushed(&codec, &mut text, &[of('c'), of('d')])
    };
    assert_eq!(continued(0), ["abc", "d"]);
    assert_eq!(continued(1), ["bc", "d"]);
    // The worker before had no need to hold the second letter back.
    assert_eq!(continued(2), ["c", "d"]);
}

#[test]
fn an_answer_is_not_continued_in_the_middle_of_a_character_or_after_its_end() {
    let codec = codec();
    let e = byte_tokens("é".as_bytes());
    for stop in ["x", "éx"] {
        let mut text = Detokenizer::new(&codec, &[stop.to_owned()], 0);
        text.replay(&codec, &e).unwrap();
        for said in [1, 3] {
            assert_eq!(text.said(said), Err(ResumeFault::Bytes { said, most: 2 }), "{stop}");
        }
        assert_eq!(text.said(2), Ok(()));
    }
    let mut text = Detokenizer::new(&codec, &["b".to_owned()], 0);
    let replayed = text.replay(&codec, &[of('a'), of('b'), of('c')]);
    assert_eq!(replayed, Err(ResumeFault::AfterTheEnd { at: 2, tokens: 3 }));
}
