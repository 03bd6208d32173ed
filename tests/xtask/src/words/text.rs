//! A text split into names and prose, each word with its line.

/// A word and its line, beginning with 1. An empty word ends a sentence or a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Word<'a> {
    pub(super) line: usize,
    pub(super) text: &'a str,
}

/// The words of a file.
#[derive(Debug, Default)]
pub(super) struct Words<'a> {
    /// Identifiers, and what comments have in backticks.
    pub(super) names: Vec<Word<'a>>,
    /// Comments, string literals, and pages.
    pub(super) prose: Vec<Word<'a>>,
}

impl<'a> Words<'a> {
    /// Reads a Markdown page.
    pub(super) fn of_page(text: &'a str) -> Self {
        let mut words = Self::default();
        words.add_prose(text, 1, true);
        words
    }

    /// Reads Rust code.
    pub(super) fn of_code(text: &'a str) -> Self {
        let mut words = Self::default();
        let bytes = text.as_bytes();
        let (mut at, mut line) = (0, 1);
        let mut last_comment = 0;
        while at < bytes.len() {
            let rest = &text[at..];
            let (length, kind) = token(rest);
            let piece = &rest[..length];
            match kind {
                Kind::Name => words.names.push(Word { line, text: piece }),
                Kind::Comment => {
                    // Comments of consecutive lines are one text.
                    if line != last_comment + 1 {
                        words.end_sentence(line);
                    }
                    words.add_prose(piece, line, true);
                    last_comment = line;
                }
                Kind::Text => {
                    words.end_sentence(line);
                    let prefix = piece.find('"').unwrap_or(0);
                    words.add_prose(&piece[prefix..], line, false);
                    words.end_sentence(line);
                }
                Kind::Other => {}
            }
            line += piece.bytes().filter(|byte| *byte == b'\n').count();
            at += length;
        }
        words
    }

    fn end_sentence(&mut self, line: usize) {
        self.prose.push(Word { line, text: "" });
    }

    fn add_prose(&mut self, text: &'a str, mut line: usize, has_code: bool) {
        let (mut begin, mut in_code) = (None, false);
        for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
            let in_word = character.is_alphanumeric() || character == '_';
            match (in_word, begin) {
                (true, None) => begin = Some(at),
                (false, Some(first)) => {
                    let word = Word { line, text: &text[first..at] };
                    self.prose.push(word);
                    if in_code && has_code {
                        self.names.push(word);
                    }
                    begin = None;
                }
                _ => {}
            }
            match character {
                '\n' => line += 1,
                '`' => in_code = !in_code,
                '.' | ';' | ':' | '|' | '?' | '!' => self.end_sentence(line),
                _ => {}
            }
        }
    }
}

enum Kind {
    Name,
    Comment,
    Text,
    Other,
}

/// The length and the kind of the first token.
fn token(rest: &str) -> (usize, Kind) {
    let bytes = rest.as_bytes();
    match bytes[0] {
        b'/' if bytes.get(1) == Some(&b'/') => {
            (rest.find('\n').unwrap_or(rest.len()), Kind::Comment)
        }
        b'/' if bytes.get(1) == Some(&b'*') => (block_comment(bytes), Kind::Comment),
        b'"' => (quoted(bytes, 0), Kind::Text),
        b'\'' => (character(rest), Kind::Other),
        first if first.is_ascii_alphabetic() || first == b'_' => {
            let length = bytes.iter().take_while(|byte| is_name(**byte)).count();
            match (&rest[..length], bytes.get(length)) {
                ("b" | "c", Some(b'"')) => (quoted(bytes, length), Kind::Text),
                ("r" | "br" | "cr", Some(b'"' | b'#')) => match raw(rest, length) {
                    Some(end) => (end, Kind::Text),
                    None => (length, Kind::Name),
                },
                _ => (length, Kind::Name),
            }
        }
        first if first.is_ascii_digit() => {
            (bytes.iter().take_while(|byte| is_name(**byte)).count(), Kind::Other)
        }
        _ => (rest.chars().next().map_or(1, char::len_utf8), Kind::Other),
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

/// The end of a string whose quote is at `quote`.
fn quoted(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a raw string whose quote or first `#` is at `start`. `None` for a raw name such as `r#type`.
fn raw(rest: &str, start: usize) -> Option<usize> {
    let hashes = rest[start..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + hashes;
    if rest.as_bytes().get(open) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = rest[open + 1..].find(&close).map(|end| open + 1 + end + close.len());
    Some(end.unwrap_or(rest.len()))
}

/// The length of a character, or of the `'` of a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |end| end + 4),
        Some(_) => match characters.next() {
            Some((end, '\'')) => end + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[Word<'_>]) -> String {
        let shown: Vec<String> =
            words.iter().map(|word| format!("{}:{}", word.line, word.text)).collect();
        shown.join(" ")
    }

    #[test]
    fn code_is_told_from_comments_and_literals() {
        let words = Words::of_code(
            "fn a<'b>(c: &'b str) {\n// passed\n// over, `Dice`\n/* x /* y */ z */ '\"'; '\\''; \"in \\\" it\" r#\"ra\"w\"# r#type }",
        );
        assert_eq!(shown(&words.names), "1:fn 1:a 1:b 1:c 1:b 1:str 3:Dice 4:r 4:type");
        assert_eq!(
            shown(&words.prose),
            "2: 2:passed 3:over 3:Dice 4:x 4:y 4:z 4: 4:in 4:it 4: 4: 4:ra 4:w 4:"
        );
    }

    #[test]
    fn a_page_is_prose_with_names_in_backticks() {
        let words = Words::of_page("One `Dice` rolls.\nThen another");
        assert_eq!(shown(&words.names), "1:Dice");
        assert_eq!(shown(&words.prose), "1:One 1:Dice 1:rolls 1: 2:Then 2:another");
    }
}
