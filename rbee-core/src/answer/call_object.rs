//! A call as a JSON object: `{"name": "f", "arguments": {"a": 1}}`.
//!
//! The keys may be in any order. `parameters` is a synonym of `arguments`; of several the first counts. Other keys are
//! ignored. Arguments that are an object are given out as they are. If they are a string, it should contain JSON, and
//! its decoded text is given out. Arguments that are absent, `null` or an empty string are `{}`. Others are malformed.

use super::{
    json::{JsonScan, JsonString, Scan, is_space},
    output::Output,
    text::hold,
};
use crate::chat::CallableTool;

/// Longer keys are not stored, because all known ones are shorter.
const LONGEST_KEY: usize = 16;

/// The names that a call may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names<'a> {
    Any,
    /// One of these, and the first key is `name`, or `type` with the value `function`.
    Known(&'a [CallableTool]),
}

/// What a character did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The object ends with this character, and the call is complete.
    Done,
    /// The character cannot be part of a call.
    Malformed,
}

/// The parser of one object.
#[derive(Debug)]
pub(super) struct CallObject {
    place: Place,
    /// The text since the marker of the call, until the call begins.
    held: String,
    key: String,
    first_key: bool,
    name: Option<String>,
    arguments: Arguments,
    begun: bool,
}

#[derive(Debug)]
enum Place {
    /// Before `{`.
    Before,
    /// Before a key or `}`.
    BeforeKey,
    Key(JsonString),
    Colon,
    BeforeValue,
    Name(JsonString, String),
    /// The value of `type`.
    Kind(JsonString, String),
    Object(JsonScan),
    Text(JsonString),
    /// `null`, of which so many characters were seen.
    Null(usize),
    Ignored(JsonScan),
    /// Before `,` or `}`.
    AfterValue,
}

/// The state of the arguments.
#[derive(Debug, PartialEq, Eq)]
enum Arguments {
    Absent,
    /// Not complete; the text waits for the name of the call.
    Held(String),
    /// Complete; the text waits for the name of the call.
    Complete(String),
    /// Given out, but not complete.
    Open {
        empty: bool,
    },
    /// Given out and complete.
    Ended,
}

impl CallObject {
    /// A call whose object comes next. `held` is the text before it that belongs to the call.
    pub(super) fn new(held: String) -> Self {
        Self {
            place: Place::Before,
            held,
            key: String::new(),
            first_key: true,
            name: None,
            arguments: Arguments::Absent,
            begun: false,
        }
    }

    /// True if the call has begun. If not, all text is held back.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// True if the arguments are given out and complete.
    pub(super) fn ended(&self) -> bool {
        self.arguments == Arguments::Ended
    }

    /// Takes the next character.
    pub(super) fn step(&mut self, c: char, names: Names<'_>, out: &mut Output<'_>) -> Step {
        let held = self.held.len();
        if !self.begun && !hold(&mut self.held, c) {
            return Step::Malformed;
        }
        let step = self.advance(c, names, out);
        if self.begun {
            self.held = String::new();
        } else if step == Step::Malformed {
            self.held.truncate(held);
        }
        step
    }

    /// The call is cut off or malformed: gives out the text that is held back.
    pub(super) fn give_up(mut self, out: &mut Output<'_>) {
        out.content(&self.held);
        if let (true, Place::Text(text)) = (self.begun, &mut self.place) {
            text.finish(|c| out.arguments_char(c));
        }
    }

    fn advance(&mut self, c: char, names: Names<'_>, out: &mut Output<'_>) -> Step {
        match &mut self.place {
            Place::Before | Place::BeforeKey | Place::Colon | Place::BeforeValue if is_space(c) => {
            }
            Place::AfterValue if is_space(c) => {}
            Place::Before if c == '{' => self.place = Place::BeforeKey,
            Place::BeforeKey if c == '"' => {
                self.key.clear();
                self.place = Place::Key(JsonString::new());
            }
            Place::BeforeKey | Place::AfterValue if c == '}' => return self.object_ended(out),
            Place::Key(text) => {
                let key = &mut self.key;
                let push = |c| {
                    if key.len() < LONGEST_KEY {
                        key.push(c)
                    }
                };
                if text.step(c, push) {
                    self.place = Place::Colon;
                }
                if let (Names::Known(_), true) = (names, self.first_key) {
                    let exact = matches!(self.place, Place::Colon);
                    let fits = |key: &&str| {
                        if exact { self.key == **key } else { key.starts_with(&self.key) }
                    };
                    if !["name", "type"].iter().any(fits) {
                        return Step::Malformed;
                    }
                }
            }
            Place::Colon if c == ':' => self.place = Place::BeforeValue,
            Place::BeforeValue => return self.value(c, names, out),
            Place::Name(text, name) => {
                let ended = text.step(c, |c| name.push(c));
                let possible = match names {
                    Names::Any => !ended || !name.is_empty(),
                    Names::Known(tools) if ended => tools.iter().any(|tool| tool.name() == name),
                    Names::Known(tools) => tools.iter().any(|tool| tool.name().starts_with(&*name)),
                };
                if !possible {
                    return Step::Malformed;
                }
                if ended {
                    self.name = Some(std::mem::take(name));
                    self.place = Place::AfterValue;
                    self.begin_if_possible(out);
                }
            }
            Place::Kind(text, kind) => {
                if text.step(c, |c| kind.push(c)) {
                    if kind != "function" {
                        return Step::Malformed;
                    }
                    self.place = Place::AfterValue;
                } else if !"function".starts_with(kind.as_str()) {
                    return Step::Malformed;
                }
            }
            Place::Object(scan) => match scan.step(c) {
                Scan::More => self.arguments_char(c, out),
                Scan::End => {
                    self.arguments_char(c, out);
                    self.arguments_ended(out);
                }
                Scan::EndBefore | Scan::Malformed => return Step::Malformed,
            },
            Place::Text(text) => {
                let arguments = &mut self.arguments;
                if text.step(c, |c| push_argument(arguments, c, out)) {
                    self.arguments_ended(out);
                }
            }
            Place::Null(seen) => {
                if Some(c) != "null".chars().nth(*seen) {
                    return Step::Malformed;
                }
                *seen += 1;
                if *seen == "null".len() {
                    self.arguments_ended(out);
                }
            }
            Place::Ignored(scan) => match scan.step(c) {
                Scan::More => {}
                Scan::End => self.place = Place::AfterValue,
                Scan::EndBefore => {
                    self.place = Place::AfterValue;
                    return self.advance(c, names, out);
                }
                Scan::Malformed => return Step::Malformed,
            },
            Place::AfterValue if c == ',' => self.place = Place::BeforeKey,
            Place::Before | Place::BeforeKey | Place::Colon | Place::AfterValue => {
                return Step::Malformed;
            }
        }
        Step::More
    }

    /// The first character of a value.
    fn value(&mut self, c: char, names: Names<'_>, out: &mut Output<'_>) -> Step {
        let first = std::mem::replace(&mut self.first_key, false);
        let known = matches!(names, Names::Known(_));
        match self.key.as_str() {
            "name" if self.name.is_none() => {
                if c != '"' {
                    return Step::Malformed;
                }
                self.place = Place::Name(JsonString::new(), String::new());
            }
            "arguments" | "parameters" if self.arguments == Arguments::Absent => {
                self.arguments = Arguments::Held(String::new());
                match c {
                    '{' => {
                        let mut scan = JsonScan::default();
                        scan.step(c);
                        self.place = Place::Object(scan);
                        self.begin_if_possible(out);
                        self.arguments_char(c, out);
                    }
                    '"' => {
                        self.place = Place::Text(JsonString::new());
                        self.begin_if_possible(out);
                    }
                    'n' => self.place = Place::Null(1),
                    _ => return Step::Malformed,
                }
            }
            "type" if first && known => {
                if c != '"' {
                    return Step::Malformed;
                }
                self.place = Place::Kind(JsonString::new(), String::new());
            }
            _ => {
                let mut scan = JsonScan::default();
                match scan.step(c) {
                    Scan::More => self.place = Place::Ignored(scan),
                    _ => return Step::Malformed,
                }
            }
        }
        Step::More
    }

    fn arguments_char(&mut self, c: char, out: &mut Output<'_>) {
        push_argument(&mut self.arguments, c, out);
    }

    fn arguments_ended(&mut self, out: &mut Output<'_>) {
        self.place = Place::AfterValue;
        match &mut self.arguments {
            Arguments::Held(text) => {
                self.arguments = Arguments::Complete(std::mem::take(text));
                self.begin_if_possible(out);
            }
            Arguments::Open { empty } => {
                if *empty {
                    out.arguments("{}");
                }
                out.end();
                self.arguments = Arguments::Ended;
            }
            Arguments::Absent | Arguments::Complete(_) | Arguments::Ended => {}
        }
    }

    /// Begins the call if its name is known and its arguments have begun.
    fn begin_if_possible(&mut self, out: &mut Output<'_>) {
        let Some(name) = &self.name else { return };
        let (text, complete) = match &mut self.arguments {
            Arguments::Held(text) => (std::mem::take(text), false),
            Arguments::Complete(text) => (std::mem::take(text), true),
            Arguments::Absent | Arguments::Open { .. } | Arguments::Ended => return,
        };
        out.begin(name.clone());
        self.begun = true;
        out.arguments(&text);
        self.arguments = Arguments::Open { empty: text.is_empty() };
        if complete {
            self.arguments_ended(out);
        }
    }

    fn object_ended(&mut self, out: &mut Output<'_>) -> Step {
        if self.name.is_none() {
            return Step::Malformed;
        }
        if !self.begun {
            self.arguments = Arguments::Complete(String::new());
            self.begin_if_possible(out);
        }
        Step::Done
    }
}

/// Gives out a character of the arguments, or adds it to those that wait.
fn push_argument(arguments: &mut Arguments, c: char, out: &mut Output<'_>) {
    match arguments {
        Arguments::Held(text) => text.push(c),
        Arguments::Open { empty } => {
            *empty = false;
            out.arguments_char(c);
        }
        Arguments::Absent | Arguments::Complete(_) | Arguments::Ended => {}
    }
}
