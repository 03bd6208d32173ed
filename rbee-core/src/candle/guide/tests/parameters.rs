//! Calls whose parameters are written one by one, with tags or as keyword arguments of Python.

use serde_json::{Value, json};

use super::super::{ParameterSyntax, StructuralTag, StructuralTags, TagBody};
use super::{BEE, Error, Grammar, LARGE, Random, both, walk};

fn xml() -> ParameterSyntax {
    ParameterSyntax {
        key_begin: "<parameter=".into(),
        key_end: ">\n".into(),
        value_end: "</parameter>".into(),
        end: "\n".into(),
        own_lines: true,
        ..ParameterSyntax::default()
    }
}

fn python() -> ParameterSyntax {
    ParameterSyntax {
        key_end: "=".into(),
        separator: ", ".into(),
        is_python: true,
        ..ParameterSyntax::default()
    }
}

/// A required call of a tool whose arguments have this schema.
fn call(schema: &Value, syntax: ParameterSyntax) -> Grammar {
    let (trigger, end) = if syntax.is_python { ("", ")") } else { ("<function=", "</function>") };
    let begin = if syntax.is_python { "f(" } else { "<function=f>\n" };
    let around = if syntax.is_python { ["[", "]"] } else { ["", ""] };
    Grammar::StructuralTags(StructuralTags {
        tags: vec![StructuralTag {
            name: "f".into(),
            begin: begin.into(),
            body: TagBody::Parameters { schema: schema.to_string(), syntax },
            end: end.into(),
        }],
        triggers: vec![trigger.into()],
        required: true,
        parallel: true,
        separator: ", ".into(),
        otherwise: None,
        around: around.map(str::to_owned),
    })
}

/// A schema of an object with these properties, of which these are required, and no others.
fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The text of a call with these parameters.
fn written(parameters: &[(&str, &str)]) -> String {
    let one = |(key, value): &(&str, &str)| format!("<parameter={key}>\n{value}\n</parameter>\n");
    format!("<function=f>\n{}</function>", parameters.iter().map(one).collect::<String>())
}

#[test]
fn required_parameters_come_in_the_order_of_the_schema_and_others_may_be_absent() {
    let integer = json!({"type": "integer"});
    let schema = object(json!({"a": integer, "b": integer, "c": integer}), &["b"]);
    for vocabulary in both() {
        let (xml, python) = (call(&schema, xml()), call(&schema, python()));
        for (keys, is_allowed) in [
            ("b", true),
            ("ab", true),
            ("bc", true),
            ("abc", true),
            ("", false),
            ("a", false),
            ("ba", false),
            ("bb", false),
            ("bx", false),
        ] {
            let pairs: Vec<(&str, &str)> =
                keys.char_indices().map(|(at, _)| (&keys[at..=at], "1")).collect();
            assert_eq!(vocabulary.allows(&xml, &written(&pairs)), is_allowed, "{keys}");
            let list: Vec<String> = keys.chars().map(|key| format!("{key}=1")).collect();
            let text = format!("[f({})]", list.join(", "));
            assert_eq!(vocabulary.allows(&python, &text), is_allowed, "{text}");
        }
        assert!(vocabulary.allows(&python, "[f(b=1), f(a=1, b=2)]"));
        assert!(!vocabulary.allows(&python, "[f(b=1)] [f(b=1)]"));
    }
}

#[test]
fn an_answer_is_calls_or_a_value_of_another_schema_also_if_both_begin_alike() {
    let schema = object(json!({"a": {"type": "integer"}}), &["a"]);
    for (syntax, calls) in [(xml(), written(&[("a", "1")])), (python(), "[f(a=1)]".to_owned())] {
        let mut grammar = call(&schema, syntax);
        let Grammar::StructuralTags(tags) = &mut grammar else { unreachable!("it was made so") };
        tags.otherwise = Some(r#"{"type": "array", "items": {"type": "integer"}}"#.into());
        for vocabulary in both() {
            for text in [&*calls, "[]", "[1, 2]"] {
                assert!(vocabulary.allows(&grammar, text), "{text}");
            }
            for text in ["[f(a=1), 2]", "[1, f(a=1)]", "[f]", "7", "f(a=1)", "", "[1] [f(a=1)]"] {
                assert!(!vocabulary.allows(&grammar, text), "{text}");
            }
        }
    }
}

#[test]
fn values_of_tags_are_text_or_json_by_the_schema() {
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "text": {"type": "string"},
            "few": {"type": "string", "maxLength": 3},
            "many": {"type": "string", "minLength": 2},
            "one": {"enum": ["red", "blue green"]},
            "named": {"$ref": "#/$defs/color"},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "color": {"anyOf": [{"$ref": "#/$defs/color"}, {"type": "null"}]},
            "count": {"type": ["integer", "null"]},
            "yes": {"type": "boolean"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/color"}},
            "any": {},
        },
        "$defs": {"color": {"type": "string", "enum": ["a", "b"]}},
    });
    let grammar = call(&schema, xml());
    for (key, allowed, refused) in [
        ("text", &["", "a <b>\n\"</param", "é🐝"][..], &["</parameter>\nx"][..]),
        ("few", &["", "abc"], &["abcde"]),
        ("many", &["ab", "abc"], &["a"]),
        ("one", &["red", "blue green"], &["", "\"red\"", "blue"]),
        ("named", &["a", "b"], &["c", "\"a\""]),
        ("maybe", &["null", "x"], &[]),
        ("color", &["a", "null"], &["None", "x"]),
        ("count", &["1", "null"], &["x", "1.5", "\"1\""]),
        ("yes", &["true", "false"], &["True", "1"]),
        ("list", &["[]", "[\"a\", \"b\"]"], &["[\"c\"]", "a"]),
        ("any", &["x", "[1]", ""], &[]),
    ] {
        for vocabulary in both() {
            for value in allowed {
                assert!(vocabulary.allows(&grammar, &written(&[(key, value)])), "{key}: {value}");
            }
            for value in refused {
                assert!(!vocabulary.allows(&grammar, &written(&[(key, value)])), "{key}: {value}");
            }
        }
    }
}

#[test]
fn values_of_python_are_its_literals() {
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "text": {"type": "string", "pattern": "^[a-z\"]*$"},
            "one": {"enum": ["red", 1, true, null]},
            "count": {"type": ["integer", "null"]},
            "yes": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": "boolean"}},
        },
    });
    let grammar = call(&schema, python());
    for (key, allowed, refused) in [
        ("text", &["\"ab\"", "\"a\\\"\""][..], &["'ab'", "ab", "\"1\""][..]),
        ("one", &["\"red\"", "1", "True", "None"], &["true", "null", "False", "red"]),
        ("count", &["1", "None"], &["null", "\"1\""]),
        ("yes", &["True", "False"], &["true"]),
        ("list", &["[]", "[true, false]"], &["[1]"]),
    ] {
        for vocabulary in both() {
            for value in allowed {
                assert!(
                    vocabulary.allows(&grammar, &format!("[f({key}={value})]")),
                    "{key}={value}"
                );
            }
            for value in refused {
                assert!(
                    !vocabulary.allows(&grammar, &format!("[f({key}={value})]")),
                    "{key}={value}"
                );
            }
        }
    }
}

#[test]
fn parameters_that_the_schema_does_not_name_are_allowed_if_it_says_so() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}});
    for vocabulary in both() {
        let (xml, python) = (call(&schema, xml()), call(&schema, python()));
        assert!(vocabulary.allows(&xml, &written(&[("a", "1"), ("b", "true"), ("c", "false")])));
        assert!(vocabulary.allows(&xml, &written(&[])));
        assert!(!vocabulary.allows(&xml, &written(&[("b", "1")])));
        assert!(vocabulary.allows(&python, "[f(b=True, c=False)]"));
        assert!(!vocabulary.allows(&python, "[f(b=1)]"));
    }
}

#[test]
fn a_tag_that_is_a_control_token_ends_a_text() {
    let mut syntax = xml();
    syntax.value_end = "[ARGS]".into();
    let grammar = call(&object(json!({"a": {"type": "string"}}), &["a"]), syntax);
    let mut tokens = LARGE.encode("<function=f>\n<parameter=a>\nsome text\n");
    tokens.push(LARGE.control("[ARGS]"));
    tokens.extend(LARGE.encode("\n</function>"));
    let mut matcher = LARGE.matcher(&grammar);
    matcher.resume(&tokens).unwrap();
    assert!(matcher.is_complete());
    assert!(LARGE.allows(&grammar, "<function=f>\n<parameter=a>\nsome text\n[ARGS]\n</function>"));
}

#[test]
fn line_breaks_between_tags_may_be_absent_if_the_syntax_is_loose() {
    let syntax = ParameterSyntax {
        key_begin: "<arg_key>".into(),
        key_end: "</arg_key>\n<arg_value>".into(),
        value_end: "</arg_value>".into(),
        end: "\n".into(),
        ..ParameterSyntax::default()
    };
    let schema = object(json!({"a": {"type": "string"}, "b": {"type": "integer"}}), &["a"]);
    let lines = "<function=f>\n<arg_key>a</arg_key>\n<arg_value>x\n</arg_value>\n<arg_key>b</arg_key>\n<arg_value>1</arg_value>\n</function>";
    let one = "<function=f><arg_key>a</arg_key><arg_value>x</arg_value><arg_key>b</arg_key><arg_value>1</arg_value></function>";
    for vocabulary in both() {
        for loose in [true, false] {
            let grammar = call(&schema, ParameterSyntax { loose, ..syntax.clone() });
            assert!(vocabulary.allows(&grammar, lines));
            assert_eq!(vocabulary.allows(&grammar, one), loose);
            assert!(!vocabulary.allows(&grammar, &lines.replace(">1<", "> 1<")));
        }
    }
}

#[test]
fn what_cannot_be_enforced_is_refused_with_the_name_of_the_tool() {
    for (schema, syntax, said) in [
        (
            json!({"anyOf": [{"type": "object"}]}),
            xml(),
            "tool \"f\": anyOf at / cannot be enforced",
        ),
        (
            object(json!({"a>b": {}}), &[]),
            xml(),
            "tool \"f\": parameter \"a>b\" cannot be enforced",
        ),
        (
            object(json!({"a-b": {}}), &[]),
            python(),
            "tool \"f\": parameter \"a-b\" cannot be enforced",
        ),
        (object(json!({"a": {"not": {}}}), &[]), xml(), "tool \"f\": not at /properties/a/not"),
        (
            object(json!({"a": {"enum": []}}), &[]),
            xml(),
            "tool \"f\": a parameter has a list of no values",
        ),
    ] {
        match BEE.factory.compile(&call(&schema, syntax)) {
            Err(Error::InvalidGrammar { message }) => assert!(message.contains(said), "{message}"),
            other => panic!("{said}: {other:?}"),
        }
    }
}

#[test]
fn parameters_that_multiply_themselves_are_refused_at_once() {
    let options = |count: usize| vec![json!({"$ref": "#/$defs/0"}); count];
    let mut defs = serde_json::Map::new();
    for level in 0..6 {
        let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
        defs.insert(level.to_string(), json!({"anyOf": vec![next; 100]}));
    }
    defs.insert("6".into(), json!({"type": "integer"}));
    let alternatives =
        json!({"type": "object", "properties": {"a": {"anyOf": options(100)}}, "$defs": defs});
    let large = json!({"enum": ["x".repeat(20_000)]});
    let used = json!({"type": "array", "items": {"$ref": "#/$defs/d"}});
    let keys = (0..40).map(|at| (format!("k{at}"), used.clone()));
    let copies = json!({"type": "object", "properties": keys.collect::<serde_json::Map<_, _>>(), "$defs": {"d": large}});
    for (schema, said) in [(alternatives, "use fewer alternatives"), (copies, "524288 bytes")] {
        match BEE.factory.compile(&call(&schema, xml())) {
            Err(Error::TooComplex { message }) => {
                assert!(message.starts_with("tool \"f\": ") && message.contains(said), "{message}");
            }
            other => panic!("{said}: {other:?}"),
        }
    }
}

#[test]
fn a_tool_can_have_as_many_parameters_as_a_schema() {
    let keys = (0..1_000).map(|at| (format!("k{at}"), json!({"type": "boolean"})));
    let properties = Value::Object(keys.collect());
    let required: Vec<String> = (0..1_000).map(|at| format!("k{at}")).collect();
    let required: Vec<&str> = required.iter().map(String::as_str).collect();
    for optional in [0, 250] {
        let schema = object(properties.clone(), &required[optional..]);
        for syntax in [xml(), python()] {
            BEE.compile(&call(&schema, syntax));
        }
    }
}

#[test]
fn random_calls_have_what_the_schema_requires() {
    let schema = object(json!({"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}}), &["a", "b"]);
    for vocabulary in both() {
        let compiled = vocabulary.compile(&call(&schema, xml()));
        for seed in 0..10 {
            let walk = walk(vocabulary, &compiled, &mut Random(seed), 200);
            if walk.is_whole {
                let text = String::from_utf8(walk.text).unwrap();
                assert!(text.starts_with("<function=f>\n<parameter=a>\n"), "{text}");
                assert!(
                    text.contains("<parameter=b>\n") && text.ends_with("</function>"),
                    "{text}"
                );
            }
        }
    }
}
