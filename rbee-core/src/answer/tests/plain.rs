//! Content and reasoning.

use super::*;

pub(super) fn examples() -> Vec<Example> {
    let thought = |options, text: &str, parts: &[Part]| Example {
        options,
        text: text.into(),
        parts: parts.to_vec(),
    };
    let mistral = || AnswerOptions {
        reasoning: Some(ReasoningFormat::Mistral.tags()),
        ..options(ToolFormat::MistralArgs)
    };
    let mut examples = vec![
        thought(
            mistral(),
            "[THINK]Is it [INST]?[/THINK]\nYes.[TOOL_CALLS]f[ARGS]{}",
            &[reasoning("Is it [INST]?"), content("Yes."), call("f", "{}")],
        ),
        thought(mistral(), "[TOOL_CALLS]f[ARGS]{}", &[call("f", "{}")]),
        example(None, "", []),
        example(None, "Hello 🐝!\n", [content("Hello 🐝!\n")]),
        example(
            None,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> <think>",
            [content("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> <think>")],
        ),
        thought(
            thinking(None, false),
            "<think>\nWhat is 2 + 2?\n</think>\n\nIt is 4.\n",
            &[reasoning("\nWhat is 2 + 2?\n"), content("It is 4.\n")],
        ),
        thought(
            thinking(None, false),
            " \n<think>é🐝</think>Yes",
            &[reasoning("é🐝"), content("Yes")],
        ),
        thought(thinking(None, false), "<think></think>\n\nYes", &[content("Yes")]),
        thought(
            thinking(None, false),
            "<think>never closed </thin",
            &[reasoning("never closed </thin")],
        ),
        thought(
            thinking(None, false),
            "<think>a < b </</think> c",
            &[reasoning("a < b </"), content("c")],
        ),
        thought(
            thinking(None, false),
            "Use <think>a tag</think>.",
            &[content("Use <think>a tag</think>.")],
        ),
        thought(thinking(None, false), "\n <thin", &[content("\n <thin")]),
        thought(thinking(None, false), "\n <thing>", &[content("\n <thing>")]),
        thought(
            thinking(None, false),
            "<think>a</think> <think>b</think>",
            &[reasoning("a"), content("<think>b</think>")],
        ),
        thought(thinking(None, true), "Hm.</think>\n\nYes", &[reasoning("Hm."), content("Yes")]),
        thought(
            thinking(None, true),
            "\n<think>\nHm.</think>Yes",
            &[reasoning("\nHm."), content("Yes")],
        ),
        thought(thinking(None, true), "\n <thin", &[reasoning("\n <thin")]),
        thought(thinking(None, true), "\n <b>Hm</b>", &[reasoning("\n <b>Hm</b>")]),
        thought(thinking(None, true), "</think>Yes", &[content("Yes")]),
        thought(
            thinking(ToolFormat::Hermes, false),
            "<think>I call <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>.</think>\n\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
            &[
                reasoning("I call <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>."),
                call("g", "{}"),
            ],
        ),
        thought(
            thinking(ToolFormat::Llama, true),
            "Hm.</think>\n{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
            &[reasoning("Hm."), call("f", "{\"a\": 1}")],
        ),
        thought(
            thinking(ToolFormat::Pythonic, false),
            "<think>[f()]</think>[g()]",
            &[reasoning("[f()]"), call("g", "{}")],
        ),
        thought(thinking(ToolFormat::Pythonic, false), "[g()]", &[call("g", "{}")]),
    ];
    let tags =
        ReasoningTags { open: "[THINK]".into(), close: "[/THINK]".into(), starts_inside: false };
    examples.push(thought(
        AnswerOptions { reasoning: Some(tags), ..options(ToolFormat::Mistral) },
        "[THINK]Hm[/THINK][TOOL_CALLS]f[ARGS]{}",
        &[reasoning("Hm"), call("f", "{}")],
    ));
    examples
}

#[test]
fn text_comes_out_at_once_if_it_cannot_become_a_tag() {
    let shown = |options, chunks: &[&str]| steps(&options, chunks);
    assert_eq!(
        shown(options(None), &["a ", "<tool_call>"]),
        [[content("a ")], [content("<tool_call>")]]
    );
    let hermes =
        shown(options(ToolFormat::Hermes), &["Hello", " ", "wor", "ld <b", "> <tool_", "x"]);
    let none: Vec<Part> = Vec::new();
    assert_eq!(
        hermes,
        [
            vec![content("Hello")],
            none.clone(),
            vec![content(" wor")],
            vec![content("ld <b")],
            vec![content(">")],
            vec![content(" <tool_x")],
        ]
    );
    let thought =
        shown(thinking(None, false), &["\n<thi", "nk>", "a <", "/", "b", "</think> ", " c"]);
    assert_eq!(
        thought,
        [
            none.clone(),
            none.clone(),
            vec![reasoning("a ")],
            none.clone(),
            vec![reasoning("</b")],
            none,
            vec![content("c")],
        ]
    );
}

#[test]
fn text_after_the_end_is_content() {
    for format in ToolFormat::ALL {
        let mut parser = AnswerParser::new(thinking(format, true));
        let mut out = Vec::new();
        parser.finish(&mut out);
        parser.push("<tool_call>[f()]", &mut out);
        parser.finish(&mut out);
        assert_eq!(merge(&out), [content("<tool_call>[f()]")]);
    }
}

#[test]
fn markup_that_was_cut_off_is_no_content() {
    let cut = |format, text: &str| {
        let mut parser = AnswerParser::new(options(Some(format)));
        let mut out = Vec::new();
        parser.push(text, &mut out);
        parser.cut_off(&mut out);
        merge(&out)
    };
    let whole = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    for end in 1..whole.len() {
        let parts = cut(ToolFormat::Hermes, &format!("Well. {}", &whole[..end]));
        let texts: Vec<_> = parts.iter().filter(|part| matches!(part, Part::Content(_))).collect();
        assert_eq!(texts, [&content("Well.")], "{}", &whole[..end]);
    }
    assert_eq!(cut(ToolFormat::Mistral, "[TOOL_CALLS]f"), []);
    assert_eq!(cut(ToolFormat::Hermes, "a < b <"), [content("a < b")], "a < may begin a tag");
    assert_eq!(
        cut(ToolFormat::Llama, "{\"na"),
        [content("{\"na")],
        "this may be an answer in JSON"
    );
}

#[test]
fn deltas_that_are_in_the_list_already_are_not_changed() {
    let mut parser = AnswerParser::new(options(None));
    let mut out = Vec::new();
    parser.push("a", &mut out);
    parser.push("b", &mut out);
    assert_eq!(out, [Delta::Content("a".into()), Delta::Content("b".into())]);
}

#[test]
fn empty_tags_are_never_found() {
    let with = |open: &str, close: &str, starts_inside| {
        let tags = ReasoningTags { open: open.into(), close: close.into(), starts_inside };
        AnswerOptions { reasoning: Some(tags), ..AnswerOptions::default() }
    };
    assert_eq!(parts(&with("", "", false), ["a b"]), [content("a b")]);
    assert_eq!(parts(&with("", "", true), ["a b"]), [reasoning("a b")]);
    assert_eq!(parts(&with("<t>", "", false), ["<t>a b"]), [reasoning("a b")]);
    assert_eq!(parts(&with("", "</t>", true), ["a</t> b"]), [reasoning("a"), content("b")]);
}

#[test]
fn a_format_has_the_same_name_in_settings_and_in_text() {
    for format in ToolFormat::ALL {
        let name = serde_json::to_value(format).unwrap();
        assert_eq!(name, format.as_str());
        assert_eq!(serde_json::from_value::<ToolFormat>(name).unwrap(), format);
        assert_eq!(format.to_string(), format.as_str());
    }
}
