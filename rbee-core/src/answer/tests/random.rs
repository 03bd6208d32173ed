//! Random cuts of the examples, and random texts.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Pieces of all formats.
const CHUNKS: [&str; 70] = [
    "<tool_call>",
    "</tool_call>",
    "<tool_cal",
    "<",
    ">",
    "<|python_tag|>",
    "<|python_start|>",
    "<|python_end|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[TOOL_",
    "```tool_code\n",
    "```",
    "<function=f>",
    "<function=",
    "</function>",
    "<parameter=a>\n",
    "<parameter=",
    "\n</parameter>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<minimax:tool_call>",
    "<invoke name=\"f\">",
    "</invoke>",
    "<parameter name=\"a\">",
    "<think>",
    "</think>",
    "{\"name\": \"f\", \"arguments\": {",
    "{\"name\": \"f\"",
    "\"arguments\": ",
    "\"parameters\":",
    "\"name\"",
    "\"type\"",
    "\"function\"",
    "null",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    "\\",
    "\\u",
    "d83d",
    "\\x4",
    "\\0",
    ":",
    ",",
    ";",
    "=",
    "f",
    "[f(",
    "f(a=",
    "g",
    "1",
    "-",
    "_",
    ".5",
    "True",
    "r'",
    " ",
    "\n",
    "\u{3000}",
    "é",
    "🐝",
];

/// A text with all the deltas of its example.
static CORPUS: LazyLock<Vec<Example>> = LazyLock::new(corpus);

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&CHUNKS[..]), 0..40)
        .prop_map(|chunks| chunks.concat())
}

fn any_options() -> impl Strategy<Value = AnswerOptions> {
    (0..ToolFormat::ALL.len() + 1, 0..3).prop_map(|(format, reasoning)| {
        let format = ToolFormat::ALL.get(format).copied();
        match reasoning {
            0 => options(format),
            reasoning => thinking(format, reasoning == 2),
        }
    })
}

/// Cuts a text at these places, each from 0 (the beginning) to 1,000 (the end).
fn cut<'t>(text: &'t str, places: &[usize]) -> Vec<&'t str> {
    let mut ends: Vec<usize> =
        places.iter().map(|place| text.floor_char_boundary(text.len() * place / 1_000)).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let mut start = 0;
    let chunk = |end| {
        let chunk = &text[start..end];
        start = end;
        chunk
    };
    ends.into_iter().map(chunk).collect()
}

/// The number of bytes in all parts.
fn length(parts: &[Part]) -> usize {
    let of = |part: &Part| match part {
        Part::Content(text) | Part::Reasoning(text) => text.len(),
        Part::Call { name, arguments, .. } => name.len() + arguments.len(),
    };
    parts.iter().map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 1_024,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_cuts_of_an_example_give_the_same_parts(
        example in 0..CORPUS.len(),
        places in proptest::collection::vec(0_usize..=1_000, 0..12),
    ) {
        let Example { options, text, parts: expected } = &CORPUS[example];
        prop_assert_eq!(&parts(options, cut(text, &places)), expected);
    }

    #[test]
    fn random_text_gives_the_same_parts_however_it_is_cut(
        options in any_options(),
        text in text(),
        places in proptest::collection::vec(0_usize..=1_000, 0..12),
    ) {
        let whole = parts(&options, [text.as_str()]);
        prop_assert_eq!(&parts(&options, chars(&text)), &whole);
        prop_assert_eq!(&parts(&options, cut(&text, &places)), &whole);
    }

    #[test]
    fn random_text_never_gives_more_than_a_multiple_of_itself(
        options in any_options(),
        text in text(),
    ) {
        // The most is a control character, which becomes `\u0000`.
        prop_assert!(length(&parts(&options, [text.as_str()])) <= 6 * text.len());
    }

    #[test]
    fn random_text_without_a_call_is_content_unchanged(
        options in any_options(),
        text in text(),
    ) {
        let options = AnswerOptions { reasoning: None, ..options };
        let found = parts(&options, [text.as_str()]);
        let calls = found.iter().any(|part| matches!(part, Part::Call { .. }));
        if options.format.is_none() {
            prop_assert!(!calls);
        }
        if !calls && !text.is_empty() {
            prop_assert_eq!(found, [content(&text)]);
        }
    }

    #[test]
    fn random_values_of_json_come_through_every_format(value in json(), chunks in 1_usize..40) {
        let arguments = serde_json::json!({ "a": value }).to_string();
        for (format, text) in [
            (ToolFormat::Hermes, format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>")),
            (ToolFormat::Hermes, format!("<tool_call>{{\"name\": \"f\", \"arguments\": {}}}", serde_json::json!(arguments))),
            (ToolFormat::Llama, format!("{{\"name\": \"f\", \"parameters\": {arguments}}}")),
            (ToolFormat::Mistral, format!("[TOOL_CALLS] [{{\"arguments\": {arguments}, \"name\": \"f\"}}]")),
            (ToolFormat::Mistral, format!("[TOOL_CALLS]f[ARGS]{arguments}")),
        ] {
            let places: Vec<usize> = (1..chunks).map(|chunk| chunk * 1_000 / chunks).collect();
            prop_assert_eq!(parts(&options(format), cut(&text, &places)), [call("f", &arguments)]);
        }
        // A text is written as it is, and other values as JSON.
        let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let types = serde_json::json!({"properties": {"a": {"type": match value {
            serde_json::Value::Null => "null",
            serde_json::Value::Bool(_) => "boolean",
            serde_json::Value::Number(_) => "number",
            serde_json::Value::String(_) => "string",
            serde_json::Value::Array(_) => "array",
            serde_json::Value::Object(_) => "object",
        }}}});
        let tool = CallableTool::from(&crate::chat::Tool::new("f", "", types.to_string()));
        for (format, text) in [
            (ToolFormat::Pythonic, format!("[f(a={})]", python(&value))),
            (ToolFormat::QwenXml, format!("<tool_call>\n<function=f>\n<parameter=a>\n{written}\n</parameter>\n</function>\n</tool_call>")),
            (ToolFormat::Glm, format!("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{written}</arg_value>\n</tool_call>")),
            (ToolFormat::Minimax, format!("<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"a\">{written}</parameter>\n</invoke>\n</minimax:tool_call>")),
        ] {
            let places: Vec<usize> = (1..chunks).map(|chunk| chunk * 1_000 / chunks).collect();
            let options = AnswerOptions { tools: vec![tool.clone()], ..options(format) };
            let found = parts(&options, cut(&text, &places));
            let [Part::Call { arguments, ended: true, .. }] = &found[..] else {
                panic!("{text}: {found:?}");
            };
            // Both are read from text, because reading can change the last digit of a number.
            let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            prop_assert_eq!(read(arguments), read(&serde_json::json!({ "a": value }).to_string()));
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        proptest::string::string_regex("[ -~\n\té🐝\u{0}\u{3000}]{0,12}")
            .unwrap()
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let key = proptest::string::string_regex("[a-z\"'\\\\é]{0,4}").unwrap();
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..5)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A value as Python writes it.
fn python(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_string(text),
        Value::Array(values) if values.len() > 1 => {
            format!("({})", values.iter().map(python).collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(python).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                format!("{}: {}", python_string(key), python(value))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

fn python_string(text: &str) -> String {
    let mut python = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => python.extend(['\\', c]),
            '\n' => python.push_str("\\n"),
            '\0'..='\x1f' => python.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{10000}'.. => python.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => python.push(c),
        }
    }
    python + "'"
}
