mod alone;
mod cutting;
mod hermes;
mod limits;
mod llama;
mod mistral;
mod plain;
mod pythonic;
mod random;
mod xml;

use crate::chat::CallableTool;

use super::{AnswerOptions, AnswerParser, Delta, ReasoningFormat, ReasoningTags, ToolFormat};

/// The tools of all examples.
const TOOLS: [&str; 4] = ["get_weather", "f", "g", "get-time"];

fn options(format: impl Into<Option<ToolFormat>>) -> AnswerOptions {
    let tools = TOOLS.map(CallableTool::from).to_vec();
    AnswerOptions { format: format.into(), tools, ..AnswerOptions::default() }
}

fn thinking(format: impl Into<Option<ToolFormat>>, starts_inside: bool) -> AnswerOptions {
    let (open, close) = ("<think>".to_owned(), "</think>".to_owned());
    let tags = ReasoningTags { open, close, starts_inside };
    AnswerOptions { reasoning: Some(tags), ..options(format) }
}

/// A text and what is in it.
#[derive(Debug)]
struct Example {
    options: AnswerOptions,
    text: String,
    parts: Vec<Part>,
}

fn example(
    format: impl Into<Option<ToolFormat>>,
    text: impl Into<String>,
    parts: impl Into<Vec<Part>>,
) -> Example {
    Example { options: options(format), text: text.into(), parts: parts.into() }
}

/// All examples.
fn corpus() -> Vec<Example> {
    [
        plain::examples(),
        hermes::examples(),
        llama::examples(),
        mistral::examples(),
        pythonic::examples(),
        xml::examples(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Neighboring deltas of one kind, put together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Content(String),
    Reasoning(String),
    Call { name: String, arguments: String, ended: bool },
}

fn content(text: &str) -> Part {
    Part::Content(text.into())
}

fn reasoning(text: &str) -> Part {
    Part::Reasoning(text.into())
}

fn call(name: &str, arguments: &str) -> Part {
    Part::Call { name: name.into(), arguments: arguments.into(), ended: true }
}

/// A call that does not end.
fn open_call(name: &str, arguments: &str) -> Part {
    Part::Call { name: name.into(), arguments: arguments.into(), ended: false }
}

/// Puts deltas together, and checks their order and numbers.
fn merge(deltas: &[Delta]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut calls = 0;
    for delta in deltas {
        match (delta, parts.last_mut()) {
            (Delta::Content(text), _) | (Delta::Reasoning(text), _) if text.is_empty() => {
                panic!("an empty delta: {deltas:?}")
            }
            (Delta::Content(text), Some(Part::Content(last))) => last.push_str(text),
            (Delta::Content(text), _) => parts.push(content(text)),
            (Delta::Reasoning(text), Some(Part::Reasoning(last))) => last.push_str(text),
            (Delta::Reasoning(text), _) => parts.push(reasoning(text)),
            (Delta::CallBegin { index, name }, _) => {
                assert_eq!(*index, calls, "{deltas:?}");
                calls += 1;
                parts.push(open_call(name, ""));
            }
            (
                Delta::CallArguments { index, json },
                Some(Part::Call { arguments, ended: false, .. }),
            ) => {
                assert_eq!(*index + 1, calls, "{deltas:?}");
                assert!(!json.is_empty(), "{deltas:?}");
                arguments.push_str(json);
            }
            (Delta::CallEnd { index }, Some(Part::Call { ended: ended @ false, .. })) => {
                assert_eq!(*index + 1, calls, "{deltas:?}");
                *ended = true;
            }
            (delta, _) => panic!("{delta:?} has no open call: {deltas:?}"),
        }
    }
    parts
}

fn deltas<'t>(options: &AnswerOptions, chunks: impl IntoIterator<Item = &'t str>) -> Vec<Delta> {
    let mut parser = AnswerParser::new(options.clone());
    let mut deltas = Vec::new();
    for chunk in chunks {
        parser.push(chunk, &mut deltas);
    }
    parser.finish(&mut deltas);
    let begun = deltas.iter().filter(|delta| matches!(delta, Delta::CallBegin { .. })).count();
    assert_eq!(parser.calls() as usize, begun);
    deltas
}

/// The parts of a text that comes in these chunks.
fn parts<'t>(options: &AnswerOptions, chunks: impl IntoIterator<Item = &'t str>) -> Vec<Part> {
    merge(&deltas(options, chunks))
}

/// The characters of a text, each as a text.
fn chars(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

/// What each of the chunks gives out, without the end of the text.
fn steps(options: &AnswerOptions, chunks: &[&str]) -> Vec<Vec<Part>> {
    let mut parser = AnswerParser::new(options.clone());
    let step = |chunk: &&str| {
        let mut deltas = Vec::new();
        parser.push(chunk, &mut deltas);
        deltas
            .iter()
            .map(|delta| match delta.clone() {
                Delta::Content(text) => Part::Content(text),
                Delta::Reasoning(text) => Part::Reasoning(text),
                Delta::CallBegin { name, .. } => open_call(&name, ""),
                Delta::CallArguments { json, .. } => open_call("", &json),
                Delta::CallEnd { .. } => call("", ""),
            })
            .collect()
    };
    chunks.iter().map(step).collect()
}

#[test]
fn every_example_has_the_parts_that_it_should_have() {
    let examples = corpus();
    assert!(examples.len() >= 60, "{}", examples.len());
    for Example { options, text, parts: expected } in &examples {
        assert_eq!(&parts(options, [text.as_str()]), expected, "{:?} {text}", options.format);
    }
}

#[test]
fn the_arguments_of_ended_calls_are_json() {
    for Example { options, text, .. } in corpus() {
        for part in parts(&options, [text.as_str()]) {
            if let Part::Call { arguments, ended: true, .. } = part {
                let value = serde_json::from_str::<serde_json::Value>(&arguments);
                assert!(value.is_ok(), "{value:?}: {text}");
            }
        }
    }
}
