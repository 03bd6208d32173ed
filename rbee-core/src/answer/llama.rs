//! Calls as bare JSON: `{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}`.
//!
//! An object at the beginning of the answer is a call if its first key is `name`, or `type` with the value `function`,
//! and its tool is known. After `<|python_tag|>`, anywhere in the answer, it is a call of any tool. Further calls
//! follow directly or after `;`. Whitespace around calls is dropped.

use super::{
    call_object::{CallObject, Names, Step},
    json::is_space,
    output::Output,
    text::{Text, hold},
};
use crate::chat::CallableTool;

const TAG: &str = "<|python_tag|>";

/// The parser of this format.
#[derive(Debug)]
pub(super) struct Llama {
    tools: Vec<CallableTool>,
    /// True if the calls stand after the tag.
    tagged: bool,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Text(Text),
    Object(Box<CallObject>),
    /// After a call: whitespace and the separator.
    AfterCall(String),
}

impl Llama {
    pub(super) fn new(tools: Vec<CallableTool>) -> Self {
        Self { tools, tagged: false, place: Place::Text(Text::default()) }
    }

    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) {
        match &mut self.place {
            Place::Text(text) => {
                if c == '{' && text.at_start() {
                    let held = text.take_space();
                    self.begin(held, c, out);
                } else if text.step(c, &[TAG], out).is_some() {
                    self.tagged = true;
                    let held = text.take_space() + TAG;
                    self.place = Place::Object(Box::new(CallObject::new(held)));
                }
            }
            Place::AfterCall(held) => {
                let separates = is_space(c) || (c == ';' && !held.contains(c));
                if separates && hold(held, c) {
                    return;
                }
                let held = std::mem::take(held);
                if c == '{' {
                    self.begin(held, c, out);
                } else {
                    let separator = if held.contains(';') { held } else { String::new() };
                    self.place = Place::Text(Text::after_call(separator));
                    self.step(c, out);
                }
            }
            Place::Object(object) => {
                let names = if self.tagged { Names::Any } else { Names::Known(&self.tools) };
                let step = object.step(c, names, out);
                if step == Step::More {
                    return;
                }
                let place = match object.ended() {
                    true => Place::AfterCall(String::new()),
                    false => Place::Text(Text::inside()),
                };
                if let Place::Object(object) = std::mem::replace(&mut self.place, place) {
                    object.give_up(out);
                }
                if step == Step::Malformed {
                    self.step(c, out);
                }
            }
        }
    }

    pub(super) fn finish(self, out: &mut Output<'_>) {
        match self.place {
            Place::Text(text) => text.finish(out),
            Place::Object(object) => object.give_up(out),
            Place::AfterCall(_) => {}
        }
    }

    /// Begins an object with `{`, which is `c`.
    fn begin(&mut self, held: String, c: char, out: &mut Output<'_>) {
        self.place = Place::Object(Box::new(CallObject::new(held)));
        self.step(c, out);
    }
}
