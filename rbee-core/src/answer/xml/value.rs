//! The value of a parameter as JSON, by the types that it can have.
//!
//! - A text, if that is the only type, is given out as it comes.
//! - An object or array, if it can be no text, too, is converted as it comes, from JSON or Python.
//! - All other values are converted when they are complete: `true`, `false`, `null` and their forms in Python, and
//!   numbers, if they have one of the types. What is of no type is a text.

use super::super::{
    escape::write_json_char,
    json::is_space,
    output::Output,
    pythonic::value::{PythonValue, Step, scalar},
    text::hold,
};
use crate::chat::callable::ValueTypes;

/// The converter of one value.
#[derive(Debug)]
pub(super) struct ParameterValue {
    types: ValueTypes,
    place: Place,
    /// True as long as it has only white space.
    is_blank: bool,
}

#[derive(Debug)]
enum Place {
    /// The text so far, of which the type is not known yet.
    Undecided(String),
    Text,
    Value(Box<PythonValue>),
    /// After an object or array.
    Ended,
}

impl ParameterValue {
    /// A value of one of these types.
    pub(super) fn new(types: ValueTypes) -> Self {
        Self { types, place: Place::Undecided(String::new()), is_blank: true }
    }

    /// Takes the next character, or returns false if it cannot be part of the value.
    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) -> bool {
        let is_first = self.is_blank;
        match &mut self.place {
            Place::Undecided(text) => {
                if is_space(c) && is_first && self.types != ValueTypes::TEXT {
                    if !hold(text, c) {
                        self.text(out);
                        return self.step(c, out);
                    }
                    return true;
                }
                if is_first && !self.types.has(beginning(c)) {
                    self.text(out);
                    return self.step(c, out);
                }
                if is_first && matches!(c, '{' | '[') && !self.types.has(ValueTypes::TEXT) {
                    self.place = Place::Value(Box::new(PythonValue::lenient()));
                    return self.step(c, out);
                }
                if !hold(text, c) {
                    self.text(out);
                    return self.step(c, out);
                }
                self.is_blank &= is_space(c);
            }
            Place::Text => text_char(c, out),
            Place::Value(value) => {
                let mut json = String::new();
                let step = value.step(c, &mut json);
                out.arguments(&json);
                match step {
                    Step::More => {}
                    Step::Done => self.place = Place::Ended,
                    Step::DoneBefore | Step::Malformed => return false,
                }
            }
            Place::Ended => return is_space(c),
        }
        true
    }

    /// The value ends here. Returns false if it is not complete.
    pub(super) fn end(mut self, out: &mut Output<'_>) -> bool {
        if let Place::Undecided(text) = &self.place {
            if let Some(json) = converted(text.trim_matches(is_space), self.types) {
                out.arguments(&json);
                return true;
            }
            self.text(out);
        }
        match self.place {
            Place::Text => out.arguments("\""),
            Place::Value(_) => {
                self.cut_off(out);
                return false;
            }
            Place::Undecided(_) | Place::Ended => {}
        }
        true
    }

    /// The text is cut off in the value.
    pub(super) fn cut_off(self, out: &mut Output<'_>) {
        match self.place {
            Place::Undecided(text) => {
                // A text may not look like a complete value of JSON.
                if self.types.has(ValueTypes::TEXT) && !text.is_empty() {
                    out.arguments("\"");
                    text.chars().for_each(|c| text_char(c, out));
                } else {
                    out.arguments(&text);
                }
            }
            Place::Value(mut value) => {
                let mut json = String::new();
                value.cut_off(&mut json);
                out.arguments(&json);
            }
            Place::Text | Place::Ended => {}
        }
    }

    /// The text that is held back if the value is malformed.
    pub(super) fn held(&self) -> &str {
        match &self.place {
            Place::Value(value) => value.held(),
            _ => "",
        }
    }

    /// The value is a text.
    fn text(&mut self, out: &mut Output<'_>) {
        if let Place::Undecided(text) = std::mem::replace(&mut self.place, Place::Text) {
            out.arguments("\"");
            text.chars().for_each(|c| text_char(c, out));
        }
    }
}

/// The types, apart from text, of a value that begins with this character.
fn beginning(c: char) -> ValueTypes {
    match c {
        '{' => ValueTypes::OBJECT,
        '[' => ValueTypes::ARRAY,
        'n' | 'N' => ValueTypes::NULL,
        't' | 'T' | 'f' | 'F' => ValueTypes::BOOLEAN,
        '0'..='9' | '-' | '+' | '.' => ValueTypes::NUMBER,
        _ => ValueTypes::default(),
    }
}

/// The JSON of a complete value that is no text, or `None`.
fn converted(text: &str, types: ValueTypes) -> Option<String> {
    let of_json = |json: &str| {
        let value = serde_json::from_str::<serde_json::Value>(json).ok()?;
        Some(ValueTypes::of(&value))
    };
    let has_text = types.has(ValueTypes::TEXT);
    let json = match text.chars().next()? {
        '{' | '[' => {
            let mut value = PythonValue::lenient();
            let (mut json, mut step) = (String::new(), Step::More);
            for c in text.chars() {
                if step != Step::More {
                    return None;
                }
                step = value.step(c, &mut json);
            }
            if step != Step::Done {
                return None;
            }
            json
        }
        // What can be a text is a number only if it is one of JSON: `007` and `1_000` are texts.
        '0'..='9' | '-' | '+' | '.' if has_text => text.to_owned(),
        _ => scalar(text)?,
    };
    let is_allowed = of_json(&json).is_some_and(|of| types.has(of));
    is_allowed.then_some(json)
}

fn text_char(c: char, out: &mut Output<'_>) {
    let mut json = String::new();
    write_json_char(&mut json, c);
    out.arguments(&json);
}
