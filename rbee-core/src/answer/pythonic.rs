//! Calls as Python: `[f(a=1, b="x"), g()]`.
//!
//! The list is the beginning of the answer, alone, between `<|python_start|>` and `<|python_end|>`, or in a fence of
//! `tool_code`, where single calls without the list are allowed, too. Its first tool must be known. Further lists can
//! follow; with the first other text, everything is content.
//!
//! Arguments are converted to JSON as [`value`] describes. All arguments have names, because the names of parameters
//! are not known here: `f(1)` is not a call, and neither is `f(**x)`.

mod number;
mod string;
pub(super) mod value;

use self::value::{PythonValue, Step};
use super::{escape::write_json_char, json::is_space, output::Output, text::hold};
use crate::chat::CallableTool;

const FENCE: &str = "```tool_code";
const FENCE_END: &str = "```";
const START: &str = "<|python_start|>";
const END: &str = "<|python_end|>";

/// The parser of this format.
#[derive(Debug)]
pub(super) struct Pythonic {
    tools: Vec<CallableTool>,
    place: Place,
    /// The text since the beginning or the last call, which is content if no call follows.
    held: String,
    /// The tag that closes the open tag or fence.
    close: Option<&'static str>,
    /// True if the open tag or fence contains a call.
    close_expected: bool,
    /// True if the current call is in a list.
    in_list: bool,
    /// True if a call has begun in this list.
    list_begun: bool,
    /// True if a call has ended and no other text than whitespace came after its list.
    after_call: bool,
}

#[derive(Debug)]
enum Place {
    /// Before a call or list, or in a tag of which this is the beginning.
    Before(String),
    /// In a list, before the name of a tool. `]` can stand there after a comma.
    BeforeName {
        first: bool,
    },
    Name(String),
    /// Between the name and `(`.
    AfterName(String),
    /// Before the name of an argument.
    BeforeKey(Call),
    Key(Call, String),
    /// Between the name of an argument and `=`.
    AfterKey(Call, String),
    /// Before the value of an argument; this is its name.
    BeforeValue(Call, String),
    Value(PythonValue),
    /// Between a value and `,` or `)`.
    AfterValue,
    /// In a list, between a call and `,` or `]`.
    AfterCall,
    /// All further text is content.
    Content,
}

/// A call in front of one of its arguments.
#[derive(Debug)]
enum Call {
    /// Before the first argument.
    New { name: String },
    /// The arguments before this one are given out.
    Begun,
}

impl Pythonic {
    pub(super) fn new(tools: Vec<CallableTool>) -> Self {
        Self {
            tools,
            place: Place::Before(String::new()),
            held: String::new(),
            close: None,
            close_expected: false,
            in_list: false,
            list_begun: false,
            after_call: false,
        }
    }

    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) {
        if let Place::Content = self.place {
            return out.content_char(c);
        }
        let held = self.held.len();
        if !hold(&mut self.held, c) {
            return self.give_up(c, out);
        }
        if !self.advance(c, out) {
            self.held.truncate(held);
            self.give_up(c, out);
        } else if let Place::Value(_) = self.place {
            self.held.clear();
        }
    }

    pub(super) fn finish(mut self, out: &mut Output<'_>) {
        match &mut self.place {
            Place::Value(value) => {
                let mut json = String::new();
                value.cut_off(&mut json);
                out.arguments(&json);
            }
            Place::AfterValue
            | Place::BeforeKey(Call::Begun)
            | Place::Key(Call::Begun, _)
            | Place::AfterKey(Call::Begun, _)
            | Place::BeforeValue(Call::Begun, _) => out.arguments(&self.held),
            // The separator of calls; nothing else is held back there.
            Place::AfterCall | Place::BeforeName { first: false } => {}
            _ => out.content(&self.held),
        }
    }

    /// Takes a character, or returns false if it is not part of a call.
    fn advance(&mut self, c: char, out: &mut Output<'_>) -> bool {
        match &mut self.place {
            Place::Before(partial) if partial.is_empty() && is_space(c) => {
                if self.after_call {
                    self.held = String::new();
                }
            }
            Place::Before(partial) if partial.is_empty() && c == '[' => {
                self.in_list = true;
                self.list_begun = false;
                self.place = Place::BeforeName { first: true };
            }
            Place::Before(partial) => {
                if partial.is_empty() && self.close == Some(FENCE_END) && starts_name(c) {
                    self.in_list = false;
                    self.list_begun = false;
                    return self.name(String::new(), c);
                }
                partial.push(c);
                return self.tag();
            }
            Place::BeforeName { first } => match c {
                ']' if !*first => self.list_ended(),
                _ if starts_name(c) => return self.name(String::new(), c),
                _ => return is_space(c),
            },
            Place::Name(name) => {
                let name = std::mem::take(name);
                if continues_name(c) {
                    return self.name(name, c);
                }
                self.place = Place::AfterName(name);
                return self.advance(c, out);
            }
            Place::AfterName(name) => {
                if c != '(' {
                    return is_space(c);
                }
                if !self.list_begun && !self.tools.iter().any(|tool| tool.name() == name) {
                    return false;
                }
                self.place = Place::BeforeKey(Call::New { name: std::mem::take(name) });
            }
            Place::BeforeKey(_) | Place::AfterValue if c == ')' => self.call_ended(out),
            Place::BeforeKey(call) => {
                if !starts_name(c) {
                    return is_space(c);
                }
                let call = std::mem::replace(call, Call::Begun);
                self.place = Place::Key(call, c.into());
            }
            Place::Key(call, key) => {
                if c.is_alphanumeric() || c == '_' {
                    key.push(c);
                    return true;
                }
                let call = std::mem::replace(call, Call::Begun);
                self.place = Place::AfterKey(call, std::mem::take(key));
                return self.advance(c, out);
            }
            Place::AfterKey(call, key) => {
                if c != '=' {
                    return is_space(c);
                }
                let call = std::mem::replace(call, Call::Begun);
                self.place = Place::BeforeValue(call, std::mem::take(key));
            }
            Place::BeforeValue(call, key) => {
                if is_space(c) {
                    return true;
                }
                let mut json = String::new();
                let mut value = PythonValue::new();
                if value.step(c, &mut json) != Step::More {
                    return false;
                }
                match call {
                    Call::New { name } => {
                        out.begin(std::mem::take(name));
                        out.arguments("{\"");
                    }
                    Call::Begun => out.arguments(",\""),
                }
                self.list_begun = true;
                self.close_expected = self.close.is_some();
                let mut quoted = String::new();
                key.chars().for_each(|c| write_json_char(&mut quoted, c));
                out.arguments(&quoted);
                out.arguments("\":");
                out.arguments(&json);
                self.place = Place::Value(value);
            }
            Place::Value(value) => {
                let mut json = String::new();
                let step = value.step(c, &mut json);
                out.arguments(&json);
                match step {
                    Step::More => {}
                    Step::Done => {
                        self.held.clear();
                        self.place = Place::AfterValue;
                    }
                    Step::DoneBefore => {
                        self.place = Place::AfterValue;
                        return self.advance(c, out);
                    }
                    Step::Malformed => return false,
                }
            }
            Place::AfterValue => match c {
                ',' => self.place = Place::BeforeKey(Call::Begun),
                _ => return is_space(c),
            },
            Place::AfterCall => match c {
                ',' => self.place = Place::BeforeName { first: false },
                ']' => self.list_ended(),
                _ => return is_space(c),
            },
            Place::Content => return false,
        }
        true
    }

    /// Adds a character to the name of a tool, or returns false if no call can come of it.
    fn name(&mut self, mut name: String, c: char) -> bool {
        name.push(c);
        let possible =
            self.list_begun || self.tools.iter().any(|tool| tool.name().starts_with(&name));
        self.place = Place::Name(name);
        possible
    }

    /// Looks at the beginning of a tag.
    fn tag(&mut self) -> bool {
        let Place::Before(partial) = &mut self.place else { return false };
        let tags: &[(&str, Option<&str>)] = match self.close {
            None => &[(FENCE, Some(FENCE_END)), (START, Some(END))],
            Some(FENCE_END) => &[(FENCE_END, None)],
            Some(_) => &[(END, None)],
        };
        let Some((tag, close)) = tags.iter().find(|(tag, _)| tag.starts_with(partial.as_str()))
        else {
            return false;
        };
        if *tag == partial.as_str() {
            partial.clear();
            if close.is_none() {
                if !self.close_expected {
                    return false;
                }
                self.held = String::new();
            }
            self.close = *close;
            self.close_expected = false;
        }
        true
    }

    fn call_ended(&mut self, out: &mut Output<'_>) {
        match &mut self.place {
            Place::BeforeKey(Call::New { name }) => {
                out.begin(std::mem::take(name));
                out.arguments("{}");
            }
            _ => out.arguments("}"),
        }
        out.end();
        self.held = String::new();
        self.list_begun = true;
        self.close_expected = self.close.is_some();
        if self.in_list {
            self.place = Place::AfterCall;
        } else {
            self.list_ended();
        }
    }

    fn list_ended(&mut self) {
        self.held = String::new();
        self.after_call = true;
        self.place = Place::Before(String::new());
    }

    /// The text is not a call from this character on.
    fn give_up(&mut self, c: char, out: &mut Output<'_>) {
        if let Place::Value(value) = &self.place {
            out.content(value.held());
        }
        let place = std::mem::replace(&mut self.place, Place::Content);
        if !matches!(place, Place::AfterCall) {
            out.content(&self.held);
        }
        self.held = String::new();
        out.content_char(c);
    }
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}
