//! Answers that are either calls or other text.

use super::{AnswerOptions, ToolFormat, call, chars, content, options, parts, reasoning, thinking};

fn alone(options: AnswerOptions) -> AnswerOptions {
    AnswerOptions { calls_alone: true, ..options }
}

const HERMES: &str = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>";
const LLAMA: &str = "{\"name\": \"f\", \"parameters\": {\"a\": 1}}";
const MISTRAL: &str = "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}]";
const MISTRAL_ARGS: &str = "[TOOL_CALLS]f[ARGS]{\"a\": 1}";
const PYTHONIC: &str = "[f(a=1)]";
const QWEN_XML: &str =
    "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>";
const GLM: &str = "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>";

#[test]
fn text_that_does_not_begin_with_a_call_has_none() {
    for (format, markup) in [
        (ToolFormat::Hermes, HERMES),
        (ToolFormat::Llama, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}"),
        (ToolFormat::Mistral, MISTRAL),
        (ToolFormat::MistralArgs, MISTRAL_ARGS),
        (ToolFormat::Pythonic, PYTHONIC),
        (ToolFormat::QwenXml, QWEN_XML),
        (ToolFormat::Glm, GLM),
    ] {
        for text in [
            format!("{{\"text\": {markup:?}}}"),
            format!("[{markup}]x"),
            format!("  7 {markup}"),
            format!("\"{markup}"),
            format!("<tool {markup}"),
        ] {
            let options = alone(options(format));
            let expected = vec![content(&text)];
            // White space before text may be held back or not, as without calls.
            let is_same =
                |found: Vec<_>| found == expected || found == [content(text.trim_start())];
            assert!(is_same(parts(&options, [&*text])), "{format}: {text}");
            assert!(is_same(parts(&options, chars(&text))), "{format}: {text}");
            for cut in text.char_indices().map(|(at, _)| at) {
                let (one, two) = text.split_at(cut);
                assert!(is_same(parts(&options, [one, two])), "{format}: {one:?} {two:?}");
            }
        }
    }
}

#[test]
fn calls_at_the_beginning_are_calls_also_after_reasoning() {
    for (format, text) in [
        (ToolFormat::Hermes, HERMES),
        (ToolFormat::Llama, LLAMA),
        (ToolFormat::Mistral, MISTRAL),
        (ToolFormat::MistralArgs, MISTRAL_ARGS),
        (ToolFormat::Pythonic, PYTHONIC),
        (ToolFormat::QwenXml, QWEN_XML),
        (ToolFormat::Glm, GLM),
    ] {
        let plain = alone(options(format));
        let expected = parts(&options(format), [text]);
        assert!(
            matches!(&expected[..], [super::Part::Call { .. }])
                || expected == [call("f", "{\"a\": 1}")]
        );
        assert_eq!(parts(&plain, [text]), expected, "{format}");
        assert_eq!(parts(&plain, chars(text)), expected, "{format}");
        let thought = format!("<think>{HERMES}</think>\n{text}");
        let mut with_reasoning = vec![reasoning(HERMES)];
        with_reasoning.extend(expected);
        assert_eq!(
            parts(&alone(thinking(format, false)), chars(&thought)),
            with_reasoning,
            "{format}"
        );
    }
    let two = format!("{HERMES}\n{HERMES}");
    let options = alone(options(ToolFormat::Hermes));
    assert_eq!(parts(&options, chars(&two)), vec![call("f", "{\"a\": 1}"); 2]);
}

#[test]
fn white_space_before_the_answer_is_read_once() {
    // Reading it again for each character would take minutes.
    let text = " ".repeat(2 << 20);
    let options = alone(options(ToolFormat::Hermes));
    assert_eq!(parts(&options, [&*text]), [content(&text)]);
    let schema = "<tool_call>\n<function=f>\n<parameter=a>\n";
    let text = format!("{schema}{}1</parameter></function></tool_call>", " ".repeat(60_000));
    assert_eq!(parts(&super::options(ToolFormat::QwenXml), [&*text]), [call("f", "{\"a\":1}")]);
}
