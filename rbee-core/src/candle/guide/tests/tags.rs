//! Structural tags: free text, and calls of tools in it.

use serde_json::json;

use super::super::{StructuralTag, StructuralTags, TagBody};
use super::{BEE, Error, Grammar, LARGE, Mask, Random, Vocabulary, both, walk};

fn tag(begin: &str, name: &str, end: &str) -> StructuralTag {
    let schema = json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name], "additionalProperties": false});
    StructuralTag {
        name: name.into(),
        begin: begin.into(),
        body: TagBody::Json(schema.to_string()),
        end: end.into(),
    }
}

fn two_tools(required: bool, parallel: bool) -> StructuralTags {
    StructuralTags {
        tags: vec![
            tag("<tool_call>\n{\"name\": \"f\", \"arguments\": ", "x", "}\n</tool_call>"),
            tag("<tool_call>\n{\"name\": \"g\", \"arguments\": ", "y", "}\n</tool_call>"),
        ],
        triggers: vec!["<tool_call>".into()],
        required,
        parallel,
        separator: "\n".into(),
        otherwise: None,
        around: Default::default(),
    }
}

pub(super) fn calls(required: bool, parallel: bool) -> Grammar {
    Grammar::StructuralTags(two_tools(required, parallel))
}

const F: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n</tool_call>";
const G: &str = "<tool_call>\n{\"name\": \"g\", \"arguments\": {\"y\": 2}}\n</tool_call>";
const WRONG: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"y\":1}}\n</tool_call>";

#[test]
fn text_is_free_until_a_trigger_and_then_a_tag_follows() {
    for vocabulary in both() {
        let grammar = calls(false, true);
        for text in [
            "",
            "Hello <b> <tool_cal",
            F,
            &format!("Text, é\n{F}"),
            &format!("{F}\n{G} and {F} end"),
        ] {
            assert!(vocabulary.allows(&grammar, text), "{text}");
        }
        for text in [
            "<tool_call>",
            WRONG,
            &format!("a {WRONG}"),
            &format!("{F}{WRONG}"),
            "x<tool_call> is a tag",
        ] {
            assert!(!vocabulary.allows(&grammar, text), "{text}");
        }
    }
}

#[test]
fn required_calls_have_no_text_around_them() {
    let grammar = calls(true, true);
    for vocabulary in both() {
        assert!(
            vocabulary.allows(&grammar, F)
                && vocabulary.allows(&grammar, &format!("{F}\n{G}\n{F}"))
        );
        for text in [
            "",
            "Hello",
            &format!(" {F}"),
            &format!("{F}{G}"),
            &format!("{F}\n"),
            &format!("{F} "),
            WRONG,
        ] {
            assert!(!vocabulary.allows(&grammar, text), "{text}");
        }
    }
}

#[test]
fn without_parallel_calls_the_answer_ends_after_the_first() {
    for vocabulary in both() {
        let (free, only) = (calls(false, false), calls(true, false));
        assert!(
            vocabulary.allows(&free, "Hello") && vocabulary.allows(&free, &format!("Hello {F}"))
        );
        assert!(vocabulary.allows(&only, G) && !vocabulary.allows(&only, "Hello"));
        for grammar in [free, only] {
            assert!(
                !vocabulary.allows(&grammar, &format!("{F}\n{G}"))
                    && !vocabulary.allows(&grammar, &format!("{F} x"))
            );
            let mut matcher = vocabulary.matcher(&grammar);
            matcher.resume(&vocabulary.encode(F)).unwrap();
            assert!(matcher.must_end());
        }
    }
}

#[test]
fn an_answer_is_either_calls_or_a_value_of_the_schema_and_nothing_beside_them() {
    for (parallel, otherwise) in [
        (
            true,
            r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#,
        ),
        (false, r#"{"type":"object"}"#),
        (true, r#"{"type":"array","items":{"type":"string"}}"#),
        (true, r#"{"type":"string"}"#),
    ] {
        let mut tags = two_tools(true, parallel);
        tags.otherwise = Some(otherwise.into());
        let grammar = Grammar::StructuralTags(tags);
        let of_schema = |text: &str| match otherwise {
            schema if schema.contains("array") => text == r#"["<tool_call>"]"#,
            schema if schema.contains("string") => text == "\"<tool_call>\"",
            schema if schema.contains("required") => text == r#"{"a":7}"#,
            _ => text == r#"{"a":7}"# || text == r#"{"name": "f"}"#,
        };
        for vocabulary in both() {
            assert!(vocabulary.allows(&grammar, F) && vocabulary.allows(&grammar, G));
            assert_eq!(vocabulary.allows(&grammar, &format!("{F}\n{G}")), parallel);
            for text in [r#"{"a":7}"#, r#"{"name": "f"}"#, r#"["<tool_call>"]"#, "\"<tool_call>\""]
            {
                assert_eq!(
                    vocabulary.allows(&grammar, text),
                    of_schema(text),
                    "{otherwise}: {text}"
                );
            }
            for text in [
                "",
                "Hello",
                WRONG,
                &format!("{{\"a\":7}}\n{F}"),
                &format!("{F}{{\"a\":7}}"),
                "<tool_call>",
            ] {
                assert!(!vocabulary.allows(&grammar, text), "{otherwise}: {text}");
            }
        }
    }
}

#[test]
fn one_named_tool_is_a_single_tag() {
    let mut tags = two_tools(true, false);
    tags.tags.truncate(1);
    let grammar = Grammar::StructuralTags(tags);
    assert!(BEE.allows(&grammar, F) && !BEE.allows(&grammar, G));
}

/// Tags whose texts are control tokens of the large vocabulary.
fn control_tags(required: bool) -> Grammar {
    Grammar::StructuralTags(StructuralTags {
        tags: vec![tag("[TOOL_CALLS]f[ARGS]", "x", ""), tag("[TOOL_CALLS]g[ARGS]", "y", "")],
        triggers: vec!["[TOOL_CALLS]".into()],
        required,
        parallel: true,
        separator: String::new(),
        otherwise: None,
        around: Default::default(),
    })
}

#[test]
fn a_control_token_works_as_a_token_and_as_text() {
    let (calls, args) = (LARGE.control("[TOOL_CALLS]"), LARGE.control("[ARGS]"));
    let ids = |parts: &[Result<u32, &str>]| -> Vec<u32> {
        parts
            .iter()
            .flat_map(|part| match part {
                Ok(id) => vec![*id],
                Err(text) => LARGE.encode(text),
            })
            .collect()
    };
    for required in [true, false] {
        let grammar = control_tags(required);
        let takes = |tokens: &[u32]| {
            let mut matcher = LARGE.matcher(&grammar);
            matcher.resume(tokens).is_ok() && matcher.is_complete()
        };
        assert!(takes(&ids(&[Ok(calls), Err("f"), Ok(args), Err("{\"x\":1}")])));
        assert!(takes(&ids(&[Err("[TOOL_CALLS]f"), Ok(args), Err("{\"x\":1}")])));
        assert!(takes(&ids(&[Err("[TOOL_CALLS]f[ARGS]{\"x\":1}")])));
        assert!(takes(&ids(&[
            Ok(calls),
            Err("f"),
            Ok(args),
            Err("{\"x\":1}"),
            Ok(calls),
            Err("g"),
            Ok(args),
            Err("{\"y\":1}")
        ])));
        assert!(!takes(&ids(&[Ok(calls), Err("f"), Ok(args), Err("{\"y\":1}")])));
        assert!(!takes(&ids(&[Err("[TOOL_CALLS]f[ARGS]{\"y\":1}")])));
        assert!(!takes(&ids(&[Ok(args)])));
        assert_eq!(
            takes(&ids(&[Err("Hello "), Ok(calls), Err("g"), Ok(args), Err("{\"y\":1}")])),
            !required
        );
        assert_eq!(
            takes(&ids(&[Err("é [TOOL_CALLS]g"), Ok(args), Err("{\"y\":1} and more")])),
            !required
        );
        let mut mask = Mask::new(LARGE.size);
        LARGE.matcher(&grammar).mask(&mut mask).unwrap();
        assert!(mask.is_allowed(calls) && !mask.is_allowed(args));
        // A vocabulary without these tokens has only the text.
        assert!(BEE.allows(&grammar, "[TOOL_CALLS]f[ARGS]{\"x\":1}"));
    }
}

#[test]
fn an_added_token_that_is_stored_as_text_works_too() {
    let token = LARGE.encode("<tool_call>")[0];
    assert_eq!(LARGE.table.bytes(token), Some(&b"<tool_call>"[..]));
    let rest = F.strip_prefix("<tool_call>").unwrap();
    let mut matcher = LARGE.matcher(&calls(true, true));
    matcher.accept(token).unwrap();
    matcher.resume(&LARGE.encode(rest)).unwrap();
    assert!(matcher.is_complete());
}

/// Finds the calls in a text, and checks them apart from the grammar.
fn assert_only_whole_calls(text: &str) {
    let parts: Vec<&str> = text.split("<tool_call>").collect();
    for part in &parts[1..] {
        let (call, _) = part.split_once("\n</tool_call>").unwrap_or_else(|| panic!("{text}"));
        let call: serde_json::Value = serde_json::from_str(call).unwrap();
        let name = if call["name"] == "f" { "x" } else { "y" };
        assert!(call["arguments"][name].is_i64() || call["arguments"][name].is_number(), "{text}");
    }
}

#[test]
fn random_answers_have_only_whole_calls() {
    for vocabulary in both() {
        for (required, parallel) in [(false, true), (false, false), (true, true), (true, false)] {
            let compiled = vocabulary.compile(&calls(required, parallel));
            for seed in 0..10 {
                let walk = walk(vocabulary, &compiled, &mut Random(seed), 120);
                if walk.is_whole {
                    let text = String::from_utf8(walk.text).unwrap();
                    assert_only_whole_calls(&text);
                    assert_eq!(text.starts_with("<tool_call>"), required, "{text}");
                }
            }
        }
    }
}

fn refused(vocabulary: &Vocabulary, change: impl FnOnce(&mut StructuralTags)) -> String {
    let mut tags = two_tools(false, true);
    change(&mut tags);
    match vocabulary.factory.compile(&Grammar::StructuralTags(tags)) {
        Err(Error::InvalidGrammar { message } | Error::TooComplex { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mistakes_in_tags_are_named() {
    type Change = fn(&mut StructuralTags);
    let cases: [(&str, Change); 9] = [
        ("have 0 tags", |tags| tags.tags.clear()),
        ("have 0 triggers", |tags| tags.triggers.clear()),
        ("empty trigger", |tags| tags.triggers[0].clear()),
        ("one within the other", |tags| tags.triggers.push("tool_call".into())),
        ("begins no tag", |tags| tags.triggers.push("[x]".into())),
        ("tool \"y\" begins with \"call\"", |tags| tags.tags[1].begin = "call".into()),
        ("tool \"y\": not at /not is not supported", |tags| {
            tags.tags[1].body = TagBody::Json(r#"{"not": {}}"#.into())
        }),
        ("have a text of 2000 bytes as end; allowed are 1024", |tags| {
            tags.tags[0].end = "x".repeat(2_000)
        }),
        ("have the end-of-text token in \"<end>\"", |tags| tags.tags[0].end = "<end>".into()),
    ];
    for (said, change) in cases {
        let message = refused(&LARGE, change);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn texts_of_tags_are_taken_literally() {
    let grammar = Grammar::StructuralTags(StructuralTags {
        tags: vec![tag("/.*\"\\\n(é", "x", "|]/i\u{1}$")],
        triggers: vec!["/.*\"\\".into()],
        required: false,
        parallel: true,
        separator: String::new(),
        otherwise: None,
        around: Default::default(),
    });
    for vocabulary in both() {
        assert!(vocabulary.allows(&grammar, "a /.*\"\\\n(é{\"x\":3}|]/i\u{1}$ b"));
        assert!(vocabulary.allows(&grammar, "/ab\""), "a trigger is no expression");
        assert!(!vocabulary.allows(&grammar, "/.*\"\\ other"));
    }
}
