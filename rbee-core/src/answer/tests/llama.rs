//! Calls as bare JSON.

use super::*;
use ToolFormat::Llama;

pub(super) fn examples() -> Vec<Example> {
    let one = |text: &str, parts: &[Part]| example(Llama, text, parts);
    let unchanged = |text: &str| example(Llama, text, [content(text)]);
    vec![
        one(
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"São Paulo\"}}",
            &[call("get_weather", "{\"city\": \"São Paulo\"}")],
        ),
        one(" \n{\"name\": \"f\", \"arguments\": {}}\n", &[call("f", "{}")]),
        one(
            "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": \"1\"}}",
            &[call("f", "{\"a\": \"1\"}")],
        ),
        one(
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {\"b\": \";\"}} ;\n{\"name\": \"f\", \"parameters\": {}}",
            &[call("f", "{\"a\": 1}"), call("g", "{\"b\": \";\"}"), call("f", "{}")],
        ),
        one(
            "{\"name\": \"f\", \"parameters\": {}}\n{\"name\": \"g\", \"parameters\": {}};\n",
            &[call("f", "{}"), call("g", "{}")],
        ),
        one(
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
            &[call("f", "{\"a\": 1}")],
        ),
        // After the tag the tool need not be known, and the keys have any order.
        one(
            "Let me see.\n<|python_tag|> {\"parameters\": {}, \"name\": \"unknown\"}; {\"name\": \"other\", \"parameters\": {}}",
            &[content("Let me see."), call("unknown", "{}"), call("other", "{}")],
        ),
        one(
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {}};<|python_tag|>{\"name\": \"g\", \"parameters\": {}}",
            &[call("f", "{}"), call("g", "{}")],
        ),
        one("{\"name\": \"f\"}", &[call("f", "{}")]),
        one(
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}; {\"name\": \"g\", \"parameters\": {}}",
            &[call("f", "{\"a\": 1}"), call("g", "{}")],
        ),
        // Text after calls.
        one(
            "{\"name\": \"f\", \"parameters\": {}}\n That is it.",
            &[call("f", "{}"), content("That is it.")],
        ),
        one(
            "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"unknown\", \"parameters\": {}}",
            &[call("f", "{}"), content("; {\"name\": \"unknown\", \"parameters\": {}}")],
        ),
        one("{\"name\": \"f\", \"parameters\": {}} ;; x", &[call("f", "{}"), content(" ;; x")]),
        one(
            "{\"name\": \"f\", \"parameters\": {}};; {\"name\": \"g\", \"parameters\": {}}",
            &[call("f", "{}"), content(";; {\"name\": \"g\", \"parameters\": {}}")],
        ),
        // Not calls.
        unchanged("No call."),
        unchanged(" \n{\"city\": \"Oslo\", \"name\": \"f\"}\n"),
        unchanged("{\"name\": \"Ada\", \"born\": 1815}"),
        unchanged("{\"name\": \"get_weather_now\", \"parameters\": {}}"),
        unchanged("{\"name\": \"get_wea\", \"parameters\": {}}"),
        unchanged("{\"type\": \"object\", \"name\": \"f\"}"),
        unchanged("{\"type\": 1, \"name\": \"f\"}"),
        unchanged("{\"nam"),
        unchanged("{"),
        unchanged("{}"),
        unchanged("{ \"namely\": 1}"),
        unchanged("{\"name\": \"get_weather\""),
        unchanged("{\"name\": \"f\", \"parameters\": 5}"),
        unchanged("The call {\"name\": \"f\", \"parameters\": {}} is right."),
        unchanged("[{\"name\": \"f\", \"parameters\": {}}]"),
        unchanged("<|python_tag|>print(1)"),
        unchanged("<|python_ta"),
        unchanged(" <|python_tag|> "),
        // Cut off and malformed.
        one("{\"name\": \"f\", \"parameters\": {\"a\": \"é\\", &[open_call("f", "{\"a\": \"é\\")]),
        one("{\"name\": \"f\", \"parameters\": {\"a\"", &[open_call("f", "{\"a\"")]),
        one(
            "{\"name\": \"f\", \"parameters\": {\"a\": (1)}} {\"name\": \"g\"}",
            &[open_call("f", "{\"a\": "), content("(1)}} {\"name\": \"g\"}")],
        ),
    ]
}

#[test]
fn text_is_held_back_only_while_it_can_become_a_call_of_a_known_tool() {
    let shown = |chunks: &[&str]| steps(&options(Llama), chunks);
    let none: Vec<Part> = Vec::new();
    assert_eq!(
        shown(&["{\"n", "o", "\": 1}"]),
        [none.clone(), vec![content("{\"no")], vec![content("\": 1}")]]
    );
    assert_eq!(
        shown(&["{\"name\": \"get_w", "i", "n"]),
        [none.clone(), vec![content("{\"name\": \"get_wi")], vec![content("n")]]
    );
    assert_eq!(shown(&[" ", "x", " y"]), [none, vec![content(" x")], vec![content(" y")]]);
}

#[test]
fn without_tools_bare_json_is_content() {
    let options = AnswerOptions { tools: Vec::new(), ..options(Llama) };
    let text = "{\"name\": \"f\", \"parameters\": {}}";
    assert_eq!(parts(&options, [text]), [content(text)]);
}
