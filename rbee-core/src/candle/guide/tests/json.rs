//! Answers in JSON match their schema.

use serde_json::{Value, json};

use super::{BEE, Grammar, Random, both, oracle, schema, walk};

/// Schemas whose walks are checked. Most allow values that end soon.
fn suite() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"],
               "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "array",
               "items": {"type": "object", "properties": {"c": {"type": "boolean"}}}, "maxItems": 3}}}}}),
        json!({"enum": ["red", "green", 3, 2.5, null, true, {"x": [1]}, "ü \" \\ \n"]}),
        json!({"const": {"fixed": ["text", -1, false]}}),
        json!({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 5}),
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}, "minItems": 2}),
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": false}),
        json!({"anyOf": [{"type": "string", "maxLength": 4}, {"type": "integer"}, {"type": "null"}]}),
        json!({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"]},
                         {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind"]}]}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
                         {"properties": {"a": {"maximum": 12}, "b": {"type": "null"}}, "required": ["b"]}]}),
        json!({"type": ["integer", "null"], "minimum": -7, "exclusiveMaximum": 1234}),
        json!({"type": "number", "exclusiveMinimum": -0.5, "maximum": 99.25}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000}),
        json!({"type": "number", "multipleOf": 0.25}),
        json!({"type": "string", "minLength": 2, "maxLength": 5}),
        json!({"type": "object", "properties": {"next": {"$ref": "#"}, "v": {"type": "integer", "maximum": 9}}, "required": ["v"],
               "additionalProperties": false}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"leaf": {"type": "boolean"},
               "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}}, "required": ["leaf"],
               "additionalProperties": false}}}),
        json!({"type": "object", "properties": {"a~b/c d": {"type": "integer"}, "r": {"$ref": "#/properties/a~0b~1c%20d"}},
               "required": ["r"]}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}),
        json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "additionalProperties": false,
               "minProperties": 1, "maxProperties": 1}),
        json!({"title": "T", "description": "D", "type": "boolean", "default": false}),
        json!({"enum": [1, 2, "x", 0.5], "type": "number"}),
        json!({"type": "integer", "enum": [9007199254740991_i64, -9007199254740991_i64]}),
        json!({"minimum": 3}),
        json!({}),
    ]
}

#[test]
fn random_answers_are_json_of_their_schema_and_may_end_exactly_when_they_are_whole() {
    for vocabulary in both() {
        let mut whole = 0;
        for schema_value in suite() {
            let compiled = vocabulary.compile(&schema(&schema_value));
            for seed in 0..12 {
                let walk = walk(vocabulary, &compiled, &mut Random(seed), 150);
                if !walk.is_whole {
                    continue;
                }
                let text = String::from_utf8(walk.text).unwrap();
                // A number such as 1e999 is JSON, but no number that a float can have.
                let Ok(value) = serde_json::from_str::<Value>(&text) else {
                    assert!(
                        text.contains(['e', 'E']) || text.len() > 300,
                        "{schema_value}: {text}"
                    );
                    continue;
                };
                assert!(
                    oracle::matches(&value, &schema_value, &schema_value),
                    "{schema_value}: {text}"
                );
                whole += 1;
            }
        }
        assert!(whole > 150, "only {whole} walks came to an end");
    }
}

#[test]
fn an_object_may_end_only_behind_its_last_brace() {
    for vocabulary in both() {
        let grammar = Grammar::JsonObject;
        let mut matcher = vocabulary.matcher(&grammar);
        for token in vocabulary.encode(r#"{"a": [1,{"b":"}"}], "c":null}"#) {
            assert!(!matcher.is_complete());
            matcher.accept(token).unwrap();
        }
        assert!(matcher.is_complete() && matcher.must_end());
        assert!(!vocabulary.allows(&grammar, "[]") && !vocabulary.allows(&grammar, "1"));
    }
}

#[test]
fn white_space_is_at_most_one_space_behind_commas_and_colons() {
    for text in [r#"{"a":1,"b":[1,2]}"#, r#"{"a": 1, "b": [1, 2]}"#, r#"{"a":1, "b": [1,2]}"#] {
        assert!(BEE.allows(&Grammar::JsonObject, text), "{text}");
    }
    for text in [
        r#"{ "a":1}"#,
        r#"{"a":  1}"#,
        "{\"a\":\n1}",
        r#"{"a" :1}"#,
        r#"{"a":1 }"#,
        " {}",
        "{} ",
        "{}\n",
    ] {
        assert!(!BEE.allows(&Grammar::JsonObject, text), "{text:?}");
    }
}

#[test]
fn a_text_has_one_spelling_so_a_property_cannot_come_twice() {
    let grammar = schema(&json!({"type": "object", "properties": {"ab": {"type": "integer"}}}));
    assert!(BEE.allows(&grammar, r#"{"ab":1,"c":"x"}"#));
    for text in [r#"{"ab":1,"ab":"x"}"#, r#"{"\u0061b":"x"}"#, r#"{"ab":1,"\u0061b":"x"}"#] {
        assert!(!BEE.allows(&grammar, text), "{text}");
    }
    assert!(BEE.allows(&schema(&json!({"type": "string"})), r#""é \n\t\" \\ 🐝""#));
    assert!(!BEE.allows(&schema(&json!({"type": "string"})), r#""\u00e9""#));
}

#[test]
fn properties_come_in_the_order_of_the_schema() {
    let grammar = schema(
        &json!({"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}}}),
    );
    assert!(
        BEE.allows(&grammar, r#"{"z":null,"a":null}"#) && BEE.allows(&grammar, r#"{"a":null}"#)
    );
    assert!(!BEE.allows(&grammar, r#"{"a":null,"z":null}"#));
}

#[test]
fn bounds_of_lengths_and_numbers_are_exact() {
    let cases = [
        (
            json!({"type": "string", "minLength": 2, "maxLength": 3}),
            vec![r#""ab""#, r#""äöü""#],
            vec![r#""a""#, r#""abcd""#],
        ),
        (
            json!({"type": "integer", "minimum": -3, "exclusiveMaximum": 20}),
            vec!["-3", "0", "19"],
            vec!["-4", "20", "1.5", "1e1", "01"],
        ),
        (json!({"type": "integer", "minimum": 5, "exclusiveMinimum": true}), vec!["6"], vec!["5"]),
        (
            json!({"type": "number", "minimum": 0.5, "maximum": 2}),
            vec!["0.5", "1", "2", "1.999"],
            vec!["0.49", "2.01", "-1"],
        ),
        (json!({"const": 1.0}), vec!["1"], vec!["2", "true"]),
        (
            json!({"type": "array", "minItems": 1, "maxItems": 2}),
            vec!["[1]", r#"[1,"x"]"#],
            vec!["[]", "[1,2,3]"],
        ),
        (
            json!({"items": [{"type": "null"}], "additionalItems": {"type": "boolean"}, "type": "array"}),
            vec!["[]", "[null]", "[null,true]"],
            vec!["[1]", "[null,null]"],
        ),
    ];
    for (value, allowed, refused) in cases {
        let grammar = schema(&value);
        for text in allowed {
            assert!(BEE.allows(&grammar, text), "{value}: {text}");
        }
        for text in refused {
            assert!(!BEE.allows(&grammar, text), "{value}: {text}");
        }
    }
}

#[test]
fn patterns_search_in_the_text_and_formats_match_the_whole() {
    let cases = [
        (
            json!({"type": "string", "pattern": "^[a-c]+\\d$"}),
            vec![r#""ab1""#],
            vec![r#""ab""#, r#""xab1""#, r#""ab1x""#],
        ),
        (json!({"type": "string", "pattern": "b\\d"}), vec![r#""ab1x""#], vec![r#""ab""#]),
        (
            json!({"type": "string", "pattern": "^a/\\w$"}),
            vec![r#""a/b""#],
            vec![r#""a/""#, r#""a/é""#],
        ),
        (
            json!({"type": "string", "pattern": "^[\\x00-\\x1fa]\\t$"}),
            vec!["\"a\\t\"", "\"\\n\\t\""],
            vec!["\"\\t\"", "\"b\\t\"", "\"\\u0001\\t\""],
        ),
        (
            json!({"type": "string", "format": "date"}),
            vec![r#""2024-02-29""#],
            vec![r#""2024-02-30""#, r#""2024-2-1""#],
        ),
        (
            json!({"type": "string", "format": "uuid"}),
            vec![r#""123e4567-e89b-12d3-a456-426614174000""#],
            vec![r#""123e4567""#],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            vec![r#""10.0.255.1""#],
            vec![r#""10.0.256.1""#],
        ),
    ];
    for (value, allowed, refused) in cases {
        let grammar = schema(&value);
        assert!(allowed.iter().all(|text| BEE.allows(&grammar, text)), "{value}");
        assert!(!refused.iter().any(|text| BEE.allows(&grammar, text)), "{value}");
    }
}

#[test]
fn names_with_patterns_have_their_schemas() {
    let grammar = schema(&json!({
        "type": "object", "patternProperties": {"^n_": {"type": "integer"}, "^s_": {"type": "string"}},
        "anyOf": [{}], "additionalProperties": false,
    }));
    assert!(BEE.allows(&grammar, r#"{"n_a":1,"s_b":"x"}"#) && BEE.allows(&grammar, "{}"));
    for text in [r#"{"n_a":"x"}"#, r#"{"q":1}"#] {
        assert!(!BEE.allows(&grammar, text), "{text}");
    }
}
