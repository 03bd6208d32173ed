//! Values of Python as JSON, character by character.
//!
//! - `True`, `False` and `None`, and their forms in JSON.
//! - Numbers, as in [`number::to_json`].
//! - Strings in single, double or triple quotes with their escapes, and several in a row; `r` and `u` before the first
//!   quote are allowed, bytes and f-strings are not. `\N{...}` and unknown escapes keep their backslash. Lines may
//!   break in all strings.
//! - Lists and tuples are arrays. `(1)` would be a number in Python, and is malformed.
//! - Dicts are objects. Keys that are numbers or words become strings that contain their JSON.
//!
//! All else is malformed: names, calls, operators, sets and comments.

use super::{
    super::{MAX_DEPTH, escape::Dialect, json::is_space, text::hold},
    number,
    string::{PythonString, is_quote},
};

/// What a character did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::answer) enum Step {
    More,
    /// The value ends with this character.
    Done,
    /// The value ended before this character.
    DoneBefore,
    /// The character cannot be part of a value.
    Malformed,
}

/// The converter of one value that begins with the first character.
#[derive(Debug)]
pub(in crate::answer) struct PythonValue {
    open: Vec<Open>,
    place: Place,
    dialect: Dialect,
}

/// An open bracket.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// True if an element has begun.
    elements: bool,
    /// True if there was a comma.
    comma: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    List,
    Tuple,
    Dict,
}

#[derive(Debug, Default)]
enum Place {
    /// Before a value, or before the end of a list or tuple.
    #[default]
    BeforeValue,
    /// Before a key, or before the end of a dict.
    BeforeKey,
    /// In a number or word. `key` is true if it is a key.
    Token {
        text: String,
        key: bool,
    },
    String {
        string: PythonString,
        key: bool,
    },
    /// After a string, to which the next one would be appended.
    AfterString {
        key: bool,
    },
    AfterKey,
    AfterValue,
}

impl PythonValue {
    /// A value of Python.
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), place: Place::BeforeValue, dialect: Dialect::Python }
    }

    /// A value of JSON or Python.
    pub(in crate::answer) fn lenient() -> Self {
        Self { dialect: Dialect::Both, ..Self::new() }
    }

    /// Takes the next character and appends the JSON that is decided now.
    pub(in crate::answer) fn step(&mut self, c: char, json: &mut String) -> Step {
        match &mut self.place {
            Place::BeforeValue | Place::BeforeKey | Place::AfterKey | Place::AfterValue
                if is_space(c) => {}
            Place::AfterString { .. } if is_space(c) => {}
            Place::BeforeValue | Place::BeforeKey if matches!(c, ']' | ')' | '}') => {
                return self.close(c, json);
            }
            Place::BeforeValue => return self.begin_element(c, false, json),
            Place::BeforeKey => return self.begin_element(c, true, json),
            Place::Token { text, key } => {
                let exponent_sign = matches!(c, '+' | '-') && text.ends_with(['e', 'E']);
                if c.is_alphanumeric() || matches!(c, '_' | '.') || exponent_sign {
                    return if hold(text, c) { Step::More } else { Step::Malformed };
                }
                if is_quote(c)
                    && let Some(raw) = prefix_is_raw(text)
                {
                    json.push('"');
                    let string = PythonString::new(c, raw, self.dialect);
                    self.place = Place::String { string, key: *key };
                    return Step::More;
                }
                let Some(scalar) = scalar(text) else { return Step::Malformed };
                if *key {
                    json.push_str(&format!("\"{scalar}\""));
                } else {
                    json.push_str(&scalar);
                }
                let key = *key;
                return self.scalar_ended(key, c, json);
            }
            Place::String { string, key } => {
                if let Some(consumed) = string.step(c, json) {
                    self.place = Place::AfterString { key: *key };
                    if !consumed {
                        return self.step(c, json);
                    }
                }
            }
            Place::AfterString { key } => {
                let key = *key;
                if is_quote(c) {
                    self.place =
                        Place::String { string: PythonString::new(c, false, self.dialect), key };
                } else {
                    json.push('"');
                    return self.scalar_ended(key, c, json);
                }
            }
            Place::AfterKey if c == ':' => {
                json.push(':');
                self.place = Place::BeforeValue;
            }
            Place::AfterKey => return Step::Malformed,
            Place::AfterValue if c == ',' => {
                let Some(open) = self.open.last_mut() else { return Step::Malformed };
                open.comma = true;
                self.place = match open.kind {
                    Kind::Dict => Place::BeforeKey,
                    Kind::List | Kind::Tuple => Place::BeforeValue,
                };
            }
            Place::AfterValue => return self.close(c, json),
        }
        Step::More
    }

    /// The text is cut off here: appends what is held back.
    pub(in crate::answer) fn cut_off(&mut self, json: &mut String) {
        match &mut self.place {
            Place::Token { text, .. } => json.push_str(text),
            Place::String { string, .. } => string.cut_off(json),
            Place::AfterString { .. } => json.push('"'),
            _ => {}
        }
    }

    /// The text that is held back if the value is malformed.
    pub(in crate::answer) fn held(&self) -> &str {
        match &self.place {
            Place::Token { text, .. } => text,
            _ => "",
        }
    }

    /// The first character of a value or key.
    fn begin_element(&mut self, c: char, key: bool, json: &mut String) -> Step {
        let kind = match c {
            '[' => Some(Kind::List),
            '(' => Some(Kind::Tuple),
            '{' => Some(Kind::Dict),
            _ => None,
        };
        let possible = match kind {
            Some(_) => !key && self.open.len() < MAX_DEPTH - 1,
            None => is_quote(c) || c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'),
        };
        if !possible {
            return Step::Malformed;
        }
        if let Some(open) = self.open.last_mut()
            && (key || open.kind != Kind::Dict)
        {
            if open.elements {
                json.push(',');
            }
            open.elements = true;
        }
        self.place = match kind {
            Some(kind) => {
                json.push(if kind == Kind::Dict { '{' } else { '[' });
                self.open.push(Open { kind, elements: false, comma: false });
                if kind == Kind::Dict { Place::BeforeKey } else { Place::BeforeValue }
            }
            None if is_quote(c) => {
                json.push('"');
                Place::String { string: PythonString::new(c, false, self.dialect), key }
            }
            None => Place::Token { text: c.into(), key },
        };
        Step::More
    }

    /// A value or key without brackets ended before this character.
    fn scalar_ended(&mut self, key: bool, c: char, json: &mut String) -> Step {
        self.place = if key { Place::AfterKey } else { Place::AfterValue };
        if self.open.is_empty() { Step::DoneBefore } else { self.step(c, json) }
    }

    /// A closing bracket, if it fits.
    fn close(&mut self, c: char, json: &mut String) -> Step {
        let fits = self.open.last().is_some_and(|open| match open.kind {
            Kind::List => c == ']',
            Kind::Tuple => c == ')' && (open.comma || !open.elements),
            // Not between a colon and its value.
            Kind::Dict => c == '}' && !matches!(self.place, Place::BeforeValue),
        });
        if !fits {
            return Step::Malformed;
        }
        self.open.pop();
        json.push(if c == '}' { '}' } else { ']' });
        self.place = Place::AfterValue;
        if self.open.is_empty() { Step::Done } else { Step::More }
    }
}

/// Whether a string with this prefix is raw, or `None` if strings have no such prefix.
fn prefix_is_raw(prefix: &str) -> Option<bool> {
    match prefix {
        "r" | "R" => Some(true),
        "u" | "U" => Some(false),
        _ => None,
    }
}

/// A number or word as JSON.
pub(in crate::answer) fn scalar(text: &str) -> Option<String> {
    match text {
        "True" | "true" => Some("true".into()),
        "False" | "false" => Some("false".into()),
        "None" | "null" => Some("null".into()),
        _ => number::to_json(text),
    }
}
