//! Calls in XML, in the syntax of Qwen and in the others.

use serde_json::json;

use super::*;
use crate::chat::Tool;
use ToolFormat::{Glm, Minimax, QwenXml, Seed};

/// The options of a request whose tool `f` has parameters of each type. The schema of `g` says nothing.
fn typed(format: ToolFormat) -> AnswerOptions {
    let schema = json!({"properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "yes": {"type": "boolean"},
        "list": {"type": "array"},
        "object": {"type": "object"},
        "name": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
    }});
    let f = CallableTool::from(&Tool::new("f", "", schema.to_string()));
    AnswerOptions { tools: vec![f, "g".into()], ..options(format) }
}

/// A call of `f` with one parameter, in the syntax of Qwen.
fn qwen(key: &str, value: &str) -> String {
    format!(
        "<tool_call>\n<function=f>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
    )
}

pub(super) fn examples() -> Vec<Example> {
    let one = |text: &str, parts: &[Part]| Example {
        options: typed(QwenXml),
        text: text.into(),
        parts: parts.to_vec(),
    };
    let mut examples = vec![
        one("", &[]),
        one("Just text. \n", &[content("Just text. \n")]),
        one(
            "Let me look.\n\n<tool_call>\n<function=f>\n<parameter=text>\nOslo\n</parameter>\n<parameter=count>\n3\n</parameter>\n</function>\n</tool_call>\nDone.",
            &[
                content("Let me look."),
                call("f", "{\"text\":\"Oslo\",\"count\":3}"),
                content("Done."),
            ],
        ),
        one("<tool_call>\n<function=f>\n</function>\n</tool_call>", &[call("f", "{}")]),
        one(
            "<tool_call><function=f><parameter=text>a</parameter></function></tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>\n",
            &[call("f", "{\"text\":\"a\"}"), call("g", "{}")],
        ),
        // Several calls in one pair of tags, and a tool that does not exist.
        one(
            "<tool_call>\n<function=g>\n</function>\n<function=h.x>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call> x",
            &[call("g", "{}"), call("h.x", "{\"a\":1}"), content("x")],
        ),
        // Without the tag that opens the calls, if the tool is known.
        one(
            "Hm. <function=f>\n<parameter=text>\na\n</parameter>\n</function>\n</tool_call>\nDone.",
            &[content("Hm."), call("f", "{\"text\":\"a\"}"), content("Done.")],
        ),
        one("Write <function=h> for it.", &[content("Write <function=h> for it.")]),
        one("<function=h>\n</function>", &[content("<function=h>\n</function>")]),
        one("Write <function=f> for it.", &[content("Write <function=f> for it.")]),
        // Tags that were forgotten.
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\na\n</parameter>\n</tool_call>!",
            &[call("f", "{\"text\":\"a\"}"), content("!")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\na\n</function>\n</tool_call>!",
            &[call("f", "{\"text\":\"a\"}"), content("!")],
        ),
        one(
            "<tool_call>\n<function=g>\n</function>\n<tool_call>\n<function=g>\n</function>",
            &[call("g", "{}"), call("g", "{}")],
        ),
        // Tags in a text.
        one(
            &qwen("text", "<parameter=x></parameter> </b> </function> x </tool_call> </param"),
            &[call(
                "f",
                "{\"text\":\"<parameter=x></parameter> </b> </function> x </tool_call> </param\"}",
            )],
        ),
        one(
            &qwen("text", &format!("</parameter>{}</function>", " ".repeat(200))),
            &[call("f", &format!("{{\"text\":\"</parameter>{}</function>\"}}", " ".repeat(200)))],
        ),
        // Cut off.
        one("Hi <tool_cal", &[content("Hi <tool_cal")]),
        one("<tool_call>\n<function=f", &[content("<tool_call>\n<function=f")]),
        one("<tool_call>\n<function=f>\n<param", &[content("<tool_call>\n<function=f>\n<param")]),
        one("<tool_call>\n<function=f>\n<parameter=text>\nOs", &[open_call("f", "{\"text\":\"Os")]),
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\nOs\n</para",
            &[open_call("f", "{\"text\":\"Os")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\nOs\n</parameter>\n",
            &[open_call("f", "{\"text\":\"Os\"")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=list>\n[1, 'a",
            &[open_call("f", "{\"list\":[1,\"a")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=name>\nnul",
            &[open_call("f", "{\"name\":\"nul")],
        ),
        // Not calls.
        one("<tool_call>f(1)</tool_call>", &[content("<tool_call>f(1)</tool_call>")]),
        one(
            "<tool_call>\n<function=>\n</function>",
            &[content("<tool_call>\n<function=>\n</function>")],
        ),
        one("<tool_call>\n<function=a b>", &[content("<tool_call>\n<function=a b>")]),
        one(
            "<tool_call>\n<function=f>{\"a\": 1}</function>",
            &[content("<tool_call>\n<function=f>{\"a\": 1}</function>")],
        ),
        one(
            "<tool_call> <tool_call>\n<function=g>\n</function>\n</tool_call>",
            &[content("<tool_call> "), call("g", "{}")],
        ),
        one("</tool_call> a", &[content("</tool_call> a")]),
        // Malformed in the middle: the next call is found.
        one(
            "<tool_call>\n<function=f>\n<parameter=list>\n[1}\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
            &[
                open_call("f", "{\"list\":[1"),
                content("}\n</parameter>\n</function>"),
                call("g", "{}"),
            ],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=list>\n[abc]\n</parameter>",
            &[open_call("f", "{\"list\":["), content("abc]\n</parameter>")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=list>\n[1\n</parameter>\n</function>",
            &[open_call("f", "{\"list\":[1"), content("</parameter>\n</function>")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\na\n</parameter>\n<parameter=",
            &[open_call("f", "{\"text\":\"a\"")],
        ),
        one(
            "<tool_call>\n<function=f>\n<parameter=text>\na\n</parameter>\n<parameter=>\nb",
            &[open_call("f", "{\"text\":\"a\""), content(">\nb")],
        ),
    ];
    for (key, text, json) in [
        ("text", "", "\"\""),
        ("text", "\n\n a \n\n", "\"\\n\\n a \\n\\n\""),
        ("text", "5", "\"5\""),
        ("text", "null", "\"null\""),
        ("text", "{\"a\": 1}", "\"{\\\"a\\\": 1}\""),
        ("text", "é🐝 \"\\n\" \t\u{1}", "\"é🐝 \\\"\\\\n\\\" \\t\\u0001\""),
        ("count", " -12 ", "-12"),
        ("count", "1.50", "1.50"),
        // What is of no type of the schema is a text.
        ("count", "five", "\"five\""),
        ("count", "true", "\"true\""),
        ("count", "", "\"\""),
        ("yes", "True", "true"),
        ("yes", "false", "false"),
        ("yes", "no", "\"no\""),
        ("list", "[1, \"a\\/b\", {\"c\": null}]", "[1,\"a/b\",{\"c\":null}]"),
        ("list", "\n[\n  1,\n  2\n]\n", "[1,2]"),
        ("list", "a, b", "\"a, b\""),
        ("object", "{'a': True, 'b': ('x',)}", "{\"a\":true,\"b\":[\"x\"]}"),
        ("object", "{\"a\": \"\\u00e9\\ud83d\\udc1d</parameter>\"}", "{\"a\":\"é🐝</parameter>\"}"),
        ("name", "null", "null"),
        ("name", "None", "null"),
        ("name", "nobody", "\"nobody\""),
        ("name", "12", "\"12\""),
        ("either", "12", "12"),
        ("either", "007", "\"007\""),
        ("either", "1_000", "\"1_000\""),
        ("either", "+1", "\"+1\""),
        ("either", "2024-01-01", "\"2024-01-01\""),
        // Parameters that the schema does not name.
        ("other", "1e3", "1e3"),
        ("other", "a", "\"a\""),
        ("other", "[1, 2]", "[1,2]"),
        ("other", "[x]", "\"[x]\""),
        ("other", "{\"a\": [true]} ", "{\"a\":[true]}"),
        ("other", "\"a\"", "\"\\\"a\\\"\""),
        ("an\"y", "Trueish", "\"Trueish\""),
    ] {
        let key_json = serde_json::Value::from(key);
        examples.push(one(&qwen(key, text), &[call("f", &format!("{{{key_json}:{json}}}"))]));
    }
    examples.extend(others());
    examples
}

/// The syntaxes of other models.
fn others() -> Vec<Example> {
    let one = |format, text: &str, parts: &[Part]| Example {
        options: typed(format),
        text: text.into(),
        parts: parts.to_vec(),
    };
    vec![
        one(
            Glm,
            "Let me look.\n<tool_call>f\n<arg_key>text</arg_key>\n<arg_value>\n</arg_value></arg_value>\n<arg_key>list</arg_key>\n<arg_value>[1, 2]</arg_value>\n</tool_call>\n<tool_call>g\n</tool_call>",
            &[
                content("Let me look."),
                call("f", "{\"text\":\"\\n</arg_value>\",\"list\":[1,2]}"),
                call("g", "{}"),
            ],
        ),
        one(
            Glm,
            "<tool_call>f<arg_key>text</arg_key><arg_value>a</arg_value><arg_key>count</arg_key><arg_value>1</arg_value></tool_call><tool_call>g</tool_call>",
            &[call("f", "{\"text\":\"a\",\"count\":1}"), call("g", "{}")],
        ),
        one(Glm, "<tool_call>f", &[content("<tool_call>f")]),
        one(Glm, "<tool_call>f(1)</tool_call>", &[content("<tool_call>f(1)</tool_call>")]),
        one(Glm, "<tool_call></tool_call>", &[content("<tool_call></tool_call>")]),
        one(
            Glm,
            "<tool_call>f\n<arg_key>text</arg_key>\nx",
            &[content("<tool_call>f\n<arg_key>text</arg_key>\nx")],
        ),
        one(
            Glm,
            "<tool_call>f\n<arg_key>text</arg_key>\n<arg_value>a</arg_v",
            &[open_call("f", "{\"text\":\"a")],
        ),
        one(
            Minimax,
            "Let me look.\n<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"text\">a\n</parameter>\n<parameter name=\"yes\">true</parameter>\n</invoke>\n<invoke name=\"g\">\n</invoke>\n</minimax:tool_call>",
            &[
                content("Let me look."),
                call("f", "{\"text\":\"a\\n\",\"yes\":true}"),
                call("g", "{}"),
            ],
        ),
        one(
            Seed,
            "<seed:tool_call>\n<function=f>\n<parameter=text>a\nb\n</parameter>\n<parameter=yes>True</parameter>\n</function>\n</seed:tool_call>",
            &[call("f", "{\"text\":\"a\\nb\\n\",\"yes\":true}")],
        ),
        one(
            Minimax,
            "<minimax:tool_call><invoke name=\"a\"b\">",
            &[content("<minimax:tool_call><invoke name=\"a\"b\">")],
        ),
    ]
}

#[test]
fn text_of_an_answer_comes_out_at_once_and_so_does_that_of_a_parameter() {
    let steps = steps(
        &typed(QwenXml),
        &[
            "Hi",
            " <",
            "b>",
            "<tool_call>\n<function=f>\n<parameter=text>\n",
            "a",
            "\n",
            "b<",
            "i>",
            "\n</parameter>",
            "\n</function>",
        ],
    );
    let expected: [&[Part]; 10] = [
        &[content("Hi")],
        &[],
        &[content(" <b>")],
        &[open_call("f", ""), open_call("", "{\"text\":")],
        &[open_call("", "\"a")],
        &[],
        &[open_call("", "\\nb")],
        &[open_call("", "<i>")],
        &[],
        &[open_call("", "\"}"), call("", "")],
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_value_of_unknown_type_that_is_too_long_to_be_held_back_is_a_text() {
    let long = "1".repeat(2 * super::super::MAX_HELD);
    let parsed = parts(&typed(QwenXml), [qwen("either", &long).as_str()]);
    assert_eq!(parsed, [call("f", &format!("{{\"either\":\"{long}\"}}"))]);
}

#[test]
fn a_key_that_is_too_long_is_malformed() {
    let text = format!("<tool_call>\n<function=f>\n<parameter={}>", "k".repeat(2_000));
    assert_eq!(parts(&typed(QwenXml), [text.as_str()]), [content(&text)]);
}

#[test]
fn an_answer_that_is_cut_off_in_a_tag_has_no_text_of_it() {
    for text in ["<tool_call>\n<function=f>\n<para", "<function=f>", "<minimax:tool_call>\n"] {
        for format in [QwenXml, Minimax] {
            let mut parser = AnswerParser::new(typed(format));
            let mut out = Vec::new();
            parser.push(text, &mut out);
            parser.cut_off(&mut out);
            let is_other = text.starts_with("<m") != (format == Minimax);
            assert_eq!(out.is_empty(), !is_other, "{format}: {text}: {out:?}");
        }
    }
}
