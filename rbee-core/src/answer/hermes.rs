//! Calls in tags: `<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>`.
//!
//! Whitespace inside and around the tags is dropped. The closing tag may be absent, and one pair of tags may contain
//! several objects.

use super::{
    call_object::{CallObject, Names, Step},
    output::Output,
    text::Text,
};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// The parser of this format.
#[derive(Debug, Default)]
pub(super) struct Hermes {
    text: Text,
    /// True if a call has begun and its closing tag was not found yet.
    closing: bool,
    /// The call that is being written.
    object: Option<Box<CallObject>>,
}

impl Hermes {
    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) {
        if self.object.is_some() {
            return self.object(c, out);
        }
        if self.closing && c == '{' && self.text.is_after_call() {
            self.object = Some(Box::new(CallObject::new(self.text.take_space())));
            return self.object(c, out);
        }
        let tags: &[&str] = if self.closing { &[OPEN, CLOSE] } else { &[OPEN] };
        match self.text.step(c, tags, out) {
            None => {}
            Some(0) => {
                let held = self.text.take_space() + OPEN;
                self.object = Some(Box::new(CallObject::new(held)));
                self.closing = false;
            }
            Some(_) => self.closing = false,
        }
    }

    pub(super) fn finish(self, out: &mut Output<'_>) {
        match self.object {
            Some(object) => object.give_up(out),
            None => self.text.finish(out),
        }
    }

    fn object(&mut self, c: char, out: &mut Output<'_>) {
        let Some(mut object) = self.object.take() else { return };
        let step = object.step(c, Names::Any, out);
        if step == Step::More {
            self.object = Some(object);
            return;
        }
        self.closing |= object.begun();
        self.text = if object.ended() { Text::after_call(String::new()) } else { Text::inside() };
        object.give_up(out);
        if step == Step::Malformed {
            self.step(c, out);
        }
    }
}
