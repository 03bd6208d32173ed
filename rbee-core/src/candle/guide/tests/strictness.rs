//! Keywords that cannot be enforced are refused, with their name and place.

use serde_json::{Value, json};

use super::{BEE, Grammar, invalid, schema, too_complex};

#[test]
fn keywords_that_cannot_be_enforced_are_refused_with_their_place() {
    let cases: [(&str, Value); 22] = [
        ("not", json!({"type": "null"})),
        ("if", json!({"type": "null"})),
        ("then", json!({})),
        ("else", json!({})),
        ("contains", json!({})),
        ("minContains", json!(2)),
        ("maxContains", json!(2)),
        ("uniqueItems", json!(true)),
        ("dependentRequired", json!({"a": ["b"]})),
        ("dependentSchemas", json!({})),
        ("dependencies", json!({})),
        ("propertyNames", json!({"maxLength": 3})),
        ("unevaluatedProperties", json!(false)),
        ("unevaluatedItems", json!(false)),
        ("$dynamicRef", json!("#x")),
        ("$recursiveRef", json!("#")),
        ("$id", json!("https://example.com/inner")),
        ("additionalItems", json!(false)),
        ("nullable", json!(true)),
        ("minlength", json!(3)),
        ("x-guidance", json!({"lenient": true})),
        ("format", json!("iso-week")),
    ];
    for (keyword, value) in cases {
        let message =
            invalid(&schema(&json!({"type": "object", "properties": {"a/b": {keyword: value}}})));
        let start = if keyword == "format" { "format \"iso-week\"" } else { keyword };
        let said = format!("{start} at /properties/a~1b/{keyword} is not supported; ");
        assert!(message.starts_with(&said), "{message}");
    }
}

#[test]
fn annotations_and_keywords_without_an_effect_change_nothing() {
    let plain = json!({"type": "array", "items": {"type": "boolean"}});
    let noted = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/s", "$comment": "c", "title": "t",
        "description": "d", "default": [], "examples": [[]], "deprecated": true, "readOnly": true, "writeOnly": false,
        "uniqueItems": false, "x-order": 3, "type": "array",
        "items": {"type": "boolean", "title": "i", "unevaluatedProperties": true, "$anchor": "i"},
    });
    for text in ["[true]", "[]", "[1]", "{}"] {
        assert_eq!(BEE.allows(&schema(&noted), text), BEE.allows(&schema(&plain), text), "{text}");
    }
}

#[test]
fn keywords_of_an_older_draft_keep_their_meaning_whatever_the_schema_says_it_is() {
    let draft = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
                       "prefixItems": [{"type": "null"}], "items": false, "minItems": 1});
    assert!(BEE.allows(&schema(&draft), "[null]") && !BEE.allows(&schema(&draft), "[1]"));
}

#[test]
fn mistakes_in_a_schema_are_named() {
    let cases = [
        (json!({"type": "float"}), "has \"float\" as type at /type"),
        (json!({"type": []}), "has [] as type at /type"),
        (json!({"properties": []}), "has [] as properties at /properties"),
        (json!({"items": 3}), "has 3 as a schema at /items"),
        (json!({"required": "a"}), "has \"a\" as required at /required"),
        (json!({"anyOf": []}), "has [] as anyOf at /anyOf"),
        (json!({"minLength": -1}), "has -1 as minLength at /minLength"),
        (json!({"maxItems": 1.5}), "has 1.5 as maxItems at /maxItems"),
        (json!({"minimum": "3"}), "has \"3\" as minimum at /minimum"),
        (json!({"multipleOf": 0}), "has 0 as multipleOf at /multipleOf"),
        (json!({"enum": 1}), "has 1 as enum at /enum"),
        (json!({"items": [{}], "prefixItems": [{}]}), "items at /items is not supported"),
        (json!({"$ref": "#/$defs/none"}), "$ref \"#/$defs/none\" at /$ref refers to nothing"),
        (json!({"$ref": "https://example.com/s"}), "nothing is fetched"),
        (json!({"$ref": "other.json#/a"}), "nothing is fetched"),
        (json!({"$ref": "#name"}), "only references to a place"),
        (json!({"const": 9007199254740993_i64}), "const at /const"),
        (json!({"enum": [1e300]}), "at /enum"),
        (
            json!({"type": "object", "minProperties": 2}),
            "minProperties 2 at / needs more than one property",
        ),
        (json!(false), "it allows no value"),
        (json!({"enum": []}), "at /"),
        (json!({"const": ["a\u{1}b"]}), "a value at /const has the control character '\\u{1}'"),
        (json!({"enum": ["\u{7f}"]}), "a value at /enum has the control character"),
        (json!({"pattern": "^a(x|\\x01b)+$"}), "pattern at /pattern has the control character"),
        (
            json!({"patternProperties": {"\\v": {}}}),
            "patternProperties at /patternProperties has the control",
        ),
    ];
    for (value, said) in cases {
        let said = if said.starts_with("const at") {
            "a value at /const is 9007199254740993"
        } else {
            said
        };
        let message = invalid(&schema(&value));
        assert!(message.contains(said), "{value}: {message}");
    }
    assert!(invalid(&Grammar::JsonSchema("{\"type\": ".into())).contains("not valid JSON: EOF"));
}

#[test]
fn failures_of_the_library_are_given_a_place() {
    let inner = |value: Value| json!({"type": "object", "properties": {"ok": {"type": "null"}, "bad": {"type": "array", "items": value}}, "required": ["bad"]});
    let cases = [
        (
            inner(json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]})),
            "cannot be told apart",
        ),
        (inner(json!({"type": "string", "pattern": "(?=a)b"})), "look-around"),
        (inner(json!({"type": "string", "pattern": "a(b"})), "unclosed group"),
        (inner(json!({"type": "string", "pattern": "(a)\\1"})), "backreferences"),
    ];
    for (value, said) in cases {
        let message = invalid(&schema(&value));
        assert!(
            message.contains("at /properties/bad/items: ") && message.contains(said),
            "{message}"
        );
        assert!(!message.contains('\n') && message.len() < 600, "{message}");
    }
    let referenced = json!({"properties": {"a": {"$ref": "#/$defs/p~1q"}}, "$defs": {"p/q": {"items": {"pattern": "\\b"}}}});
    let message = invalid(&schema(&referenced));
    assert!(message.contains("at /$defs/p~1q/items: "), "{message}");
    let unsatisfiable = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["a"]});
    assert!(invalid(&schema(&unsatisfiable)).contains("at /properties/a: "));
}

#[test]
fn references_in_a_circle_and_values_without_end_are_found() {
    let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}});
    let message = invalid(&schema(&circle));
    assert!(message.contains("go in a circle: #/$defs/a -> #/$defs/b -> #/$defs/a"), "{message}");
    assert!(invalid(&schema(&json!({"$ref": "#"}))).contains("in a circle"));
    assert!(invalid(&schema(&json!({"allOf": [{"$ref": "#"}]}))).contains("in a circle"));

    let endless = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["a"],
                         "$defs": {"x": {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 1}}});
    let message = invalid(&schema(&endless));
    assert!(
        message.contains("each value of #/$defs/x in the JSON schema must contain another one"),
        "{message}"
    );
    let root = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    assert!(invalid(&schema(&root)).contains("without end"));
}

#[test]
fn patterns_that_meet_in_one_string_are_limited_wherever_they_meet() {
    let strings = |count: usize| -> Vec<Value> {
        (0..count).map(|at| json!({"type": "string", "pattern": format!("a{{{at},}}")})).collect()
    };
    let within =
        |wrap: fn(Value) -> Value| -> Vec<Value> { strings(9).into_iter().map(wrap).collect() };
    let definition = |at: usize| {
        let mut schema = json!({"type": "string", "pattern": format!("a{{{at},}}")});
        if at < 7 {
            schema["$ref"] = json!(format!("#/$defs/d{}", at + 1));
        }
        (format!("d{at}"), schema)
    };
    let definitions: serde_json::Map<String, Value> = (0..8).map(definition).collect();
    let growing = json!({"properties": {"p": {
        "allOf": [{"$ref": "#/$defs/t"}, {"properties": {"p": {"type": "string", "pattern": "a"}}}]}}});
    let cases = [
        json!({"allOf": strings(9)}),
        json!({"allOf": within(|inner| json!({"properties": {"p": inner}}))}),
        json!({"allOf": within(|inner| json!({"items": inner}))}),
        json!({"allOf": within(|inner| json!({"anyOf": [inner, {"type": "null"}]}))}),
        json!({"$ref": "#/$defs/d0", "pattern": "^.", "$defs": definitions}),
        json!({"$ref": "#/$defs/t", "$defs": {"t": growing}}),
    ];
    for value in cases {
        let message = too_complex(&schema(&value));
        assert!(
            message.contains("more than 8 of pattern and format at once"),
            "{value}: {message}"
        );
    }
    // Apart from each other they may be many.
    let apart: serde_json::Map<String, Value> =
        (0..40).map(|at| (format!("p{at}"), strings(1)[0].clone())).collect();
    BEE.compile(&schema(&json!({"properties": apart, "allOf": [{"required": ["p1"]}]})));
}

#[test]
fn each_limit_of_a_schema_is_named() {
    let many = |count: usize| -> Value {
        let properties: serde_json::Map<String, Value> =
            (0..count).map(|at| (format!("p{at}"), json!({}))).collect();
        Value::Object(properties)
    };
    let names: Vec<String> = (0..1_001).map(|at| format!("p{at}")).collect();
    let mut deep = json!({});
    for _ in 0..40 {
        deep = json!({"items": deep});
    }
    let definitions: serde_json::Map<String, Value> =
        (0..201).map(|at| (format!("d{at}"), json!({}))).collect();
    let references: Vec<Value> =
        (0..201).map(|at| json!({"$ref": format!("#/$defs/d{at}")})).collect();
    let cases = [
        (json!({"properties": many(1_001), "required": names}), "more than 1000 properties"),
        (json!({"properties": many(251)}), "251 properties that are not required; allowed are 250"),
        (
            json!({"allOf": [{"properties": many(150)}, {"properties": many(150)}]}),
            "300 properties that are not required",
        ),
        (json!({"enum": (0..1_001).collect::<Vec<_>>()}), "more than 1000 values"),
        (json!({"prefixItems": vec![json!({}); 2_001]}), "more than 2000 schemas"),
        (json!({"patternProperties": many(101)}), "more than 100 patternProperties"),
        (deep, "nests more than 32 schemas"),
        (json!({"$defs": definitions, "prefixItems": references}), "refers to more than 200"),
        (
            json!({"maxLength": 10_001}),
            "maxLength at /maxLength is 10001; allowed is at most 10000",
        ),
        (json!({"multipleOf": 1_001}), "multipleOf at /multipleOf is 1001"),
        (json!({"multipleOf": 0.12345}), "multipleOf at /multipleOf is 0.12345"),
        (json!({"description": "x".repeat(65_536)}), "bytes; allowed are 65536"),
    ];
    for (value, said) in cases {
        let message = too_complex(&schema(&value));
        assert!(message.contains(said), "{message}");
    }
    BEE.compile(&schema(
        &json!({"properties": many(250), "maxLength": 10_000, "multipleOf": 1_000}),
    ));
}
