//! Grammars in Lark's language: the checks of a client's text, and the spelling of texts in generated ones.

use llguidance::regex_to_lark;

use super::{error::Error, limits};

/// Attributes of a rule that would change more than the text, or need to take tokens back.
const REFUSED_ATTRIBUTES: [&str; 4] = ["max_tokens", "stop", "stop_capture", "temperature"];

/// Directives that nest another grammar, with the reason of their refusal.
const REFUSED_DIRECTIVES: [(&str, &str); 2] = [
    ("%json", "use a JSON schema or structural tags for JSON"),
    ("%lark", "write its rules into the grammar itself"),
];

/// Checks a client's grammar before the library reads it: nesting, size, and what is refused.
pub(super) fn check(text: &str) -> Result<(), Error> {
    let mut depth = 0_usize;
    // The deepest nesting in this definition, and the sum for all.
    let (mut deepest, mut levels) = (0, 0);
    let mut conjunctions = 0;
    for (line, token) in Scanner::new(text) {
        match token {
            Part::Open => {
                depth += 1;
                levels += depth.saturating_sub(deepest);
                deepest = deepest.max(depth);
            }
            Part::Close => depth = depth.saturating_sub(1),
            Part::Colon => {
                levels += 1;
                deepest = depth;
            }
            Part::And => {
                conjunctions += 1;
                let most = limits::MAX_LARK_CONJUNCTIONS;
                if conjunctions > most {
                    return Err(Error::too_complex(format!(
                        "the Lark grammar has more than {most} & up to line {line}; allowed are {most}"
                    )));
                }
            }
            Part::Attribute(name) if REFUSED_ATTRIBUTES.contains(&name) => {
                return Err(Error::invalid(format!(
                    "the Lark grammar has attribute {name} in line {line}, which is not supported; leave it out"
                )));
            }
            Part::Directive(text) => {
                let refused = REFUSED_DIRECTIVES.iter().find(|(name, _)| text.starts_with(name));
                if let Some((name, advice)) = refused {
                    return Err(Error::invalid(format!(
                        "the Lark grammar has {name} in line {line}, which is not supported; {advice}"
                    )));
                }
            }
            Part::Negations(count) if count > 1 => {
                return Err(Error::invalid(format!(
                    "the Lark grammar has {count} negations in a row in line {line}; allowed is one"
                )));
            }
            Part::Attribute(_) | Part::Negations(_) => {}
        }
        if depth > limits::MAX_LARK_DEPTH {
            let most = limits::MAX_LARK_DEPTH;
            return Err(Error::too_complex(format!(
                "the Lark grammar nests more than {most} brackets in line {line}; give the inner parts rules of their own"
            )));
        }
    }
    if levels > limits::MAX_LARK_LEVELS {
        return Err(Error::too_complex(format!(
            "the Lark grammar has {levels} rules and levels of brackets in them; allowed are {}",
            limits::MAX_LARK_LEVELS
        )));
    }
    Ok(())
}

/// A grammar for texts that a regular expression matches as a whole.
pub(super) fn whole_regex(pattern: &str) -> Result<String, Error> {
    if pattern.is_empty() {
        return Err(Error::invalid(
            "the regular expression is empty; allowed is at least 1 character",
        ));
    }
    let backslashes = pattern.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 {
        return Err(Error::invalid("the regular expression ends in a single backslash"));
    }
    Ok(format!("start: /{}/\n", regex_to_lark(pattern, "")))
}

/// A terminal for exactly this text.
pub(super) fn quoted(text: &str) -> String {
    // A terminal in the language's own strings cannot have every character; an expression can.
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('/');
    quoted.push_str(&escaped(text));
    quoted.push('/');
    quoted
}

/// A regular expression, for use between slashes, that matches exactly this text.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | ' ' => escaped.push(character),
            // By number, so no character has a meaning.
            _ => escaped.push_str(&format!("\\x{{{:x}}}", u32::from(character))),
        }
    }
    escaped
}

/// The parts of a grammar's text that the checks need.
enum Part<'a> {
    Open,
    Close,
    Colon,
    And,
    /// A word before an equals sign.
    Attribute(&'a str),
    /// A word that begins with a percent sign.
    Directive(&'a str),
    /// So many `~` with nothing but white space between them.
    Negations(usize),
}

/// Splits a grammar as the library does: comments, strings and regular expressions are left out.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Removes this many bytes from the front.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// Removes a string or a regular expression. One without an end is an error that the library reports.
    fn skip_quoted(&mut self, quote: char) {
        let mut is_escaped = true;
        let end = self.rest.char_indices().find(|(_, character)| {
            let is_end = *character == quote && !is_escaped;
            is_escaped = *character == '\\' && !is_escaped;
            is_end
        });
        self.skip(end.map_or(self.rest.len(), |(at, _)| at + quote.len_utf8()));
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = (usize, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let first = self.rest.chars().next()?;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
            match first {
                '#' | '/' if first == '#' || self.rest.starts_with("//") => {
                    self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
                }
                '"' | '/' => self.skip_quoted(first),
                '(' | '[' | '{' => {
                    self.skip(1);
                    return Some((self.line, Part::Open));
                }
                ')' | ']' | '}' => {
                    self.skip(1);
                    return Some((self.line, Part::Close));
                }
                ':' => {
                    self.skip(1);
                    return Some((self.line, Part::Colon));
                }
                '&' => {
                    self.skip(1);
                    return Some((self.line, Part::And));
                }
                '%' => {
                    let line = self.line;
                    let length = 1 + word(&self.rest[1..]);
                    return Some((line, Part::Directive(self.skip(length))));
                }
                '~' => {
                    let is_part = |c: char| c == '~' || c.is_whitespace();
                    let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                    let line = self.line;
                    let count = self.skip(length).matches('~').count();
                    return Some((line, Part::Negations(count)));
                }
                c if is_word(c) => {
                    let line = self.line;
                    let length = word(self.rest);
                    let name = self.skip(length);
                    if self.rest.trim_start().starts_with('=') {
                        return Some((line, Part::Attribute(name)));
                    }
                }
                other => {
                    self.skip(other.len_utf8());
                }
            }
        }
    }
}
