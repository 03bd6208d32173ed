//! The bytes of tokens, and what the end-of-text and control tokens may do.

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::{
    BEE, Error, Grammar, GuideFactory, LARGE, Mask, Matcher, Vocabulary, both, schema,
    tokenizer_json::from_tokenizer_json,
};

fn factory(json: &Value, size: usize, ends: &[u32]) -> Result<GuideFactory, Error> {
    GuideFactory::from_table(from_tokenizer_json(json, size)?, ends)
}

fn library(json: &Value) -> Tokenizer {
    Tokenizer::from_bytes(json.to_string()).unwrap()
}

/// Bytes that make a whole text of bytes that begin or end within a character.
fn around(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let inner = bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
    let before = [vec![], vec![0xc3], vec![0xe1], vec![0xf1]].get(inner)?.clone();
    let fillers = [
        vec![],
        vec![0x80],
        vec![0x90],
        vec![0xa0],
        vec![0x80, 0x80],
        vec![0x90, 0x80],
        vec![0xa0, 0x80],
        vec![0x80; 3],
        vec![0x90, 0x80, 0x80],
    ];
    let whole = |after: &Vec<u8>| String::from_utf8([&before, bytes, after].concat()).is_ok();
    let after = fillers.into_iter().find(whole)?;
    Some((before, after))
}

fn assert_same_bytes(vocabulary: &Vocabulary) {
    let library = library(&vocabulary.tokenizer);
    let byte = |byte: u8| {
        (0..vocabulary.size as u32).find(|id| vocabulary.table.bytes(*id) == Some(&[byte])).unwrap()
    };
    let mut exact = 0;
    for id in 0..vocabulary.size as u32 {
        let Some(name) = library.id_to_token(id) else {
            assert_eq!(vocabulary.table.bytes(id), None);
            continue;
        };
        let Some(bytes) = vocabulary.table.bytes(id) else {
            assert_eq!(library.decode(&[id], true).unwrap(), "", "{name}");
            assert!(vocabulary.table.controls().any(|control| control == (id, &name)));
            continue;
        };
        assert_eq!(library.decode(&[id], true).unwrap(), String::from_utf8_lossy(bytes), "{name}");
        // Lossy text hides which bytes an unfinished character has; as a part of a whole one they show.
        if let Some((before, after)) = around(bytes) {
            let ids: Vec<u32> = before
                .iter()
                .map(|b| byte(*b))
                .chain([id])
                .chain(after.iter().map(|b| byte(*b)))
                .collect();
            let text = library.decode(&ids, true).unwrap();
            assert_eq!(text.as_bytes(), [&before, bytes, &after].concat(), "{name}");
            exact += 1;
        }
    }
    // All but the bytes that no text has.
    assert!(exact + 200 > library.get_vocab_size(true), "{exact}");
}

#[test]
fn tokens_stand_for_the_bytes_that_the_tokenizer_decodes_them_to() {
    assert_same_bytes(&BEE);
    assert_same_bytes(&LARGE);
}

#[test]
fn tokens_of_text_with_bytes_as_a_fallback_are_read() {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255_u32).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
    for (text, id) in ["▁the", "a", "▁", "{\"", "é"].into_iter().zip(256..) {
        vocab.insert(text.into(), json!(id));
    }
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{"id": 261, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}],
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
    });
    assert_same_bytes(&Vocabulary::new(tokenizer, 262, &[261]));
}

#[test]
fn characters_may_be_written_in_several_tokens_but_not_left_unfinished() {
    for vocabulary in both() {
        let byte = |byte: u8| {
            (0..1_000_000).find(|id| vocabulary.table.bytes(*id) == Some(&[byte])).unwrap()
        };
        let mut matcher = vocabulary.matcher(&schema(&json!({"type": "string", "maxLength": 1})));
        let mut mask = Mask::new(vocabulary.size);
        matcher.accept(byte(b'"')).unwrap();
        for part in "🐝".bytes() {
            matcher.mask(&mut mask).unwrap();
            assert!(mask.is_allowed(byte(part)));
            matcher.accept(byte(part)).unwrap();
            if part != 0x9d {
                matcher.mask(&mut mask).unwrap();
                assert!(!mask.is_allowed(byte(b'"')) || part == "🐝".bytes().last().unwrap());
            }
        }
        matcher.mask(&mut mask).unwrap();
        assert_eq!(mask.iter().filter(|id| *id != byte(b'"')).count(), 0);
        matcher.accept(byte(b'"')).unwrap();
        assert!(matcher.must_end());
    }
}

#[test]
fn text_never_allows_control_tokens_bytes_that_no_text_has_or_logits_without_a_token() {
    for vocabulary in both() {
        let mut matcher = vocabulary.matcher(&Grammar::Regex("(?s:.)*".into()));
        let mut mask = Mask::new(vocabulary.size);
        matcher.mask(&mut mask).unwrap();
        let others =
            vocabulary.table.controls().filter(|(id, _)| *id != vocabulary.end && *id != 2);
        assert!(others.map(|(id, _)| id).all(|id| !mask.is_allowed(id)));
        let no_text = |id: &u32| vocabulary.table.bytes(*id) == Some(&[0xff]);
        assert!(!mask.is_allowed((0..vocabulary.size as u32).find(no_text).unwrap()));
        let mut logits = vec![1.0; vocabulary.size + 50];
        mask.apply(&mut logits);
        for (id, logit) in logits.iter().enumerate() {
            assert_eq!(*logit == 1.0, mask.is_allowed(id as u32), "{id}");
        }
        assert!(vocabulary.size != LARGE.size || !mask.is_allowed(vocabulary.size as u32 - 1));
    }
}

#[test]
fn each_end_of_text_token_ends_the_answer_once_even_if_the_tokenizer_stores_it_as_text() {
    let tokenizer = json!({
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 3, "content": "<e>", "special": false}, {"id": 4, "content": "<s>", "special": true}],
        "model": {"vocab": {"<": 0, "e": 1, ">": 2}},
    });
    let factory = factory(&tokenizer, 5, &[4, 3]).unwrap();
    let compiled = factory.compile(&Grammar::Regex("[<e>]+".into())).unwrap();
    let mut mask = Mask::new(5);
    let allowed = |mask: &Mask| mask.iter().collect::<Vec<_>>();
    let mut matcher = Matcher::new(&compiled);
    matcher.mask(&mut mask).unwrap();
    assert_eq!(
        (allowed(&mask), matcher.accept(3)),
        (vec![0, 1, 2], Err(Error::Mismatch { position: 0, token: 3 }))
    );
    matcher.accept(0).unwrap();
    matcher.mask(&mut mask).unwrap();
    assert_eq!(
        (allowed(&mask), matcher.is_complete(), matcher.must_end()),
        (vec![0, 1, 2, 3, 4], true, false)
    );
    matcher.accept(3).unwrap();
    matcher.mask(&mut mask).unwrap();
    assert_eq!((allowed(&mask), matcher.must_end(), matcher.position()), (vec![3, 4], true, 2));
    assert_eq!(matcher.accept(4), Err(Error::Mismatch { position: 2, token: 4 }));
}

#[test]
fn tokenizers_of_no_use_are_refused() {
    let refused =
        |tokenizer: &Value, size: usize, ends: &[u32]| match factory(tokenizer, size, ends) {
            Err(Error::Tokenizer { message }) => message,
            other => panic!("{other:?}"),
        };
    let words = json!({"decoder": {"type": "WordPiece"}, "model": {"vocab": {"a": 0}}});
    assert!(refused(&words, 1, &[0]).contains("has decoder WordPiece"));
    assert!(
        refused(&json!({"decoder": {"type": "ByteLevel"}}), 1, &[0]).contains("no model.vocab")
    );
    let bytes = json!({"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"a": 0}}});
    assert!(refused(&bytes, 1, &[]).contains("no end-of-text token"));
    assert!(refused(&bytes, 1, &[1]).contains("end-of-text token 1; allowed are those below 1"));
    assert!(refused(&bytes, 0, &[0]).contains("has 0 tokens"));
    let long = json!({"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"a".repeat(2_000): 0, "b": 1}}});
    let table = from_tokenizer_json(&long, 3).unwrap();
    assert_eq!((table.bytes(0), table.bytes(1), table.bytes(2)), (None, Some(&b"b"[..]), None));
}
