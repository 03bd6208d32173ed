//! The parts of a server's answer as one text.
//!
//! The output of a worker is text, in which the readers of a job find reasoning and calls by the syntax that the worker
//! names. A server in OpenAI's shape has them apart already, so they are written in a syntax again:
//! [`ToolFormat::Hermes`] for calls, and `<think>` for reasoning.

use rbee_core::{
    Error, ErrorKind, Result,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
};
use serde::Deserialize;

/// The syntax of what [`Parts`] writes.
pub(super) const FORMAT: AnswerFormat = AnswerFormat {
    tools: Some(ToolFormat::Hermes),
    reasoning: Some(ReasoningFormat::Think),
    calls_alone: false,
};

/// A part of a call, as a server streams it.
#[derive(Debug, Deserialize)]
pub(super) struct CallPart {
    /// Some servers leave it out if an answer has one call.
    #[serde(default)]
    index: u32,
    #[serde(default)]
    function: FunctionPart,
}

#[derive(Debug, Default, Deserialize)]
struct FunctionPart {
    #[serde(default)]
    name: Option<Box<str>>,
    #[serde(default)]
    arguments: Option<Box<str>>,
}

/// Writes the parts of one answer.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: Open,
    /// The calls that have begun.
    calls: u32,
}

/// What the next part comes after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Reasoning,
    Content,
    Call {
        index: u32,
        /// Nothing of its arguments has come yet.
        is_empty: bool,
    },
}

impl Parts {
    /// Appends a part of the reasoning. It goes before everything else: later reasoning is left out, because it has no
    /// place in the syntax.
    pub(super) fn reasoning(&mut self, text: &str, out: &mut String) {
        match self.open {
            _ if text.is_empty() => {}
            Open::Nothing => {
                self.open = Open::Reasoning;
                out.push_str("<think>");
                out.push_str(text);
            }
            Open::Reasoning => out.push_str(text),
            Open::Content | Open::Call { .. } => {}
        }
    }

    /// Appends a part of the content.
    pub(super) fn content(&mut self, text: &str, out: &mut String) {
        if text.is_empty() {
            return;
        }
        if self.open != Open::Content {
            self.close(out);
            self.open = Open::Content;
        }
        out.push_str(text);
    }

    /// Appends a part of a call.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] for a call without a name, or for a part of an earlier call.
    pub(super) fn call(&mut self, part: &CallPart, out: &mut String) -> Result<()> {
        let fault = |what: String| Error::new(ErrorKind::WorkerFault, what);
        let CallPart { index, function } = part;
        let is_open = matches!(self.open, Open::Call { index: open, .. } if open == *index);
        if !is_open {
            if *index < self.calls {
                return Err(fault(format!("a part of call {index} came after the next part")));
            }
            let Some(name) = function.name.as_deref().filter(|name| !name.is_empty()) else {
                return Err(fault(format!("call {index} begins without a name")));
            };
            self.close(out);
            self.calls = index.saturating_add(1);
            self.open = Open::Call { index: *index, is_empty: true };
            let name = serde_json::Value::from(name);
            out.push_str(&format!("<tool_call>\n{{\"name\": {name}, \"arguments\": "));
        }
        if let Some(text) = function.arguments.as_deref().filter(|text| !text.is_empty()) {
            self.open = Open::Call { index: *index, is_empty: false };
            out.push_str(text);
        }
        Ok(())
    }

    /// True if a call has begun.
    pub(super) fn has_calls(&self) -> bool {
        self.calls > 0
    }

    /// The answer ends. A call that was cut off (`is_cut`) stays open.
    pub(super) fn end(&mut self, is_cut: bool, out: &mut String) {
        if !(is_cut && matches!(self.open, Open::Call { .. })) {
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut String) {
        match std::mem::take(&mut self.open) {
            Open::Nothing | Open::Content => {}
            Open::Reasoning => out.push_str("</think>"),
            Open::Call { is_empty, .. } => {
                // Some servers send nothing for a function without parameters.
                out.push_str(if is_empty { "{}" } else { "" });
                out.push_str("}\n</tool_call>");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rbee_core::{JobId, answer::ParsedAnswer};

    use super::*;

    fn part(json: &str) -> CallPart {
        serde_json::from_str(json).unwrap()
    }

    fn parsed(text: &str) -> ParsedAnswer {
        ParsedAnswer::of(text, FORMAT.options(vec!["f".into()]), JobId::random(), false)
    }

    #[test]
    fn what_was_written_is_found_again() {
        let (mut parts, mut text) = (Parts::default(), String::new());
        parts.reasoning("Well", &mut text);
        parts.reasoning(", now.", &mut text);
        parts.content("Let me ", &mut text);
        parts.content("see.", &mut text);
        parts.reasoning("too late", &mut text);
        for json in [
            r#"{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}"#,
            r#"{"index": 0, "function": {"arguments": "{\"a\": \"}"}}"#,
            r#"{"index": 0, "function": {"arguments": "\"}"}}"#,
            r#"{"index": 1, "function": {"name": "g \"h\""}}"#,
        ] {
            parts.call(&part(json), &mut text).unwrap();
        }
        parts.end(false, &mut text);
        let answer = parsed(&text);
        assert_eq!((&*answer.reasoning, &*answer.content), ("Well, now.", "Let me see."));
        assert!(answer.is_complete);
        let calls: Vec<_> =
            answer.tool_calls.iter().map(|call| (&*call.name, &*call.arguments)).collect();
        assert_eq!(calls, [("f", r#"{"a": "}"}"#), ("g \"h\"", "{}")]);
    }

    #[test]
    fn an_answer_of_reasoning_alone_is_no_content() {
        for is_cut in [true, false] {
            let (mut parts, mut text) = (Parts::default(), String::new());
            parts.reasoning("Hm", &mut text);
            parts.end(is_cut, &mut text);
            let answer = parsed(&text);
            assert_eq!((&*answer.reasoning, &*answer.content), ("Hm", ""));
        }
    }

    #[test]
    fn a_call_that_was_cut_off_stays_open() {
        let (mut parts, mut text) = (Parts::default(), String::new());
        let begun = part(r#"{"function": {"name": "f", "arguments": "{\"a\": 1"}}"#);
        parts.call(&begun, &mut text).unwrap();
        parts.end(true, &mut text);
        let answer = parsed(&text);
        assert!(!answer.is_complete);
        assert_eq!(answer.tool_calls[0].arguments, r#"{"a": 1"#);
    }

    #[test]
    fn parts_that_belong_to_no_open_call_are_faults() {
        let mut parts = Parts::default();
        let nameless = part(r#"{"index": 0, "function": {"arguments": "{}"}}"#);
        assert!(parts.call(&nameless, &mut String::new()).is_err());
        for json in [
            r#"{"index": 0, "function": {"name": "f"}}"#,
            r#"{"index": 1, "function": {"name": "f"}}"#,
        ] {
            parts.call(&part(json), &mut String::new()).unwrap();
        }
        let error = parts.call(&nameless, &mut String::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerFault);
    }
}
