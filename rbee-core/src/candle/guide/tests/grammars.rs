//! Regular expressions, Lark grammars, and the cache.

use super::super::limits;
use super::{BEE, Grammar, Mask, Vocabulary, both, invalid, too_complex};

#[test]
fn a_regular_expression_matches_the_whole_answer() {
    for vocabulary in both() {
        let grammar = Grammar::Regex("(yes|no)/[0-9]{2}".into());
        assert!(vocabulary.allows(&grammar, "yes/07") && vocabulary.allows(&grammar, "no/12"));
        for text in ["yes", "yes/7", "xyes/07", "yes/077", ""] {
            assert!(!vocabulary.allows(&grammar, text), "{text}");
        }
        assert!(vocabulary.allows(&Grammar::Regex("^a$".into()), "a"));
        assert!(vocabulary.allows(&Grammar::Regex("a\nb|\\\\|\\/".into()), "a\nb"));
        assert!(vocabulary.allows(&Grammar::Regex("^a$".into()), "a"));
        assert!(vocabulary.allows(&Grammar::Regex("a\nb|\\\\|\\/".into()), "\\"));
    }
}

#[test]
fn an_expression_that_matches_only_nothing_ends_at_once() {
    let mut matcher = BEE.matcher(&Grammar::Regex("a{0}".into()));
    let mut mask = Mask::new(BEE.size);
    matcher.mask(&mut mask).unwrap();
    assert!(matcher.is_complete() && mask.iter().eq([2, 6]));
}

#[test]
fn mistakes_in_regular_expressions_are_named() {
    let cases = [
        ("", "is empty"),
        ("a\\", "single backslash"),
        ("a(b", "unclosed group"),
        ("(?=a)b", "look-around"),
        ("a^b", "an anchor that is not at an end"),
        ("\\bword", "look-around"),
        ("[^\\s\\S]", "no beginning"),
    ];
    for (pattern, said) in cases {
        let message = invalid(&Grammar::Regex(pattern.into()));
        assert!(message.contains(said) && !message.contains('\n'), "{pattern}: {message}");
    }
}

#[test]
fn text_of_an_expression_cannot_become_a_part_of_the_grammar_around_it() {
    for pattern in ["a/\nb: /c", "a\\/\nstart: /c", "/ | /x", "a/i"] {
        let grammar = Grammar::Regex(pattern.into());
        let literal = pattern.replace("\\/", "/");
        if pattern.contains('|') {
            assert!(BEE.allows(&grammar, "/ ") && BEE.allows(&grammar, " /x"), "{pattern}");
        } else {
            assert!(BEE.allows(&grammar, &literal), "{pattern}");
        }
        assert!(!BEE.allows(&grammar, "c") && !BEE.allows(&grammar, "A"), "{pattern}");
    }
}

#[test]
fn a_lark_grammar_is_followed() {
    let grammar = Grammar::Lark(
        "start: sum // a comment (((\nsum: sum \"+\" NUMBER | NUMBER\nNUMBER: /[0-9]+/\n".into(),
    );
    for vocabulary in both() {
        assert!(vocabulary.allows(&grammar, "1+23+4") && !vocabulary.allows(&grammar, "1+"));
    }
}

#[test]
fn what_a_lark_grammar_must_not_have_is_refused_with_its_line() {
    let cases = [
        ("start: %json {\"type\": \"object\"}", "has %json in line 1"),
        ("start: a\n\na: %lark { start: \"x\" }", "has %lark in line 3"),
        ("start: a\na[stop=\"x\"]: /.*/", "has attribute stop in line 2"),
        ("start: a\na[lazy, max_tokens = 3]: /.*/", "has attribute max_tokens in line 2"),
        ("start: a\na[temperature\t=0.5]: /.*/", "has attribute temperature in line 2"),
        ("start: A\nA: ~~\"x\"", "has 2 negations in a row in line 2"),
        ("start: b", "b"),
        ("x: \"y\"", "no start rule found"),
        ("start: \"x", "not valid"),
        ("start: <[99999]>", "Token range end too large"),
    ];
    for (text, said) in cases {
        let message = invalid(&Grammar::Lark(text.into()));
        assert!(message.contains(said) && !message.contains('\n'), "{text}: {message}");
    }
    // Not where it is only text.
    for text in
        ["start: \"%json stop=\"", "start: /%json(((/ /x/", "start: \"a\" # stop=\"x\" %json\n"]
    {
        let allowed = !matches!(BEE.factory.compile(&Grammar::Lark(text.into())), Err(error) if error.to_string().contains("not supported"));
        assert!(allowed, "{text}");
    }
}

#[test]
fn each_limit_of_lark_grammars_and_expressions_is_named() {
    let deep = format!("start: {}\"a\"{}", "(".repeat(25), ")".repeat(25));
    assert!(too_complex(&Grammar::Lark(deep)).contains("nests more than 24 brackets in line 1"));
    let hidden = format!("start: {}", "( \")\" ".repeat(25));
    assert!(too_complex(&Grammar::Lark(hidden)).contains("nests more than 24"));
    let long: String = (0..2_001).map(|at| format!("a{at}: \"x\"\n")).collect();
    assert!(too_complex(&Grammar::Lark(long)).contains("allowed are 2000"));
    let joined = |count: usize| format!("start: A\nA: /a&&/{}\n", " & \"a&&\"".repeat(count));
    assert!(too_complex(&Grammar::Lark(joined(9))).contains("more than 8 & up to line 2"));
    BEE.compile(&Grammar::Lark(joined(8)));
    let text = "#".repeat(limits::MAX_LARK_BYTES + 1);
    assert!(too_complex(&Grammar::Lark(text)).contains("has 32769 bytes; allowed are 32768"));
    let text = "a".repeat(limits::MAX_GRAMMAR_BYTES + 1);
    assert!(too_complex(&Grammar::Regex(text)).contains("has 65537 bytes; allowed are 65536"));
}

#[test]
fn grammars_used_lately_are_kept_up_to_a_number() {
    let vocabulary = Vocabulary::new(BEE.tokenizer.clone(), 1_024, &[6]);
    let grammar = |at: usize| Grammar::Regex(format!("a{at}"));
    vocabulary.compile(&grammar(0));
    let (count, bytes) = vocabulary.factory.cached();
    assert!(count == 1 && bytes > 500, "{bytes}");
    for at in 1..limits::CACHED_GRAMMARS + 10 {
        vocabulary.compile(&grammar(at));
        assert!(vocabulary.factory.keeps(&grammar(0)));
    }
    assert_eq!(vocabulary.factory.cached().0, limits::CACHED_GRAMMARS);
    assert!(!vocabulary.factory.keeps(&grammar(1)));
    assert!(vocabulary.factory.compile(&Grammar::Regex("(".into())).is_err());
    assert_eq!(vocabulary.factory.cached().0, limits::CACHED_GRAMMARS);
}
