//! How the text is cut changes nothing, and a text that ends early loses nothing.

use super::*;

#[test]
fn every_cut_gives_the_same_parts() {
    for Example { options, text, .. } in corpus() {
        let whole = parts(&options, [text.as_str()]);
        assert_eq!(parts(&options, chars(&text)), whole, "{text}");
        for (at, _) in text.char_indices() {
            assert_eq!(parts(&options, [&text[..at], &text[at..]]), whole, "{text} at {at}");
        }
    }
}

#[test]
fn a_text_that_ends_early_loses_nothing_and_completes_no_call() {
    for Example { options, text, .. } in corpus() {
        let mut parser = AnswerParser::new(options.clone());
        let mut before = Vec::new();
        for (at, c) in text.char_indices() {
            let prefix = &text[..at];
            let whole = deltas(&options, [prefix]);
            let cut = merge(&deltas(&options, chars(prefix)));
            assert_eq!(cut, merge(&whole), "{prefix}");

            // What the end of the text adds is text that was held back.
            let mut ended = before.clone();
            let begun = parser.calls();
            let unfinished = merge(&before);
            ended.extend(deltas(&options, chars(prefix)).split_off(before.len()));
            let added = &ended[before.len()..];
            assert!(
                added
                    .iter()
                    .all(|delta| !matches!(delta, Delta::CallBegin { .. } | Delta::CallEnd { .. })),
                "{prefix}: {added:?}"
            );

            // A call that is not complete is not JSON, but for arguments that are a string.
            if let Some(Part::Call { arguments, ended: false, .. }) = unfinished.last()
                && !text.contains("\"arguments\": \"")
            {
                let value = serde_json::from_str::<serde_json::Value>(arguments);
                assert!(value.is_err(), "{prefix}: {arguments}");
            }
            if begun == 0 && options.reasoning.is_none() && !prefix.is_empty() {
                assert_eq!(cut, [content(prefix)]);
            }
            parser.push(c.encode_utf8(&mut [0; 4]), &mut before);
        }
    }
}

#[test]
fn a_closing_bracket_is_never_added() {
    for format in ToolFormat::ALL {
        let (text, arguments) = match format {
            ToolFormat::Hermes => {
                ("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [\"x", "{\"a\": [\"x")
            }
            ToolFormat::Llama => ("{\"name\": \"f\", \"parameters\": {\"a\": [\"x", "{\"a\": [\"x"),
            ToolFormat::Mistral | ToolFormat::MistralArgs => {
                ("[TOOL_CALLS]f[ARGS]{\"a\": [\"x", "{\"a\": [\"x")
            }
            ToolFormat::Pythonic => ("[f(a=['x", "{\"a\":[\"x"),
            ToolFormat::QwenXml => ("<tool_call><function=f><parameter=a>['x", "{\"a\":\"['x"),
            ToolFormat::Seed => ("<seed:tool_call><function=f><parameter=a>['x", "{\"a\":\"['x"),
            ToolFormat::Glm => ("<tool_call>f<arg_key>a</arg_key><arg_value>['x", "{\"a\":\"['x"),
            ToolFormat::Minimax => {
                ("<minimax:tool_call><invoke name=\"f\"><parameter name=\"a\">['x", "{\"a\":\"['x")
            }
        };
        assert_eq!(parts(&options(format), [text]), [open_call("f", arguments)]);
    }
}
