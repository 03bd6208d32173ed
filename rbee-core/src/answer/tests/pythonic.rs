//! Calls as Python.

use super::*;
use ToolFormat::Pythonic;

pub(super) fn examples() -> Vec<Example> {
    let one = |text: &str, parts: &[Part]| example(Pythonic, text, parts);
    let value = |python: &str, json: &str| {
        let text = format!("[f(a={python}), g()]");
        example(Pythonic, text, [call("f", &format!("{{\"a\":{json}}}")), call("g", "{}")])
    };
    let unchanged = |text: &str| example(Pythonic, text, [content(text)]);
    let malformed = |python: &str, json: &str, rest: &str| {
        let text = format!("[f(a={python})]");
        example(Pythonic, text, [open_call("f", &format!("{{\"a\":{json}")), content(rest)])
    };
    vec![
        one(
            "[get_weather(city=\"Oslo\", days=3), f()]",
            &[call("get_weather", "{\"city\":\"Oslo\",\"days\":3}"), call("f", "{}")],
        ),
        one(
            " \n[ f ( a = 1 , b = \"x\", c=[1, {\"k\": None}], d=True, ) , unknown.tool(x='y'), ] \n",
            &[
                call("f", "{\"a\":1,\"b\":\"x\",\"c\":[1,{\"k\":null}],\"d\":true}"),
                call("unknown.tool", "{\"x\":\"y\"}"),
            ],
        ),
        one("[get-time()]\n[f(a=1)]", &[call("get-time", "{}"), call("f", "{\"a\":1}")]),
        one("[f(größe=1)]", &[call("f", "{\"größe\":1}")]),
        one("[f()] Done. [g()]", &[call("f", "{}"), content("Done. [g()]")]),
        // Tags and fences.
        one("<|python_start|>[f(a=1)]<|python_end|>", &[call("f", "{\"a\":1}")]),
        one("<|python_start|> [f()] <|python_end|>\nDone", &[call("f", "{}"), content("Done")]),
        one("```tool_code\n[f(a=1), g()]\n```\n", &[call("f", "{\"a\":1}"), call("g", "{}")]),
        one(
            "```tool_code\nf(a=1)\ng(b=2)\n```\nDone ```x```",
            &[call("f", "{\"a\":1}"), call("g", "{\"b\":2}"), content("Done ```x```")],
        ),
        one("```tool_code\nf()\n```\n```tool_code\ng()\n```", &[call("f", "{}"), call("g", "{}")]),
        one("```tool_code\nf()\nprint(1)\n```", &[call("f", "{}"), content("print(1)\n```")]),
        // Values.
        value("False", "false"),
        value("[None, true, false, null]", "[null,true,false,null]"),
        value("-1_000", "-1000"),
        value("[.5, 1., 0x1F, 1e-3, +2,]", "[0.5,1.0,31,1e-3,2]"),
        value("[]", "[]"),
        value("{}", "{}"),
        value("()", "[]"),
        value("(1, 'x',)", "[1,\"x\"]"),
        value("(1,)", "[1]"),
        value(
            "{'a': [1, [2, (3, 4)]], \"b\": {'c': {}}, }",
            "{\"a\":[1,[2,[3,4]]],\"b\":{\"c\":{}}}",
        ),
        value(
            "{1: 'x', True: 2, None: 3, 1.5: 4}",
            "{\"1\":\"x\",\"true\":2,\"null\":3,\"1.5\":4}",
        ),
        value("'it\\'s \"q\" \\\\ \\n\\t'", "\"it's \\\"q\\\" \\\\ \\n\\t\""),
        value("\"it's \\\"q\\\"\"", "\"it's \\\"q\\\"\""),
        value("'\\x41\\u00e9\\U0001F41D\\101\\0\\18'", "\"Aé🐝A\\u0000\\u00018\""),
        value("'\\a\\b\\f\\v\\r'", "\"\\u0007\\u0008\\u000c\\u000b\\r\""),
        value("'\\ud83d\\udc1d \\ud83d \\udc1d'", "\"🐝 \u{fffd} \u{fffd}\""),
        value("'\\d \\N{BEE} \\xZ \\u12'", "\"\\\\d \\\\N{BEE} \\\\xZ \\\\u12\""),
        value("'\\x4\\n\\1\\2\\u00\\'\\U0'", "\"\\\\x4\\n\\u0001\\u0002\\\\u00'\\\\U0\""),
        value("'\\UFFFFFFFF \\777'", "\"\u{fffd} ǿ\""),
        value("'a\\\nb\nc'", "\"ab\\nc\""),
        value("''", "\"\""),
        value("''  'b' \"c\"", "\"bc\""),
        value("\"\"\"a \"b\" \"\"c\n\"\"\"", "\"a \\\"b\\\" \\\"\\\"c\\n\""),
        value("''''a'\\''''", "\"'a''\""),
        value("r'\\d\\''", "\"\\\\d\\\\'\""),
        value("u'x'", "\"x\""),
        value("'🐝é), g(]'", "\"🐝é), g(]\""),
        // Not calls.
        unchanged("[1] see [2]"),
        unchanged("[get_weather] is a tool."),
        unchanged("[get_weather(city)]"),
        unchanged("[f(1)]"),
        unchanged("[f(**{'a': 1})]"),
        unchanged("[f(a)]"),
        unchanged("[f(a==1)]"),
        unchanged("[f(a=)]"),
        unchanged("[f(,)]"),
        unchanged("[unknown(a=1)]"),
        unchanged("[get_wea(a=1)]"),
        unchanged("[]"),
        unchanged("[, f()]"),
        unchanged("f(a=1)"),
        unchanged("I call [f(a=1)]"),
        unchanged("```python\nf()\n```"),
        unchanged("```tool_code\n```"),
        unchanged("```tool_code\nx = 1\n```"),
        unchanged("<|python_start|>print(1)<|python_end|>"),
        unchanged("<|python_start|>f()<|python_end|>"),
        // Cut off.
        unchanged(" [get_wea"),
        unchanged("[get_weather(ci"),
        unchanged("[f(a="),
        unchanged("```tool_"),
        unchanged("<|python_start|>\n"),
        one("[f(a=12", &[open_call("f", "{\"a\":12")]),
        one("[f(a=[Tru", &[open_call("f", "{\"a\":[Tru")]),
        one("[f(a='x\\u00", &[open_call("f", "{\"a\":\"x\\\\u00")]),
        one("[f(a='x'", &[open_call("f", "{\"a\":\"x\"")]),
        one("[f(a=''", &[open_call("f", "{\"a\":\"\"")]),
        one("[f(a='''x''", &[open_call("f", "{\"a\":\"x''")]),
        one("[f(a=1, b", &[open_call("f", "{\"a\":1, b")]),
        one("[f(a=1), ", &[call("f", "{\"a\":1}")]),
        one("[f(a=1), g(", &[call("f", "{\"a\":1}"), content(", g(")]),
        one("```tool_code\nf()\n``", &[call("f", "{}"), content("``")]),
        // Malformed in the middle.
        malformed("1, 2", "1", ", 2)]"),
        malformed("[1, x]", "[1,", "x])]"),
        malformed("(1)", "[1", "))]"),
        malformed("{1, 2}", "{\"1\"", ", 2})]"),
        malformed("{'a': }", "{\"a\":", "})]"),
        malformed("[1}", "[1", "})]"),
        malformed("[007]", "[", "007])]"),
        malformed("1 + 1", "1", " + 1)]"),
        malformed("b'x'", "", "b'x')]"),
        malformed("g(1)", "", "g(1))]"),
        malformed("[1 2]", "[1", "2])]"),
        malformed("[,]", "[", ",])]"),
    ]
}

#[test]
fn arguments_are_converted_while_they_are_written() {
    let chunks = ["[f(", "a=", "'x", "y\\", "n', b=[1", "2, Tr", "ue", "]", ")", "]"];
    let none: Vec<Part> = Vec::new();
    assert_eq!(
        steps(&options(Pythonic), &chunks),
        [
            none.clone(),
            none.clone(),
            vec![open_call("f", ""), open_call("", "{\"a\":\"x")],
            vec![open_call("", "y")],
            vec![open_call("", "\\n\",\"b\":[")],
            vec![open_call("", "12,")],
            none.clone(),
            vec![open_call("", "true]")],
            vec![open_call("", "}"), call("", "")],
            none,
        ]
    );
}

#[test]
fn text_is_held_back_only_while_it_can_become_a_call_of_a_known_tool() {
    let shown = |chunks: &[&str]| steps(&options(Pythonic), chunks);
    let none: Vec<Part> = Vec::new();
    assert_eq!(shown(&[" [", "1", "]"]), [none.clone(), vec![content(" [1")], vec![content("]")]]);
    assert_eq!(
        shown(&["[get_w", "i", "n"]),
        [none.clone(), vec![content("[get_wi")], vec![content("n")]]
    );
    assert_eq!(shown(&["``", "`p", "y"]), [none, vec![content("```p")], vec![content("y")]]);
}

#[test]
fn without_tools_nothing_is_a_call() {
    let options = AnswerOptions { tools: Vec::new(), ..options(Pythonic) };
    assert_eq!(parts(&options, ["[f(a=1)]"]), [content("[f(a=1)]")]);
}
