//! Strings of Python as JSON, character by character.

use super::super::escape::{Dialect, Escapes, write_json_char};

/// True if a string can begin with this character.
pub(super) fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"')
}

/// The converter of one string after its first quote. The quotes around the JSON string are the caller's.
#[derive(Debug)]
pub(super) struct PythonString {
    quote: char,
    raw: bool,
    place: Place,
    escapes: Escapes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After the first quote.
    OneQuote,
    /// After two quotes: an empty string, or the beginning of three quotes.
    TwoQuotes,
    Inside {
        triple: bool,
    },
    /// After a backslash in a raw string.
    RawEscape {
        triple: bool,
    },
    /// In a string with three quotes, after so many quotes.
    Closing(usize),
}

impl PythonString {
    pub(super) fn new(quote: char, raw: bool, dialect: Dialect) -> Self {
        Self { quote, raw, place: Place::OneQuote, escapes: Escapes::new(dialect) }
    }

    /// Takes the next character and appends the text that is decided now. At the end of the string it returns whether
    /// the character belongs to the string.
    pub(super) fn step(&mut self, c: char, json: &mut String) -> Option<bool> {
        let is_quote = c == self.quote;
        let mut out = |c| write_json_char(json, c);
        let triple = match self.place {
            Place::OneQuote if is_quote => {
                self.place = Place::TwoQuotes;
                return None;
            }
            Place::OneQuote => false,
            Place::TwoQuotes if is_quote => {
                self.place = Place::Inside { triple: true };
                return None;
            }
            Place::TwoQuotes => return Some(false),
            Place::RawEscape { triple } => {
                self.place = Place::Inside { triple };
                self.escapes.plain(c, &mut out);
                return None;
            }
            Place::Inside { triple } => triple,
            Place::Closing(2) if is_quote => {
                self.escapes.finish(&mut out);
                return Some(true);
            }
            Place::Closing(seen) if is_quote => {
                self.place = Place::Closing(seen + 1);
                return None;
            }
            Place::Closing(seen) => {
                (0..seen).for_each(|_| self.escapes.plain(self.quote, &mut out));
                true
            }
        };
        self.place = Place::Inside { triple };
        if self.raw && c == '\\' {
            self.place = Place::RawEscape { triple };
            self.escapes.plain(c, &mut out);
        } else if !self.raw && self.escapes.take(c, &mut out) {
            // A part of an escape, also if it is a quote.
        } else if is_quote && triple {
            self.place = Place::Closing(1);
        } else if is_quote {
            self.escapes.finish(&mut out);
            return Some(true);
        } else {
            self.escapes.plain(c, &mut out);
        }
        None
    }

    /// The text is cut off inside the string.
    pub(super) fn cut_off(&mut self, json: &mut String) {
        let mut out = |c| write_json_char(json, c);
        if let Place::Closing(seen) = self.place {
            (0..seen).for_each(|_| self.escapes.plain(self.quote, &mut out));
        }
        self.escapes.finish(&mut out);
        if self.place == Place::TwoQuotes {
            json.push('"');
        }
    }
}
