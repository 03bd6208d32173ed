//! Calls after `[TOOL_CALLS]`.

use super::*;
use ToolFormat::Mistral;

pub(super) fn examples() -> Vec<Example> {
    let one = |text: &str, parts: &[Part]| example(Mistral, text, parts);
    let unchanged = |text: &str| example(Mistral, text, [content(text)]);
    vec![
        // The old form.
        one(
            "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\"}}]",
            &[call("get_weather", "{\"city\": \"Köln\"}")],
        ),
        one(
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}, \"id\": \"abc\"}, {\"id\": \"def\", \"arguments\": {}, \"name\": \"unknown\"}]\n",
            &[call("f", "{\"a\": [1, 2]}"), call("unknown", "{}")],
        ),
        one(
            "I look.\n[TOOL_CALLS]  [ {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"} , ] Done.",
            &[content("I look."), call("f", "{\"a\": 1}"), content("Done.")],
        ),
        one(
            "[TOOL_CALLS] {\"name\": \"f\", \"arguments\": {}} Done.",
            &[call("f", "{}"), content("Done.")],
        ),
        one(
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}] [TOOL_CALLS] [{\"name\": \"g\", \"arguments\": {}}]",
            &[call("f", "{}"), call("g", "{}")],
        ),
        // The new form.
        one("[TOOL_CALLS]f[ARGS]{\"a\": \"🐝]\"}", &[call("f", "{\"a\": \"🐝]\"}")]),
        one(
            "On it.[TOOL_CALLS]get-time[ARGS]{}[TOOL_CALLS]g[CALL_ID]a1B2[ARGS]{\"a\": {\"b\": {}}}",
            &[content("On it."), call("get-time", "{}"), call("g", "{\"a\": {\"b\": {}}}")],
        ),
        one(
            "[TOOL_CALLS] f [ARGS] {\"a\": 1}\n[TOOL_CALLS]g{\"b\": 2} Done.",
            &[call("f", "{\"a\": 1}"), call("g", "{\"b\": 2}"), content("Done.")],
        ),
        one("[TOOL_CALLS]g[CALL_ID]x{}", &[call("g", "{}")]),
        // Not calls.
        unchanged("A list [1, 2] and [TOOL_ and [TOOL_CALLS"),
        unchanged("[TOOL_CALLS]"),
        unchanged("a [TOOL_CALLS] []"),
        unchanged("[TOOL_CALLS] [1]"),
        unchanged("[TOOL_CALLS] [, ]"),
        unchanged("[TOOL_CALLS]\"f\"[ARGS]{}"),
        unchanged("[TOOL_CALLS]f[ARGS][1]"),
        unchanged("[TOOL_CALLS]f[ARG]{}"),
        unchanged("[TOOL_CALLS]f[CALL_ID]x(y)[ARGS]{}"),
        unchanged("[TOOL_CALLS]f g[ARGS]{}"),
        unchanged("[TOOL_CALLS] [{\"name\": \"f\"; \"arguments\": {}}]"),
        one("[TOOL_CALLS][TOOL_CALLS]f[ARGS]{}", &[content("[TOOL_CALLS][TOOL_CALLS]f[ARGS]{}")]),
        one("[TOOL_CALLS]?[TOOL_CALLS]f[ARGS]{}", &[content("[TOOL_CALLS]?"), call("f", "{}")]),
        // Cut off.
        unchanged("[TOOL_CALLS] [{\"name\": \"f\""),
        unchanged("[TOOL_CALLS]f[CALL_ID]ab"),
        unchanged(" [TOOL_CALLS]f[AR"),
        unchanged("[TOOL_CALLS]f[ARGS] "),
        one("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}", &[call("f", "{}")]),
        one("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, ", &[call("f", "{}")]),
        one(
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"nam",
            &[call("f", "{}"), content(", {\"nam")],
        ),
        one("[TOOL_CALLS]f[ARGS]{\"a\": \"", &[open_call("f", "{\"a\": \"")]),
        one("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a", &[open_call("f", "{\"a")]),
        // Malformed in the middle.
        one(
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}} and {\"name\": \"g\"}]",
            &[call("f", "{}"), content("and {\"name\": \"g\"}]")],
        ),
        one(
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, 5]",
            &[call("f", "{}"), content(", 5]")],
        ),
        one(
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, {\"name\": \"g\", \"arguments\": {}}]",
            &[call("f", "{\"a\": 1}"), content("{\"name\": \"g\", \"arguments\": {}}]")],
        ),
        one(
            "[TOOL_CALLS]f[ARGS]{\"a\": 1]}[TOOL_CALLS]g[ARGS]{}",
            &[open_call("f", "{\"a\": 1"), content("]}"), call("g", "{}")],
        ),
    ]
}

#[test]
fn the_second_call_of_a_list_comes_out_as_a_call_while_it_is_written() {
    let chunks = [
        "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}",
        ", {\"name\": \"g\", ",
        "\"arguments\": {\"a\"",
        ": 1}}]",
    ];
    assert_eq!(
        steps(&options(Mistral), &chunks),
        [
            vec![open_call("f", ""), open_call("", "{}"), call("", "")],
            vec![],
            vec![open_call("g", ""), open_call("", "{\"a\"")],
            vec![open_call("", ": 1}"), call("", "")],
        ]
    );
}
