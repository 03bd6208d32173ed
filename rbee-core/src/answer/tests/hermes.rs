//! Calls between `<tool_call>` and `</tool_call>`.

use super::*;
use ToolFormat::Hermes;

pub(super) fn examples() -> Vec<Example> {
    let one = |text: &str, parts: &[Part]| example(Hermes, text, parts);
    vec![
        one("", &[]),
        one("Just text. \n", &[content("Just text. \n")]),
        one(
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
            &[call("get_weather", "{\"city\": \"Oslo\"}")],
        ),
        one(
            "Let me look.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":[1,{\"b\":null}],\"c\":\"}]{[\"}}</tool_call>\nDone.\n",
            &[
                content("Let me look."),
                call("f", "{\"a\":[1,{\"b\":null}],\"c\":\"}]{[\"}"),
                content("Done.\n"),
            ],
        ),
        one(
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\n",
            &[call("f", "{\"a\": 1}"), call("g", "{}")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> and <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            &[call("f", "{}"), content("and"), call("g", "{}")],
        ),
        // The arguments before the name.
        one(
            "<tool_call>{\"arguments\": {\"a\": \"\\u00e9\\\"🐝\"}, \"name\": \"f\"}</tool_call>",
            &[call("f", "{\"a\": \"\\u00e9\\\"🐝\"}")],
        ),
        one(
            "<tool_call>{\"id\": [\"x\", {\"name\": \"no\"}], \"name\": \"f\", \"n\": -1.5e3, \"parameters\": {\"a\": 1}, \"z\": true}</tool_call>",
            &[call("f", "{\"a\": 1}")],
        ),
        // Of several, the first counts.
        one(
            "<tool_call>{\"name\": \"f\", \"name\": \"g\", \"arguments\": {\"a\": 1}, \"parameters\": {\"a\": 2}}</tool_call>",
            &[call("f", "{\"a\": 1}")],
        ),
        // Arguments as a string.
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"x\\\\n\\u00e9\\ud83d\\udc1d\\\"}\"}</tool_call>",
            &[call("f", "{\"a\": \"x\\né🐝\"}")],
        ),
        one(
            "<tool_call>{\"arguments\": \"{\\\"a\\\": 1}\", \"name\": \"f\"}</tool_call>",
            &[call("f", "{\"a\": 1}")],
        ),
        // No arguments.
        one("<tool_call>{\"name\": \"f\"}</tool_call>", &[call("f", "{}")]),
        one("<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", &[call("f", "{}")]),
        one("<tool_call>{\"name\": \"f\", \"arguments\": \"\"}</tool_call>", &[call("f", "{}")]),
        one("<tool_call>{\"arguments\": null, \"name\": \"f\"}</tool_call>", &[call("f", "{}")]),
        one("<tool_call>{\"name\": \"f\", \"arguments\": { }, }</tool_call>", &[call("f", "{ }")]),
        // A name with escapes, and of a tool that does not exist.
        one(
            "<tool_call>{\"n\\u0061me\": \"w\\u00e4\\/x\", \"arguments\": {}}</tool_call>",
            &[call("wä/x", "{}")],
        ),
        // The closing tag is absent.
        one("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n", &[call("f", "{}")]),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n<tool_call>{\"name\": \"g\", \"arguments\": {}}",
            &[call("f", "{}"), call("g", "{}")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}\nDone <b>.",
            &[call("f", "{}"), content("Done <b>.")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {}} </tool_cal",
            &[call("f", "{}"), content("</tool_cal")],
        ),
        // Several objects in one pair of tags.
        one(
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
            &[call("f", "{}"), call("g", "{}")],
        ),
        // The last brace is absent, or there is one too many.
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call>\nDone.",
            &[call("f", "{\"a\": 1}"), content("Done.")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}}</tool_call> Done.",
            &[call("f", "{\"a\": 1}"), content("} Done.")],
        ),
        // Cut off.
        one("Hi <tool_cal", &[content("Hi <tool_cal")]),
        one("Hi <tool_call>", &[content("Hi <tool_call>")]),
        one("Hi <tool_call>\n{\"nam", &[content("Hi <tool_call>\n{\"nam")]),
        one(
            "<tool_call>\n{\"name\": \"f\", \"argu",
            &[content("<tool_call>\n{\"name\": \"f\", \"argu")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"city\": \"Os",
            &[open_call("f", "{\"city\": \"Os")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\u00",
            &[open_call("f", "{\"a\": \\u00")],
        ),
        // Not calls.
        one("<tool_call", &[content("<tool_call")]),
        one("<tool_call>f(1)</tool_call>", &[content("<tool_call>f(1)</tool_call>")]),
        one("<tool_call> </tool_call> x", &[content("<tool_call> </tool_call> x")]),
        one("a\n<<tool_call >b", &[content("a\n<<tool_call >b")]),
        one("</tool_call> a", &[content("</tool_call> a")]),
        one(
            "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>",
            &[content("<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>")],
        ),
        one(
            "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
            &[content("<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>")],
        ),
        one(
            "<tool_call>{\"arguments\": {}}</tool_call>",
            &[content("<tool_call>{\"arguments\": {}}</tool_call>")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            &[content("<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>")],
        ),
        one(
            " <tool_call> <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
            &[content(" <tool_call> "), call("f", "{}")],
        ),
        // Malformed in the middle: the next call is found.
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1}}</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            &[open_call("f", "{\"a\": [1"), content("}}"), call("g", "{}")],
        ),
        one(
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            &[open_call("f", "{\"a\": 1"), call("g", "{}")],
        ),
        one(
            "<tool_call>{name: f}</tool_call> <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
            &[content("<tool_call>{name: f}</tool_call>"), call("g", "{}")],
        ),
    ]
}

#[test]
fn arguments_come_out_while_they_are_written() {
    let chunks =
        ["<tool_call>{\"name\": \"f\"", ", \"arguments\": ", "{\"a", "\": \"é", "\"", "}", "}"];
    let none: Vec<Part> = Vec::new();
    assert_eq!(
        steps(&options(Hermes), &chunks),
        [
            none.clone(),
            none.clone(),
            vec![open_call("f", ""), open_call("", "{\"a")],
            vec![open_call("", "\": \"é")],
            vec![open_call("", "\"")],
            vec![open_call("", "}"), call("", "")],
            none,
        ]
    );
}

#[test]
fn arguments_that_are_nearly_json_are_given_out_as_they_are() {
    let nearly = "{\"a\": True, \"b\": NaN, \"c\": [1,], \"d\": \"line\nline\"}";
    let text = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {nearly}}}</tool_call>");
    assert_eq!(parts(&options(Hermes), [text.as_str()]), [call("f", nearly)]);
}

#[test]
fn wrong_escapes_in_arguments_as_a_string_stay_as_they_are() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": \"\\u00\\n\\q\\ud83d\\/\"}</tool_call>";
    let expected = [call("f", "\\u00\n\\q\u{fffd}/")];
    assert_eq!(parts(&options(Hermes), [text]), expected);
    assert_eq!(parts(&options(Hermes), chars(text)), expected);
}
