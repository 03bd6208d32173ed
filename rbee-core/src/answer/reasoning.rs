//! Reasoning before the answer.

use super::{MAX_HELD, ReasoningTags, json::is_space, output::Output, text::TagScanner};

/// Finds the reasoning and passes the text after it on.
#[derive(Debug)]
pub(super) struct Reasoning {
    open: String,
    close: String,
    starts_inside: bool,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Before the opening tag: whitespace and the beginning of the tag.
    Before {
        space: String,
        partial: String,
    },
    Inside(TagScanner),
    /// After the closing tag. Whitespace is dropped.
    Closed,
    Over,
}

impl Reasoning {
    pub(super) fn new(tags: Option<ReasoningTags>) -> Self {
        let Some(ReasoningTags { open, close, starts_inside }) = tags else {
            let (open, close) = (String::new(), String::new());
            return Self { open, close, starts_inside: false, place: Place::Over };
        };
        // Whitespace before the tag is not compared.
        let open = open.trim_start_matches(is_space).to_owned();
        let place = match open.is_empty() {
            false => Place::Before { space: String::new(), partial: String::new() },
            true if starts_inside => Place::Inside(TagScanner::default()),
            true => Place::Over,
        };
        Self { open, close, starts_inside, place }
    }

    /// Takes the next text and returns the text of the answer in it: what was held back, and the rest.
    pub(super) fn push<'t>(&mut self, text: &'t str, out: &mut Output<'_>) -> (String, &'t str) {
        for (at, c) in text.char_indices() {
            if let Place::Over = self.place {
                return (String::new(), &text[at..]);
            }
            let held = self.step(c, out);
            if let Place::Over = self.place {
                return (held, &text[at + c.len_utf8()..]);
            }
        }
        (String::new(), "")
    }

    /// The text has ended. Returns the text of the answer that was held back.
    pub(super) fn finish(&mut self, out: &mut Output<'_>) -> String {
        match std::mem::replace(&mut self.place, Place::Over) {
            Place::Before { space, partial } if self.starts_inside => {
                (space + partial.as_str()).chars().for_each(|c| out.reasoning_char(c));
                String::new()
            }
            Place::Before { space, partial } => space + partial.as_str(),
            Place::Inside(mut scanner) => {
                scanner.take().chars().for_each(|c| out.reasoning_char(c));
                String::new()
            }
            Place::Closed | Place::Over => String::new(),
        }
    }

    /// Takes the next character and returns the text that belongs to the answer.
    fn step(&mut self, c: char, out: &mut Output<'_>) -> String {
        match &mut self.place {
            Place::Before { space, partial } => {
                if partial.is_empty() && is_space(c) && space.len() < MAX_HELD {
                    space.push(c);
                    return String::new();
                }
                partial.push(c);
                if self.open.starts_with(partial.as_str()) {
                    if *partial == self.open {
                        self.place = Place::Inside(TagScanner::default());
                    }
                    return String::new();
                }
                let held = std::mem::take(space) + partial.as_str();
                if self.starts_inside {
                    self.place = Place::Inside(TagScanner::default());
                    return held.chars().map(|c| self.step(c, out)).collect();
                }
                self.place = Place::Over;
                held
            }
            Place::Inside(scanner) => {
                if scanner.step(c, &[&self.close], |c| out.reasoning_char(c)).is_some() {
                    self.place = Place::Closed;
                }
                String::new()
            }
            Place::Closed if is_space(c) => String::new(),
            Place::Closed | Place::Over => {
                self.place = Place::Over;
                c.into()
            }
        }
    }
}
