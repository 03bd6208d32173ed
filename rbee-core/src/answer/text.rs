//! The text around calls, and the tags in it.

use super::{MAX_HELD, json::is_space, output::Output};

/// Finds tags in a text, and holds back text that may become one.
#[derive(Debug, Default)]
pub(super) struct TagScanner {
    /// The beginning of a tag.
    partial: String,
}

impl TagScanner {
    /// Takes the next character, passes on the text that is certainly not part of a tag, and returns the position in
    /// `tags` of the tag that is complete now. An empty tag is never found.
    pub(super) fn step(
        &mut self,
        c: char,
        tags: &[&str],
        mut release: impl FnMut(char),
    ) -> Option<usize> {
        if self.partial.is_empty() && !tags.iter().any(|tag| tag.starts_with(c)) {
            release(c);
            return None;
        }
        self.partial.push(c);
        while !self.partial.is_empty() {
            if let Some(found) = tags.iter().position(|tag| *tag == self.partial) {
                self.partial.clear();
                return Some(found);
            }
            if tags.iter().any(|tag| tag.starts_with(&self.partial)) {
                break;
            }
            release(self.partial.remove(0));
        }
        None
    }

    /// Returns the text that is held back: no tag is complete in it.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.partial)
    }
}

/// Where the text is in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the beginning of the answer, after whitespace at most.
    #[default]
    Start,
    /// After a call. Whitespace is dropped.
    AfterCall,
    Inside,
}

/// Passes text on as content until a tag is found. Whitespace before a tag is held back with it.
#[derive(Debug, Default)]
pub(super) struct Text {
    place: Place,
    scanner: TagScanner,
    /// The whitespace, and the separator of calls, after the last content.
    space: String,
}

impl Text {
    /// Text after content.
    pub(super) fn inside() -> Self {
        Self { place: Place::Inside, ..Self::default() }
    }

    /// Text after a call. `separator` is content if other text than a call follows.
    pub(super) fn after_call(separator: String) -> Self {
        Self { place: Place::AfterCall, space: separator, ..Self::default() }
    }

    /// True if there was no other text than whitespace.
    pub(super) fn at_start(&self) -> bool {
        self.place == Place::Start && self.scanner.partial.is_empty()
    }

    /// True if there was no other text than whitespace since the last call.
    pub(super) fn is_after_call(&self) -> bool {
        self.place == Place::AfterCall && self.scanner.partial.is_empty()
    }

    /// The whitespace that is held back.
    pub(super) fn take_space(&mut self) -> String {
        std::mem::take(&mut self.space)
    }

    /// Takes the next character, gives out what is content, and returns the position in `tags` of the tag that is
    /// complete now.
    pub(super) fn step(&mut self, c: char, tags: &[&str], out: &mut Output<'_>) -> Option<usize> {
        let Self { place, scanner, space } = self;
        scanner.step(c, tags, |c| {
            if !is_space(c) {
                *place = Place::Inside;
                out.content(space);
                space.clear();
                out.content_char(c);
            } else if *place != Place::AfterCall {
                if space.len() == MAX_HELD {
                    out.content(space);
                    space.clear();
                }
                space.push(c);
            }
        })
    }

    pub(super) fn finish(mut self, out: &mut Output<'_>) {
        let partial = self.scanner.take();
        if self.place != Place::AfterCall || !partial.is_empty() {
            out.content(&self.space);
        }
        out.content(&partial);
    }
}

/// Appends a character to text that is held back, or returns false if it is full.
pub(super) fn hold(held: &mut String, c: char) -> bool {
    let fits = held.len() + c.len_utf8() <= MAX_HELD;
    if fits {
        held.push(c);
    }
    fits
}
