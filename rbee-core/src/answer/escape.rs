//! Escapes in strings of JSON and Python.

/// The language of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Json,
    Python,
    /// Python with the escapes of JSON.
    Both,
}

/// Decodes the escapes of one string, character by character.
///
/// An unknown or wrong escape stays as it is, with its backslash. Half of a surrogate pair, or a number that is no
/// character, becomes U+FFFD.
#[derive(Debug)]
pub(super) struct Escapes {
    dialect: Dialect,
    /// The escape that is not complete yet, with its backslash; at most 10 characters, all of them ASCII.
    pending: String,
    /// A high surrogate that waits for its low one.
    high: Option<u32>,
}

impl Escapes {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, pending: String::new(), high: None }
    }

    /// Takes the next character if it belongs to an escape, and returns true if it does. If not, it ends the string or
    /// is [`plain`](Self::plain).
    pub(super) fn take(&mut self, c: char, out: &mut impl FnMut(char)) -> bool {
        match self.pending.as_bytes() {
            [] if c == '\\' => self.pending.push(c),
            [] => return false,
            [_] => self.kind(c, out),
            [_, b'x', ..] => return self.hexadecimal(c, 2, out),
            [_, b'u', ..] => return self.hexadecimal(c, 4, out),
            [_, b'U', ..] => return self.hexadecimal(c, 8, out),
            _ => return self.octal(c, out),
        }
        true
    }

    /// Takes a character that is not part of an escape.
    pub(super) fn plain(&mut self, c: char, out: &mut impl FnMut(char)) {
        self.number(u32::from(c), out);
    }

    /// The string has ended, perhaps inside an escape.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(char)) {
        for c in std::mem::take(&mut self.pending).chars() {
            self.plain(c, out);
        }
        if self.high.take().is_some() {
            out(char::REPLACEMENT_CHARACTER);
        }
    }

    /// The character after the backslash.
    fn kind(&mut self, c: char, out: &mut impl FnMut(char)) {
        let python = self.dialect != Dialect::Json;
        let json = self.dialect != Dialect::Python;
        let decoded = match c {
            'x' | 'U' | '0'..='7' if python => return self.pending.push(c),
            'u' => return self.pending.push(c),
            // The line goes on.
            '\n' if python => return self.pending.clear(),
            'a' if python => '\u{7}',
            'v' if python => '\u{b}',
            '\'' if python => '\'',
            '/' if json => '/',
            '"' | '\\' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            _ => {
                self.plain('\\', out);
                c
            }
        };
        self.pending.clear();
        self.plain(decoded, out);
    }

    fn hexadecimal(&mut self, c: char, digits: usize, out: &mut impl FnMut(char)) -> bool {
        if !c.is_ascii_hexdigit() {
            for c in std::mem::take(&mut self.pending).chars() {
                self.plain(c, out);
            }
            return self.take(c, out);
        }
        self.pending.push(c);
        if self.pending.len() == 2 + digits {
            self.pending_number(2, 16, out);
        }
        true
    }

    fn octal(&mut self, c: char, out: &mut impl FnMut(char)) -> bool {
        if !c.is_digit(8) {
            self.pending_number(1, 8, out);
            return self.take(c, out);
        }
        self.pending.push(c);
        if self.pending.len() == 4 {
            self.pending_number(1, 8, out);
        }
        true
    }

    fn pending_number(&mut self, start: usize, radix: u32, out: &mut impl FnMut(char)) {
        // At most 8 hexadecimal digits, which fit.
        let number = u32::from_str_radix(&self.pending[start..], radix).unwrap_or(u32::MAX);
        self.pending.clear();
        self.number(number, out);
    }

    fn number(&mut self, number: u32, out: &mut impl FnMut(char)) {
        let replaced = |number| char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
        match (self.high.take(), number) {
            (Some(high), 0xdc00..=0xdfff) => {
                out(replaced(0x10000 + ((high - 0xd800) << 10) + (number - 0xdc00)));
            }
            (high, _) => {
                if high.is_some() {
                    out(char::REPLACEMENT_CHARACTER);
                }
                match number {
                    0xd800..=0xdbff => self.high = Some(number),
                    _ => out(replaced(number)),
                }
            }
        }
    }
}

/// Appends a character to a string of JSON.
pub(super) fn write_json_char(json: &mut String, c: char) {
    match c {
        '"' => json.push_str("\\\""),
        '\\' => json.push_str("\\\\"),
        '\n' => json.push_str("\\n"),
        '\r' => json.push_str("\\r"),
        '\t' => json.push_str("\\t"),
        '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => json.push(c),
    }
}
