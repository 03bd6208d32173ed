//! A script as tokens with their positions: as much as is needed for the checks that the language itself makes only
//! when a line runs.

use super::faults::{At, script};
use crate::error::Result;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Sign,
    /// A number, a text or a character.
    Literal,
}

/// A token of the script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: At,
    /// Its offset in the text, in bytes.
    pub(super) start: usize,
    /// The index of the token that closes this bracket, or of the last token if none does; for any other token, its own
    /// index.
    pub(super) close: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// Signs of several characters, the longer ones first.
const SIGNS: &[&str] = &[
    "<<=", ">>=", "**=", "..=", "??", "?.", "?[", "||", "&&", "==", "!=", "<=", ">=", "=>", "+=",
    "-=", "*=", "/=", "%=", "|=", "&=", "^=", "..", "::", "**", "<<", ">>",
];

/// Reads the whole script. What is not valid is left to the parser of the language, which reports it.
pub(super) fn read(text: &str) -> Result<Vec<Token<'_>>> {
    let mut reader = Reader { text, offset: 0, at: At { line: 1, column: 1 }, tokens: Vec::new() };
    reader.code(0)?;
    let mut tokens = reader.tokens;
    match_brackets(&mut tokens);
    Ok(tokens)
}

/// Finds the closing bracket of each opening one, in one pass: a search for each one would take the square of the
/// length.
fn match_brackets(tokens: &mut [Token<'_>]) {
    let mut open = Vec::new();
    for index in 0..tokens.len() {
        tokens[index].close = index;
        match tokens[index].text {
            _ if tokens[index].kind != Kind::Sign => {}
            "(" | "[" | "?[" | "{" | "#{" => open.push(index),
            ")" | "]" | "}" => {
                if let Some(open) = open.pop() {
                    tokens[open].close = index;
                }
            }
            _ => {}
        }
    }
    for open in open {
        tokens[open].close = tokens.len() - 1;
    }
}

/// The most texts with code inside one another.
const MOST_DEPTH: usize = 8;

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    at: At,
    tokens: Vec<Token<'a>>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.next()?;
        self.offset += next.len_utf8();
        if next == '\n' {
            self.at = At { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    fn while_next(&mut self, test: impl Fn(char) -> bool) {
        while self.next().is_some_and(&test) {
            self.bump();
        }
    }

    fn push(&mut self, kind: Kind, start: usize, at: At) {
        self.put(kind, &self.text[start..self.offset], start, at);
    }

    fn put(&mut self, kind: Kind, text: &'a str, start: usize, at: At) {
        self.tokens.push(Token { kind, text, at, start, close: 0 });
    }

    /// Reads code to the end; inside a text, to the closing brace.
    fn code(&mut self, depth: usize) -> Result<()> {
        let mut braces = 0usize;
        while let Some(next) = self.next() {
            let (start, at) = (self.offset, self.at);
            match next {
                _ if next.is_whitespace() => {
                    self.bump();
                }
                // The language ends a line at either.
                _ if self.rest().starts_with("//") => self.while_next(|c| c != '\n' && c != '\r'),
                _ if self.rest().starts_with("/*") => self.comment(),
                'a'..='z' | 'A'..='Z' | '_' => {
                    self.while_next(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
                    self.push(Kind::Word, start, at);
                }
                '0'..='9' => {
                    self.number();
                    self.push(Kind::Literal, start, at);
                }
                '"' | '\'' => {
                    self.quoted(next);
                    self.push(Kind::Literal, start, at);
                }
                '#' => {
                    let hashes = self.rest().bytes().take_while(|byte| *byte == b'#').count();
                    match self.rest().as_bytes().get(hashes) {
                        Some(b'"') => {
                            self.raw(hashes);
                            self.push(Kind::Literal, start, at);
                        }
                        Some(b'{') if hashes == 1 => {
                            self.skip(2);
                            braces += 1;
                            self.push(Kind::Sign, start, at);
                        }
                        _ => {
                            self.skip(hashes);
                            self.push(Kind::Sign, start, at);
                        }
                    }
                }
                '`' => {
                    if depth == MOST_DEPTH {
                        return Err(script(at, "texts with code in them are nested too deeply"));
                    }
                    // The token of the text comes before those of its code, so that the code does not look like
                    // arguments of the word before it.
                    self.put(Kind::Literal, "``", start, at);
                    self.template(depth)?;
                }
                '}' if depth > 0 && braces == 0 => return Ok(()),
                _ => {
                    let sign = SIGNS.iter().find(|sign| self.rest().starts_with(**sign));
                    self.skip(sign.map_or(1, |sign| sign.len()));
                    let text = &self.text[start..self.offset];
                    braces += usize::from(text.ends_with('{'));
                    braces = braces.saturating_sub(usize::from(text == "}"));
                    self.push(Kind::Sign, start, at);
                }
            }
        }
        Ok(())
    }

    fn comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else if self.bump().is_none() {
                return;
            }
        }
    }

    fn number(&mut self) {
        self.while_next(|c| c.is_ascii_alphanumeric() || c == '_');
        // `1.5` is one number; `1..5` and `1.max(2)` are not.
        let mut rest = self.rest().chars();
        if rest.next() == Some('.') && rest.next().is_some_and(|c| c.is_ascii_digit()) {
            self.bump();
            self.while_next(|c| c.is_ascii_alphanumeric() || c == '_');
        }
    }

    fn quoted(&mut self, quote: char) {
        self.bump();
        while let Some(next) = self.bump() {
            match next {
                '\\' => {
                    self.bump();
                }
                _ if next == quote => return,
                _ => {}
            }
        }
    }

    /// `#"…"#`, with any number of `#`.
    fn raw(&mut self, hashes: usize) {
        self.skip(hashes + 1);
        let end = format!("\"{}", "#".repeat(hashes));
        while !self.rest().starts_with(&end) {
            if self.bump().is_none() {
                return;
            }
        }
        self.skip(hashes + 1);
    }

    fn template(&mut self, depth: usize) -> Result<()> {
        self.bump();
        loop {
            if self.rest().starts_with("${") {
                let (at, start) = (self.at, self.offset);
                self.skip(2);
                self.put(Kind::Sign, "(", start, at);
                self.code(depth + 1)?;
                let (at, start) = (self.at, self.offset);
                self.put(Kind::Sign, ")", start, at);
                self.bump();
            } else {
                match self.bump() {
                    Some('`') | None => return Ok(()),
                    Some(_) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        read(text).unwrap().iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r#"a("b \" c", 'd')"#), ["a", "(", r#""b \" c""#, ",", "'d'", ")"]);
        assert_eq!(words(r##"#"say "hi""# x"##), [r##"#"say "hi""#"##, "x"]);
        assert_eq!(
            words("`one ${two({3})} four` five"),
            ["``", "(", "two", "(", "{", "3", "}", ")", ")", "five"]
        );
        assert_eq!(words("1.5 1..5 a??b"), ["1.5", "1", "..", "5", "a", "??", "b"]);
        assert_eq!(words("a // b\rc\r\nd"), ["a", "c", "d"], "a line ends as the language ends it");
        assert_eq!(
            words("#{a: `${#{b: 1}}`}"),
            ["#{", "a", ":", "``", "(", "#{", "b", ":", "1", "}", ")", "}"]
        );
    }

    #[test]
    fn brackets_know_what_closes_them() {
        let closes = |text: &str| -> Vec<usize> {
            read(text).unwrap().iter().map(|token| token.close).collect()
        };
        assert_eq!(closes("f(a[1], {})"), [0, 9, 2, 5, 4, 5, 6, 8, 8, 9]);
        assert_eq!(closes("( [ a"), [2, 2, 2]);
        assert_eq!(closes(") a"), [0, 1]);
    }

    #[test]
    fn whatever_breaks_off_ends() {
        for text in ["\"a", "`a ${b", "/* a", "#\"a", "'", "`${`${`${", "\\", "é", "#", "##"] {
            let _ = read(text);
        }
    }
}
