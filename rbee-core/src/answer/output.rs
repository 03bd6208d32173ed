//! The deltas of one step, merged as far as possible.

use super::Delta;

/// Appends deltas to the caller's list and counts the calls.
#[derive(Debug)]
pub(super) struct Output<'a> {
    deltas: &'a mut Vec<Delta>,
    /// The deltas before this were there before; they are not changed.
    start: usize,
    calls: &'a mut u32,
    /// True if content of this step is more than whitespace.
    has_text: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(deltas: &'a mut Vec<Delta>, calls: &'a mut u32) -> Self {
        let start = deltas.len();
        Self { deltas, start, calls, has_text: false }
    }

    pub(super) fn content(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.has_text |= !text.trim_ascii_start().is_empty();
        match self.deltas[self.start..].last_mut() {
            Some(Delta::Content(last)) => last.push_str(text),
            _ => self.deltas.push(Delta::Content(text.to_owned())),
        }
    }

    pub(super) fn content_char(&mut self, c: char) {
        self.content(c.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn reasoning_char(&mut self, c: char) {
        match self.deltas[self.start..].last_mut() {
            Some(Delta::Reasoning(last)) => last.push(c),
            _ => self.deltas.push(Delta::Reasoning(c.into())),
        }
    }

    /// Begins the next call.
    pub(super) fn begin(&mut self, name: String) {
        self.deltas.push(Delta::CallBegin { index: *self.calls, name });
        *self.calls += 1;
    }

    /// Gives out a part of the arguments of the call that began last.
    pub(super) fn arguments(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.deltas[self.start..].last_mut() {
            Some(Delta::CallArguments { json, .. }) => json.push_str(text),
            _ => {
                let index = self.index();
                self.deltas.push(Delta::CallArguments { index, json: text.to_owned() });
            }
        }
    }

    pub(super) fn arguments_char(&mut self, c: char) {
        self.arguments(c.encode_utf8(&mut [0; 4]));
    }

    /// Ends the call that began last.
    pub(super) fn end(&mut self) {
        let index = self.index();
        self.deltas.push(Delta::CallEnd { index });
    }

    /// True if a call has begun.
    pub(super) fn has_calls(&self) -> bool {
        *self.calls > 0
    }

    /// True if content of this step is more than whitespace.
    pub(super) fn has_text(&self) -> bool {
        self.has_text
    }

    fn index(&self) -> u32 {
        self.calls.saturating_sub(1)
    }
}
