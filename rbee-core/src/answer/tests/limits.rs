//! Limits of what is held back and of nesting, and the time for long texts.

use super::{
    super::{MAX_DEPTH, MAX_HELD},
    *,
};

/// The beginning and the end of a call of `f`, around the value of its argument `a`.
const FRAMES: [(ToolFormat, &str, &str); 8] = [
    (ToolFormat::Hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ", "}}</tool_call>"),
    (ToolFormat::Llama, "{\"name\": \"f\", \"parameters\": {\"a\": ", "}}"),
    (ToolFormat::Mistral, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": ", "}}]"),
    (ToolFormat::Mistral, "[TOOL_CALLS]f[ARGS]{\"a\": ", "}"),
    (ToolFormat::Pythonic, "[f(a=", ")]"),
    (
        ToolFormat::QwenXml,
        "<tool_call>\n<function=f>\n<parameter=a>\n",
        "\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        ToolFormat::Glm,
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>",
        "</arg_value>\n</tool_call>",
    ),
    (
        ToolFormat::Minimax,
        "<minimax:tool_call><invoke name=\"f\"><parameter name=\"a\">",
        "</parameter></invoke></minimax:tool_call>",
    ),
];

/// The options of a request whose tool `f` has a list as `a`.
fn with_list(format: ToolFormat) -> AnswerOptions {
    let schema = r#"{"properties": {"a": {"type": "array"}}}"#;
    let tool = CallableTool::from(&crate::chat::Tool::new("f", "", schema));
    AnswerOptions { tools: vec![tool], ..options(format) }
}

#[test]
fn a_megabyte_of_arguments_comes_through_character_by_character() {
    let long = "0123456789abcde\\n".repeat(1 << 16);
    for (format, begin, end) in FRAMES {
        let text = format!("{begin}[\"{long}\"]{end}");
        let mut parser = AnswerParser::new(with_list(format));
        let (mut out, mut arguments, mut ended) = (Vec::new(), String::new(), false);
        for chunk in chars(&text) {
            parser.push(chunk, &mut out);
            for delta in out.drain(..) {
                match delta {
                    Delta::CallArguments { json, .. } => arguments.push_str(&json),
                    delta => ended |= delta == Delta::CallEnd { index: 0 },
                }
            }
        }
        assert!(ended, "{format}");
        let value: serde_json::Value = serde_json::from_str(&arguments).unwrap();
        assert_eq!(value["a"][0].as_str().unwrap().len(), 1 << 20, "{format}");
    }
}

#[test]
fn many_beginnings_of_calls_are_parsed_in_linear_time() {
    for chunk in [
        "<tool_call>",
        "<tool_call",
        "<",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]f",
        "[TOOL_CALLS][{\"name\":",
        "[",
        "{",
        "{\"name\": \"f\"",
        "<|python_tag|>",
        "<|python_tag|>{\"a\":",
        "```",
        "[f(",
        " ",
        "\n<think>",
        "</think",
        "\\",
        "<tool_call>{\"",
        "<tool_call>{\"name\": \"",
        "[TOOL_CALLS]f[CALL_ID]",
        "<tool_call>{\"a\": [",
        "<tool_call>{\"name\":\"f\",\"arguments\":{}}",
        "<function=f>",
        "<tool_call><function=",
        "<function=f><parameter=",
        "<function=f><parameter=a>1</parameter>",
        "</parameter>          ",
        "<tool_call>f<arg_key>",
        "<minimax:tool_call><invoke name=\"f",
    ] {
        let text = chunk.repeat((1 << 17) / chunk.len());
        for options in ToolFormat::ALL.map(|format| thinking(format, false)) {
            let found = parts(&options, [text.as_str()]);
            let calls = found.iter().any(|part| matches!(part, Part::Call { .. }));
            let thought = found.iter().any(|part| matches!(part, Part::Reasoning(_)));
            if !calls && !thought {
                assert!(found == [content(&text)], "{chunk}");
            }
        }
    }
    for long in ["1".repeat(1 << 17), "1e+".repeat(1 << 16), "x".repeat(1 << 17)] {
        let text = format!("[f(a={long}");
        let found = parts(&options(ToolFormat::Pythonic), [text.as_str()]);
        assert!(found == [open_call("f", "{\"a\":"), content(&long)], "{}", &long[..3]);
    }
}

#[test]
fn text_that_is_undecided_for_too_long_is_content() {
    let hold = |format, text: &str| {
        let mut parser = AnswerParser::new(options(format));
        let mut out = Vec::new();
        parser.push(text, &mut out);
        merge(&out)
    };
    for (format, begin) in [
        (ToolFormat::Hermes, "<tool_call>{\"arguments\": {\"a\": \""),
        (ToolFormat::Hermes, "<tool_call>"),
        (ToolFormat::Hermes, "<tool_call>{\"name\": \""),
        (ToolFormat::Hermes, ""),
        (ToolFormat::Llama, "{\"type\": \"function\", \"x\": \""),
        (ToolFormat::Llama, ""),
        (ToolFormat::Mistral, "[TOOL_CALLS]f[CALL_ID]"),
        (ToolFormat::Mistral, "[TOOL_CALLS] [{\"arguments\": \""),
        (ToolFormat::Pythonic, "[f("),
        (ToolFormat::Pythonic, "```tool_code"),
        (ToolFormat::QwenXml, "<tool_call>\n<function=f>"),
        (ToolFormat::QwenXml, ""),
        (ToolFormat::Glm, "<tool_call>f\n<arg_key>a</arg_key>"),
        (ToolFormat::Minimax, "<minimax:tool_call>"),
    ] {
        let filled = format!("{begin}{}", " ".repeat(MAX_HELD - begin.len()));
        assert_eq!(hold(format, &filled), [], "{format} {begin}");
        let over = filled + " ";
        let [Part::Content(out)] = &hold(format, &over)[..] else {
            panic!("{format} {begin}");
        };
        assert!(out.len() >= MAX_HELD && over.starts_with(out), "{format} {begin}");
        assert!(parts(&options(format), [over.as_str()]) == [content(&over)], "{format} {begin}");
    }
}

#[test]
fn a_call_that_has_begun_has_no_limit_for_other_keys() {
    let long = "x".repeat(2 * MAX_HELD);
    let text = format!(
        "<tool_call>{{\"name\": \"f\", \"arguments\": {{}}, \"{long}\": \"{long}\"}}</tool_call>!"
    );
    let found = parts(&options(ToolFormat::Hermes), [text.as_str()]);
    assert_eq!(found, [call("f", "{}"), content("!")]);
}

#[test]
fn arguments_nested_too_deep_are_malformed() {
    for (format, begin, end) in FRAMES {
        // The object of the arguments is one level.
        let nested = |depth| format!("{begin}{}1{}{end}", "[".repeat(depth), "]".repeat(depth));
        let deepest = parts(&with_list(format), [nested(MAX_DEPTH - 1).as_str()]);
        let [Part::Call { arguments, ended: true, .. }] = &deepest[..] else {
            panic!("{format}: {deepest:?}");
        };
        assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok());

        let deeper = parts(&with_list(format), [nested(MAX_DEPTH).as_str()]);
        assert!(matches!(&deeper[0], Part::Call { ended: false, .. }), "{format}: {deeper:?}");
        assert!(matches!(&deeper[1], Part::Content(rest) if rest.starts_with("[1]")));
    }
}
