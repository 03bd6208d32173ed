//! The parts of an answer as Ollama's API has them: text, reasoning, and whole tool calls.

use rbee_core::{
    JobId,
    answer::{Delta, call_id},
};
use serde_json::value::RawValue;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Content(String),
    Thinking(String),
    Call(Call),
}

/// A whole tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) index: u32,
    pub(super) name: String,
    /// A JSON object in one line.
    pub(super) arguments: String,
}

/// Puts calls together. A call that was cut off, or whose arguments are not JSON, is text: a client gets it as the
/// object that it would have been, as far as the model has written it.
#[derive(Debug)]
pub(super) struct Parts {
    job: JobId,
    open: Option<Call>,
}

impl Parts {
    pub(super) fn new(job: JobId) -> Self {
        Self { job, open: None }
    }

    /// Takes a delta, and gives the parts that are complete now.
    pub(super) fn add(&mut self, delta: Delta, mut give: impl FnMut(Part)) {
        match delta {
            Delta::Content(text) => {
                self.give_up(&mut give);
                give(Part::Content(text));
            }
            Delta::Reasoning(text) => give(Part::Thinking(text)),
            Delta::CallBegin { index, name } => {
                self.give_up(&mut give);
                let id = call_id(self.job, index);
                self.open = Some(Call { id, index, name, arguments: String::new() });
            }
            Delta::CallArguments { json, .. } => {
                if let Some(call) = &mut self.open {
                    call.arguments.push_str(&json);
                }
            }
            Delta::CallEnd { .. } => {
                if let Some(call) = self.open.take() {
                    give(call.close());
                }
            }
        }
    }

    /// The answer has ended: gives what is left of a call that was cut off.
    pub(super) fn finish(&mut self, mut give: impl FnMut(Part)) {
        self.give_up(&mut give);
    }

    fn give_up(&mut self, give: &mut impl FnMut(Part)) {
        if let Some(call) = self.open.take() {
            give(Part::Content(call.as_text("")));
        }
    }
}

impl Call {
    fn close(mut self) -> Part {
        if self.arguments.trim().is_empty() {
            self.arguments = "{}".into();
        }
        let is_object = self.arguments.trim_start().starts_with('{')
            && serde_json::from_str::<&RawValue>(&self.arguments).is_ok();
        if !is_object {
            return Part::Content(self.as_text("}"));
        }
        // Line breaks in JSON are white space: those of texts are escaped.
        if self.arguments.contains(['\n', '\r']) {
            self.arguments = self.arguments.replace(['\n', '\r'], " ");
        }
        Part::Call(self)
    }

    fn as_text(&self, end: &str) -> String {
        let name = serde_json::Value::from(self.name.as_str());
        format!("{{\"name\": {name}, \"arguments\": {}{end}", self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(deltas: Vec<Delta>) -> Vec<Part> {
        let mut parts = Parts::new("67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap());
        let mut given = Vec::new();
        for delta in deltas {
            parts.add(delta, |part| given.push(part));
        }
        parts.finish(|part| given.push(part));
        given
    }

    fn call(json: &str, is_whole: bool) -> Vec<Delta> {
        let mut deltas = vec![Delta::CallBegin { index: 0, name: "f".into() }];
        // Cut in the middle.
        let (before, after) = json.split_at(json.len() / 2);
        for part in [before, after] {
            deltas.push(Delta::CallArguments { index: 0, json: part.into() });
        }
        deltas.extend(is_whole.then_some(Delta::CallEnd { index: 0 }));
        deltas
    }

    #[test]
    fn a_call_is_whole_and_its_arguments_are_one_line() {
        let given = parts(call("{\"x\":\n 1}", true));
        let call = Call {
            id: "call_67e5504410b1426f9247bb680e5fe0c8_0".into(),
            index: 0,
            name: "f".into(),
            arguments: "{\"x\":  1}".into(),
        };
        assert_eq!(given, [Part::Call(call)]);
    }

    #[test]
    fn a_call_that_is_cut_off_or_no_json_is_text() {
        let content = |text: &str| Part::Content(text.into());
        assert_eq!(
            parts(call("{\"x\": \"", false)),
            [content("{\"name\": \"f\", \"arguments\": {\"x\": \"")]
        );
        for json in ["{\"x\": NaN}", "[1]"] {
            let text = format!("{{\"name\": \"f\", \"arguments\": {json}}}");
            assert_eq!(parts(call(json, true)), [Part::Content(text)], "{json}");
        }
        let mut broken = call("{\"x\"", false);
        broken.push(Delta::Content(" oh".into()));
        broken.extend(call("{}", true));
        let given = parts(broken);
        assert_eq!(
            given[..2],
            [content("{\"name\": \"f\", \"arguments\": {\"x\""), content(" oh")]
        );
        assert!(matches!(&given[2], Part::Call(call) if call.arguments == "{}"), "{given:?}");
    }
}
