//! A matcher that resumes an answer is like the one that began it.

use proptest::prelude::*;
use serde_json::json;

use super::{BEE, Error, Grammar, LARGE, Mask, Matcher, Random, both, schema, walk};

fn grammars() -> Vec<Grammar> {
    vec![
        Grammar::JsonObject,
        schema(
            &json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}, "b": {"type": "array",
            "items": {"anyOf": [{"type": "number"}, {"$ref": "#"}]}}}, "required": ["a"], "additionalProperties": false}),
        ),
        schema(&json!({"type": "string", "pattern": "^(a|bc)*d{2,5}.*x"})),
        Grammar::Regex("[a-z]{3,}( [a-z]+)*\\.".into()),
        Grammar::Lark("start: e\ne: e \"+\" t | t\nt: /[0-9]+/ | \"(\" e \")\"\n".into()),
        super::tags::calls(false, true),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn masks_after_resuming_are_those_of_the_unbroken_answer(
        seed in any::<u64>(),
        grammar in 0..6_usize,
        cuts in proptest::collection::vec(0..60_usize, 3),
    ) {
        for vocabulary in both() {
            let compiled = vocabulary.compile(&grammars()[grammar]);
            let tokens = walk(vocabulary, &compiled, &mut Random(seed), 60).tokens;
            let mut unbroken = Matcher::new(&compiled);
            let (mut expected, mut mask) = (Mask::new(vocabulary.size), Mask::new(vocabulary.size));
            for at in 0..=tokens.len() {
                unbroken.mask(&mut expected).unwrap();
                if cuts.contains(&at) || at == tokens.len() {
                    let mut resumed = Matcher::new(&compiled);
                    resumed.resume(&tokens[..at]).unwrap();
                    resumed.mask(&mut mask).unwrap();
                    prop_assert_eq!(&mask, &expected);
                    prop_assert_eq!(resumed.is_complete(), unbroken.is_complete());
                    prop_assert_eq!(resumed.must_end(), unbroken.must_end());
                    prop_assert_eq!(resumed.position(), at);
                }
                if let Some(token) = tokens.get(at) {
                    unbroken.accept(*token).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_token_is_accepted_exactly_if_the_mask_allows_it(seed in any::<u64>(), grammar in 0..6_usize) {
        let compiled = BEE.compile(&grammars()[grammar]);
        let tokens = walk(&BEE, &compiled, &mut Random(seed), 20).tokens;
        let mut mask = Mask::new(BEE.size);
        let mut matcher = Matcher::new(&compiled);
        matcher.resume(&tokens).unwrap();
        matcher.mask(&mut mask).unwrap();
        let before = mask.clone();
        for token in 0..BEE.size as u32 + 5 {
            if mask.is_allowed(token) {
                let mut other = Matcher::new(&compiled);
                other.resume(&tokens).unwrap();
                prop_assert_eq!(other.accept(token), Ok(()));
            } else {
                let mismatch = Error::Mismatch { position: tokens.len(), token };
                prop_assert_eq!(matcher.accept(token), Err(mismatch));
            }
        }
        // Refused tokens leave no trace.
        matcher.mask(&mut mask).unwrap();
        prop_assert_eq!(mask, before);
    }
}

#[test]
fn an_answer_that_the_grammar_does_not_allow_cannot_be_resumed() {
    let mut tokens = BEE.encode(r#"{"a""#);
    let at = tokens.len();
    tokens.extend(BEE.encode("x"));
    let mut matcher = BEE.matcher(&Grammar::JsonObject);
    assert_eq!(matcher.resume(&tokens), Err(Error::Mismatch { position: at, token: tokens[at] }));
}

#[test]
fn an_answer_that_takes_too_much_work_does_not_change_others() {
    let compiled = LARGE.compile(&Grammar::Regex(".*[a-m].{40}b".into()));
    let mut other = Matcher::new(&compiled);
    let (mut matcher, mut mask) = (Matcher::new(&compiled), Mask::new(LARGE.size));
    let mut random = Random(1);
    let error = (0..2_000).find_map(|_| {
        matcher.mask(&mut mask).err().or_else(|| {
            let allowed: Vec<u32> = mask.iter().filter(|token| *token != LARGE.end).collect();
            matcher.accept(allowed[random.next(allowed.len())]).err()
        })
    });
    assert!(matches!(error, Some(Error::TooComplex { .. })), "{error:?}");
    for matcher in [&mut other, &mut Matcher::new(&compiled)] {
        matcher.mask(&mut mask).unwrap();
        assert!(mask.count() > 1_000);
    }
}

#[test]
fn matchers_move_between_threads() {
    fn assert_send<T: Send>() {}
    fn assert_shared<T: Send + Sync + Clone>() {}
    assert_send::<Matcher>();
    assert_shared::<super::CompiledGrammar>();
}
