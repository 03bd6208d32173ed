//! Calls after `[TOOL_CALLS]`, in the old form or in the new form.
//!
//! The old form is a list of objects: `[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abc"}]`. One object
//! without the list is a call, too. In the new form the name stands before the arguments, and the marker before each
//! call: `[TOOL_CALLS]f[ARGS]{"a": 1}` or `[TOOL_CALLS]f[CALL_ID]abc[ARGS]{"a": 1}`; `[ARGS]` may be absent, because
//! some tokenizers do not print it. The ids are dropped. Whitespace between and around calls is dropped.

use super::{
    call_object::{CallObject, Names, Step},
    json::{JsonScan, Scan, is_space},
    output::Output,
    text::{Text, hold},
};

const MARKER: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
const ARGS: &str = "[ARGS]";

/// The parser of this format.
#[derive(Debug)]
pub(super) struct Mistral {
    place: Place,
    /// The text since the last content or call, which is content if no call follows.
    held: String,
    /// True if the objects are in a list.
    in_list: bool,
}

#[derive(Debug)]
enum Place {
    Text(Text),
    AfterMarker,
    /// In the list, before an object. `]` can stand there if there was an object.
    BeforeObject {
        first: bool,
    },
    Object(Box<CallObject>),
    /// In the list, after an object.
    AfterObject,
    Name(String),
    /// After the name: whitespace, or the beginning of one of the other markers.
    AfterName {
        name: String,
        marker: String,
    },
    CallId(String),
    BeforeArguments(String),
    Arguments(JsonScan),
}

impl Default for Mistral {
    fn default() -> Self {
        Self { place: Place::Text(Text::default()), held: String::new(), in_list: false }
    }
}

impl Mistral {
    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) {
        match &mut self.place {
            Place::Text(text) => {
                if text.step(c, &[MARKER], out).is_some() {
                    self.held = text.take_space() + MARKER;
                    self.in_list = false;
                    self.place = Place::AfterMarker;
                }
            }
            Place::Object(object) => {
                let step = object.step(c, Names::Any, out);
                if step == Step::More {
                    return;
                }
                let place = match object.ended() {
                    true if self.in_list => Place::AfterObject,
                    true => Place::Text(Text::after_call(String::new())),
                    false => Place::Text(Text::inside()),
                };
                if let Place::Object(object) = std::mem::replace(&mut self.place, place) {
                    object.give_up(out);
                }
                if step == Step::Malformed {
                    self.step(c, out);
                }
            }
            Place::Arguments(scan) => {
                let scan = scan.step(c);
                match scan {
                    Scan::More => out.arguments_char(c),
                    Scan::End => {
                        out.arguments_char(c);
                        out.end();
                        self.place = Place::Text(Text::after_call(String::new()));
                    }
                    Scan::EndBefore | Scan::Malformed => {
                        self.place = Place::Text(Text::inside());
                        self.step(c, out);
                    }
                }
            }
            _ => {
                if !self.between(c, out) {
                    return self.give_up(c, out);
                }
                if matches!(self.place, Place::Text(_) | Place::Object(_) | Place::Arguments(_)) {
                    self.held = String::new();
                } else if !hold(&mut self.held, c) {
                    self.give_up(c, out);
                }
            }
        }
    }

    pub(super) fn finish(self, out: &mut Output<'_>) {
        match self.place {
            Place::Text(text) => text.finish(out),
            Place::Object(object) => object.give_up(out),
            // The separator of calls; nothing else is held back there.
            Place::AfterObject | Place::BeforeObject { first: false } => {}
            _ => out.content(&self.held),
        }
    }

    /// Takes a character between the marker and the arguments, or returns false if it does not belong there.
    fn between(&mut self, c: char, out: &mut Output<'_>) -> bool {
        match &mut self.place {
            Place::AfterMarker => match c {
                '[' => {
                    self.in_list = true;
                    self.place = Place::BeforeObject { first: true };
                }
                '{' => self.object(c, out),
                _ if is_name(c) => self.place = Place::Name(c.into()),
                _ => return is_space(c),
            },
            Place::BeforeObject { first } => match c {
                '{' => self.object(c, out),
                ']' if !*first => self.place = Place::Text(Text::after_call(String::new())),
                _ => return is_space(c),
            },
            Place::AfterObject => match c {
                ',' => self.place = Place::BeforeObject { first: false },
                ']' => self.place = Place::Text(Text::after_call(String::new())),
                _ => return is_space(c),
            },
            Place::Name(name) => {
                if is_name(c) {
                    name.push(c);
                } else {
                    let name = std::mem::take(name);
                    self.place = Place::AfterName { name, marker: String::new() };
                    return self.between(c, out);
                }
            }
            Place::AfterName { name, marker } => {
                if marker.is_empty() && is_space(c) {
                    return true;
                }
                if marker.is_empty() && c == '{' {
                    return self.arguments(c, out);
                }
                marker.push(c);
                if marker == ARGS {
                    self.place = Place::BeforeArguments(std::mem::take(name));
                } else if marker == CALL_ID {
                    self.place = Place::CallId(std::mem::take(name));
                } else {
                    return [ARGS, CALL_ID].iter().any(|full| full.starts_with(marker.as_str()));
                }
            }
            Place::CallId(name) => {
                if !is_name(c) && !is_space(c) {
                    let name = std::mem::take(name);
                    self.place = Place::AfterName { name, marker: String::new() };
                    return self.between(c, out);
                }
            }
            Place::BeforeArguments(_) if c == '{' => return self.arguments(c, out),
            Place::BeforeArguments(_) => return is_space(c),
            Place::Text(_) | Place::Object(_) | Place::Arguments(_) => return false,
        }
        true
    }

    /// Begins an object with `{`, which is `c`.
    fn object(&mut self, c: char, out: &mut Output<'_>) {
        self.place = Place::Object(Box::new(CallObject::new(std::mem::take(&mut self.held))));
        self.step(c, out);
    }

    /// Begins a call of the new form with the first character of its arguments.
    fn arguments(&mut self, c: char, out: &mut Output<'_>) -> bool {
        let mut scan = JsonScan::default();
        scan.step(c);
        let place = std::mem::replace(&mut self.place, Place::Arguments(scan));
        if let Place::AfterName { name, .. } | Place::BeforeArguments(name) = place {
            out.begin(name);
            out.arguments_char(c);
        }
        true
    }

    /// The text is not a call from this character on.
    fn give_up(&mut self, c: char, out: &mut Output<'_>) {
        let text = match self.place {
            Place::AfterObject => Text::after_call(String::new()),
            _ => {
                out.content(&self.held);
                Text::inside()
            }
        };
        self.held = String::new();
        self.place = Place::Text(text);
        self.step(c, out);
    }
}

/// True if the name of a tool can have this character.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}
