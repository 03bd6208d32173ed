//! Calls in tags of XML, each parameter in a tag of its own, as in the [syntax](XmlSyntax) of Qwen:
//!
//! ```text
//! <tool_call>
//! <function=f>
//! <parameter=a>
//! 1
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! The arguments are given out as JSON; the schema of the tool decides which JSON a [value](value) is. The tag that
//! opens the part with calls may be absent: then the tool must be known. White space around tags is dropped,
//! and in a syntax with values on lines of their own one line break before and after a value. A value ends only if the
//! right tags follow it, so it can have the closing tag as text.

pub(crate) mod syntax;
mod value;

use self::{
    syntax::{Ending, Next, XmlSyntax},
    value::ParameterValue,
};
use super::{
    escape::write_json_char,
    json::is_space,
    output::Output,
    text::{Text, hold},
};
use crate::chat::callable::{CallableTool, ValueTypes};

/// The longest key, in bytes.
const MAX_KEY: usize = 1_024;

/// The most bytes from the tag that closes a value to the end of the next one. With more white space they are text.
const MAX_ENDING: usize = 128;

/// The parser of this format.
#[derive(Debug)]
pub(super) struct XmlCalls {
    syntax: &'static XmlSyntax,
    tools: Vec<CallableTool>,
    place: Place,
    /// The text since the last content or call, which is content if no call follows.
    held: String,
    /// True after a call until the part with calls is closed.
    inside: bool,
    /// True if the tag that opens the part with calls is directly before the current call.
    opened: bool,
    /// The name of the tool of the current call.
    name: String,
    /// True if the current call has begun.
    begun: bool,
}

#[derive(Debug)]
enum Place {
    Text(Text),
    /// After the tag that opens the part with calls: white space and the beginning of a tag.
    BeforeName(String),
    Name(String),
    /// In a call, between parameters: white space and the beginning of a tag.
    BeforeKey(String),
    Key(String),
    /// After a key: white space and the beginning of a tag.
    BeforeValue {
        key: String,
        partial: String,
    },
    Value(Value),
}

/// A value with the text around it.
#[derive(Debug)]
struct Value {
    value: ParameterValue,
    /// True before the first character.
    first: bool,
    /// True if the value is on lines of its own.
    own_lines: bool,
    /// True after a line break that may be the last one.
    line_break: bool,
    /// The text from a `<` on that may end the value.
    ending: String,
}

impl XmlCalls {
    pub(super) fn new(syntax: &'static XmlSyntax, tools: Vec<CallableTool>) -> Self {
        Self {
            syntax,
            tools,
            place: Place::Text(Text::default()),
            held: String::new(),
            inside: false,
            opened: false,
            name: String::new(),
            begun: false,
        }
    }

    pub(super) fn step(&mut self, c: char, out: &mut Output<'_>) {
        match &mut self.place {
            Place::Text(text) => {
                let XmlSyntax { open, close, name_open, .. } = *self.syntax;
                let close = if self.inside { close } else { "" };
                let Some(found) = text.step(c, &[open, close, name_open], out) else { return };
                if found == 1 {
                    self.inside = false;
                    return;
                }
                self.opened = found == 0;
                self.held = text.take_space() + if found == 0 { open } else { name_open };
                self.begun = false;
                self.place = match found {
                    0 => Place::BeforeName(String::new()),
                    _ => Place::Name(String::new()),
                };
            }
            Place::Value(_) => self.value(c, out),
            _ => {
                if !self.between(c, out) {
                    return self.give_up(c, out);
                }
                let is_header = !matches!(self.place, Place::Text(_) | Place::Value(_));
                if self.begun || !is_header {
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
            Place::Value(value) => {
                let is_closed = value.ending.starts_with(self.syntax.value_close);
                if !is_closed {
                    value.value.cut_off(out);
                } else {
                    value.value.end(out);
                }
            }
            _ => out.content(&self.held),
        }
    }

    /// Takes a character outside of text and values, or returns false if it does not belong there.
    fn between(&mut self, c: char, out: &mut Output<'_>) -> bool {
        let XmlSyntax { name_open, name_close, key_close, value_open, .. } = *self.syntax;
        match &mut self.place {
            Place::BeforeName(partial)
            | Place::BeforeKey(partial)
            | Place::BeforeValue { partial, .. }
                if partial.is_empty() && is_space(c) => {}
            Place::BeforeName(partial) => {
                if name_open.is_empty() {
                    self.place = Place::Name(c.into());
                    return is_name(c);
                }
                partial.push(c);
                if partial == name_open {
                    self.place = Place::Name(String::new());
                } else {
                    return name_open.starts_with(partial.as_str());
                }
            }
            Place::Name(name) if name_close.is_empty() => {
                if is_name(c) {
                    name.push(c);
                    return true;
                }
                let name = std::mem::take(name);
                return self.named(name) && self.between(c, out);
            }
            Place::Name(name) => {
                name.push(c);
                if let Some(whole) = name.strip_suffix(name_close) {
                    let whole = whole.to_owned();
                    return self.named(whole);
                }
                return is_name(c) || name_close.contains(c);
            }
            Place::BeforeKey(partial) => {
                partial.push(c);
                let found = self.syntax.after_parameter().find(|(tag, _)| tag == partial);
                match found {
                    Some((_, next)) => self.next(next, out),
                    None => {
                        let mut tags = self.syntax.after_parameter();
                        return tags.any(|(tag, _)| tag.starts_with(partial.as_str()));
                    }
                }
            }
            Place::Key(key) => {
                key.push(c);
                let Some(whole) = key.strip_suffix(key_close) else { return key.len() <= MAX_KEY };
                let key = whole.trim_matches(is_space).to_owned();
                if key.is_empty() {
                    return false;
                }
                if value_open.is_empty() {
                    self.begin_value(&key, out);
                } else {
                    self.place = Place::BeforeValue { key, partial: String::new() };
                }
            }
            Place::BeforeValue { key, partial } => {
                partial.push(c);
                if partial != value_open {
                    return value_open.starts_with(partial.as_str());
                }
                let key = std::mem::take(key);
                self.begin_value(&key, out);
            }
            Place::Text(_) | Place::Value(_) => return false,
        }
        true
    }

    /// The name of the tool is complete. Outside of the part with calls it must be known.
    fn named(&mut self, name: String) -> bool {
        let is_known = || self.tools.iter().any(|tool| tool.name() == name);
        let is_call = name.chars().all(is_name)
            && !name.is_empty()
            && (self.opened || self.inside || is_known());
        self.name = name;
        self.place = Place::BeforeKey(String::new());
        is_call
    }

    fn begin_value(&mut self, key: &str, out: &mut Output<'_>) {
        self.begin(out);
        let mut quoted = String::from(if self.begun { ",\"" } else { "{\"" });
        key.chars().for_each(|c| write_json_char(&mut quoted, c));
        out.arguments(&(quoted + "\":"));
        self.begun = true;
        self.inside = true;
        let tool = self.tools.iter().find(|tool| tool.name() == self.name);
        let types = tool.map_or(ValueTypes::ANY, |tool| tool.types(key));
        self.place = Place::Value(Value {
            value: ParameterValue::new(types),
            first: true,
            own_lines: false,
            line_break: false,
            ending: String::new(),
        });
    }

    /// Begins the call if it has not begun.
    fn begin(&self, out: &mut Output<'_>) {
        if !self.begun {
            out.begin(self.name.clone());
        }
    }

    /// A parameter has ended, or the call has none.
    fn next(&mut self, next: Next, out: &mut Output<'_>) {
        if next == Next::Key {
            self.place = Place::Key(String::new());
            return;
        }
        self.begin(out);
        out.arguments(if self.begun { "}" } else { "{}" });
        out.end();
        // A part with calls that was not opened can still be closed.
        self.inside = next == Next::CallEnd;
        self.place = Place::Text(Text::after_call(String::new()));
    }

    /// A character of a value, or of the tags after it.
    fn value(&mut self, c: char, out: &mut Output<'_>) {
        let Place::Value(value) = &mut self.place else { return self.step(c, out) };
        if value.ending.is_empty() && c != '<' {
            if !value.step(c, self.syntax.own_lines, out) {
                self.give_up(c, out);
            }
            return;
        }
        value.ending.push(c);
        let is_long = value.ending.len() > MAX_ENDING;
        match self.syntax.ending(&value.ending) {
            Ending::MayBe if !is_long => {}
            Ending::Is(next) => {
                let place = std::mem::replace(&mut self.place, Place::BeforeKey(String::new()));
                let Place::Value(value) = place else { return };
                if value.value.end(out) {
                    self.next(next, out);
                } else {
                    self.place = Place::Text(Text::inside());
                    out.content(&value.ending);
                }
            }
            Ending::MayBe | Ending::No => {
                // No tag begins with this character; one may begin with a later one. There are few of them.
                let text = std::mem::take(&mut value.ending);
                if !value.step('<', self.syntax.own_lines, out) {
                    self.give_up('<', out);
                }
                text.chars().skip(1).for_each(|c| self.step(c, out));
            }
        }
    }

    /// The text is not a call from this character on.
    fn give_up(&mut self, c: char, out: &mut Output<'_>) {
        let place = std::mem::replace(&mut self.place, Place::Text(Text::inside()));
        if let Place::Value(value) = &place {
            out.content(value.value.held());
        }
        let partial = match place {
            Place::BeforeName(partial)
            | Place::BeforeKey(partial)
            | Place::BeforeValue { partial, .. } => partial,
            _ => String::new(),
        };
        // What may be the beginning of another tag is looked at again. If there is such a text, this character ends it.
        let partial = partial.strip_suffix(c).unwrap_or_default();
        let mut held = std::mem::take(&mut self.held);
        if held.ends_with(partial) {
            held.truncate(held.len() - partial.len());
        }
        out.content(&held);
        partial.chars().chain([c]).for_each(|c| self.step(c, out));
    }
}

impl Value {
    /// Takes a character of the value without the line breaks around it, or returns false if it is malformed.
    fn step(&mut self, c: char, may_have_own_lines: bool, out: &mut Output<'_>) -> bool {
        if std::mem::replace(&mut self.first, false) && may_have_own_lines && c == '\n' {
            self.own_lines = true;
            return true;
        }
        if std::mem::replace(&mut self.line_break, false) && !self.value.step('\n', out) {
            return false;
        }
        if self.own_lines && c == '\n' {
            self.line_break = true;
            return true;
        }
        self.value.step(c, out)
    }
}

/// True if the name of a tool can have this character.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}
