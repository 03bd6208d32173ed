//! The end of a JSON value, and the text of a JSON string.

use super::{
    MAX_DEPTH,
    escape::{Dialect, Escapes},
};

/// Whitespace of JSON.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// What a character of a value means for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    More,
    /// The value ends with this character.
    End,
    /// The value ended before this character.
    EndBefore,
    /// The character cannot be part of the value.
    Malformed,
}

/// Finds the end of one JSON value that begins with the first character.
///
/// It knows strings, escapes and brackets. Outside strings it allows the characters of numbers and words in any order.
#[derive(Debug, Default)]
pub(super) struct JsonScan {
    place: Place,
    /// The number of open brackets.
    depth: usize,
    /// One bit for each open bracket, the innermost lowest: 1 for `{`, 0 for `[`.
    braces: u128,
}

const _: () = assert!(MAX_DEPTH <= u128::BITS as usize);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between the brackets, or before the first character.
    #[default]
    Structure,
    /// In a number or word that is the whole value.
    Scalar,
    String,
    /// After a backslash in a string.
    Escape,
}

impl JsonScan {
    pub(super) fn step(&mut self, c: char) -> Scan {
        match (self.place, c) {
            (Place::Escape, _) => self.place = Place::String,
            (Place::String, '\\') => self.place = Place::Escape,
            (Place::String, '"') => {
                self.place = Place::Structure;
                return self.value_ended();
            }
            (Place::String, _) => {}
            (Place::Scalar, ',' | '}' | ']') => return Scan::EndBefore,
            (Place::Scalar, _) if is_space(c) => return Scan::EndBefore,
            (Place::Scalar, _) if is_scalar(c) => {}
            (Place::Scalar, _) => return Scan::Malformed,
            (Place::Structure, '"') => self.place = Place::String,
            (Place::Structure, '{' | '[') => {
                if self.depth == MAX_DEPTH {
                    return Scan::Malformed;
                }
                self.depth += 1;
                self.braces = self.braces << 1 | u128::from(c == '{');
            }
            (Place::Structure, '}' | ']') => {
                if self.depth == 0 || (self.braces & 1 == 1) != (c == '}') {
                    return Scan::Malformed;
                }
                self.depth -= 1;
                self.braces >>= 1;
                return self.value_ended();
            }
            (Place::Structure, _) if self.depth == 0 => {
                if !is_scalar(c) {
                    return Scan::Malformed;
                }
                self.place = Place::Scalar;
            }
            (Place::Structure, ',' | ':') => {}
            (Place::Structure, _) if is_scalar(c) || is_space(c) => {}
            (Place::Structure, _) => return Scan::Malformed,
        }
        Scan::More
    }

    fn value_ended(&self) -> Scan {
        if self.depth == 0 { Scan::End } else { Scan::More }
    }
}

fn is_scalar(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')
}

/// Decodes one JSON string after its opening quote.
#[derive(Debug)]
pub(super) struct JsonString(Escapes);

impl JsonString {
    pub(super) fn new() -> Self {
        Self(Escapes::new(Dialect::Json))
    }

    /// Takes the next character and returns true if it is the closing quote.
    pub(super) fn step(&mut self, c: char, mut out: impl FnMut(char)) -> bool {
        if self.0.take(c, &mut out) {
            return false;
        }
        if c == '"' {
            self.0.finish(&mut out);
            return true;
        }
        self.0.plain(c, &mut out);
        false
    }

    /// The text was cut off inside the string.
    pub(super) fn finish(&mut self, mut out: impl FnMut(char)) {
        self.0.finish(&mut out);
    }
}
