//! Which grammar a job needs.

use super::*;

fn chat() -> Chat {
    Chat {
        tools: vec![Tool { name: "f".into(), description: None, parameters: None }],
        ..Chat::default()
    }
}

fn of_schema(format: ToolFormat, schema: &str) -> Result<Option<Guide>> {
    let grammar = Some(Grammar::JsonSchema(schema.into()));
    let sampling = Sampling { grammar, ..Sampling::default() };
    let chat = chat();
    of_tools(&chat, Some(format), calls_of(&chat, &sampling))
}

#[test]
fn calls_in_bare_json_go_together_with_schemas_that_cannot_be_taken_for_one() {
    let object = r#"{"type": "object", "properties": {"a": {}}, "required": ["a"]}"#;
    for schema in [object, r#"{"type": "array"}"#, r#"{"type": "string"}"#] {
        assert!(of_schema(ToolFormat::Llama, schema).unwrap().is_some(), "{schema}");
    }
    for schema in [
        "{}",
        "7",
        r#"{"type": "object"}"#,
        r#"{"type": ["object", "null"], "properties": {"a": {}}, "additionalProperties": false}"#,
        r#"{"type": "object", "properties": {"a": {}, "name": {}}}"#,
        r#"{"type": "object", "properties": {"type": {}}}"#,
        r#"{"type": "object", "properties": {"a": {}}, "additionalProperties": true}"#,
        r#"{"type": "object", "properties": {"a": {}}, "patternProperties": {"n": {}}, "additionalProperties": false}"#,
        r#"{"anyOf": [{"type": "object", "properties": {"name": {}}}]}"#,
    ] {
        let error = of_schema(ToolFormat::Llama, schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{schema}");
        assert_eq!(error.param(), Some("response_format"));
        assert!(error.message().contains("properties name and type"), "{error}");
        for format in ToolFormat::ALL.into_iter().filter(|format| *format != ToolFormat::Llama) {
            assert!(of_schema(format, schema).unwrap().is_some(), "{format}: {schema}");
        }
    }
}

#[test]
fn a_call_that_is_required_is_the_only_answer() {
    let grammar = Some(Grammar::JsonObject);
    let sampling = Sampling { grammar, ..Sampling::default() };
    let chat = Chat { tool_choice: ToolChoice::Required, ..chat() };
    let guide = of_tools(&chat, Some(ToolFormat::Llama), calls_of(&chat, &sampling)).unwrap();
    let Some(Guide::StructuralTags(tags)) = guide else { panic!("{guide:?}") };
    assert!(tags.required && tags.otherwise.is_none());
}
