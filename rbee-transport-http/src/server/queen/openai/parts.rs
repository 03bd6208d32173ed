//! The parts of a streamed answer: content, reasoning and tool calls, as the deltas of chunks.

use bytes::BytesMut;
use rbee_core::{
    Finish, JobId,
    answer::{AnswerOptions, AnswerParser, Delta, call_id},
};

use crate::server::queen::json_escape::put_escaped;

/// Finds the parts of one answer.
#[derive(Debug)]
pub(super) struct Parts {
    job: JobId,
    parser: AnswerParser,
    found: Vec<Delta>,
    /// A call was cut off or is malformed, or is not complete yet.
    is_open: bool,
}

impl Parts {
    pub(super) fn new(job: JobId, options: AnswerOptions) -> Self {
        Self { job, parser: AnswerParser::new(options), found: Vec::new(), is_open: false }
    }

    /// Takes the next text.
    pub(super) fn push(&mut self, text: &str) {
        self.parser.push(text, &mut self.found);
    }

    /// The text has ended.
    pub(super) fn finish(&mut self, finish: Finish) {
        match finish {
            Finish::Stop => self.parser.finish(&mut self.found),
            Finish::Length => self.parser.cut_off(&mut self.found),
        }
    }

    /// Takes the parts that were found, and gives the `delta` of a chunk for each, as JSON.
    pub(super) fn write(&mut self, mut write: impl FnMut(&[u8])) {
        let mut json = BytesMut::new();
        for delta in std::mem::take(&mut self.found) {
            json.clear();
            match delta {
                Delta::Content(text) => put(&mut json, "{\"content\":\"", &text, "\"}"),
                Delta::Reasoning(text) => put(&mut json, "{\"reasoning_content\":\"", &text, "\"}"),
                Delta::CallBegin { index, name } => {
                    self.is_open = true;
                    let id = call_id(self.job, index);
                    let head = format!(
                        "{{\"tool_calls\":[{{\"index\":{index},\"id\":\"{id}\",\"type\":\"function\",\"function\":{{\"name\":\""
                    );
                    put(&mut json, &head, &name, "\",\"arguments\":\"\"}}]}");
                }
                Delta::CallArguments { index, json: arguments } => {
                    let head = format!(
                        "{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":\""
                    );
                    put(&mut json, &head, &arguments, "\"}}]}");
                }
                Delta::CallEnd { .. } => {
                    self.is_open = false;
                    continue;
                }
            }
            write(&json);
        }
    }

    /// The name of the end of the answer.
    pub(super) fn finish_reason(&self, finish: Finish) -> &'static str {
        finish_reason(finish, self.parser.calls() > 0 && !self.is_open)
    }
}

/// The name of the end of an answer in OpenAI's API.
pub(super) fn finish_reason(finish: Finish, has_calls: bool) -> &'static str {
    match finish {
        Finish::Stop if has_calls => "tool_calls",
        Finish::Stop | Finish::Length => finish.as_str(),
    }
}

fn put(json: &mut BytesMut, head: &str, text: &str, tail: &str) {
    json.extend_from_slice(head.as_bytes());
    put_escaped(json, text);
    json.extend_from_slice(tail.as_bytes());
}

#[cfg(test)]
mod tests {
    use rbee_core::answer::{ReasoningFormat, ToolFormat};
    use serde_json::{Value, json};

    use super::*;

    fn written(chunks: &[&str]) -> (Vec<Value>, &'static str) {
        let options = AnswerOptions {
            format: Some(ToolFormat::Hermes),
            reasoning: Some(ReasoningFormat::Think.tags()),
            tools: vec!["f".into()],
            ..AnswerOptions::default()
        };
        let mut parts =
            Parts::new("67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap(), options);
        let mut deltas = Vec::new();
        let mut write = |parts: &mut Parts| {
            parts.write(|json| deltas.push(serde_json::from_slice(json).unwrap()));
        };
        for chunk in chunks {
            parts.push(chunk);
            write(&mut parts);
        }
        parts.finish(Finish::Stop);
        write(&mut parts);
        (deltas, parts.finish_reason(Finish::Stop))
    }

    #[test]
    fn each_part_is_a_delta_as_in_openais_api() {
        let (deltas, reason) = written(&[
            "<think>a \"b\"",
            "</think>Now.",
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\":",
            " 1}}</tool_call>",
        ]);
        let call = "call_67e5504410b1426f9247bb680e5fe0c8_0";
        assert_eq!(
            deltas,
            [
                json!({"reasoning_content": "a \"b\""}),
                json!({"content": "Now."}),
                json!({"tool_calls": [{"index": 0, "id": call, "type": "function", "function": {"name": "f", "arguments": ""}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]}),
            ]
        );
        assert_eq!(reason, "tool_calls");
    }

    #[test]
    fn a_call_that_was_cut_off_is_not_an_end_by_calls() {
        let (deltas, reason) = written(&["<tool_call>{\"name\": \"f\", \"arguments\": {\"x\":"]);
        assert_eq!(deltas.len(), 2);
        assert_eq!(reason, "stop");
        assert_eq!(finish_reason(Finish::Length, true), "length");
    }
}
