//! Untrusted text, made safe for a terminal.

use std::{borrow::Cow, fmt::Write as _};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters that control a terminal, or that make text look like other text: control characters, and those that
/// change the writing direction.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A visible symbol for a harmful character.
fn sign_of(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ => '\u{fffd}',
    }
}

/// The text with a symbol in place of each character that could control a terminal. Line ends and tabs stay; carriage
/// returns, which could overwrite a line, are removed.
///
/// ```
/// use rbee_keeper::text::harmless;
///
/// assert_eq!(harmless("a\tb\r\n"), "a\tb\n");
/// assert_eq!(harmless("\x1b]0;title\x07"), "␛]0;title␇");
/// ```
pub fn harmless(text: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\t') || !is_harmful(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let made = text.chars().filter(|c| *c != '\r');
    Cow::Owned(made.map(|c| if stays(c) { c } else { sign_of(c) }).collect())
}

/// The same for a single line, such as a cell of a table: line ends and tabs become symbols too.
pub fn harmless_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_harmful(c) { sign_of(c) } else { c }).collect())
}

/// Equivalent JSON in which the characters are escaped that JSON allows but a terminal interprets.
pub fn json_harmless(json: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\n' || !is_harmful(c);
    if json.chars().all(stays) {
        return Cow::Borrowed(json);
    }
    let mut made = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if stays(c) {
            made.push(c);
        } else {
            // These characters occur only in strings, and all are below U+10000.
            let _ = write!(made, "\\u{:04x}", u32::from(c));
        }
    }
    Cow::Owned(made)
}

/// The place where a text is shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elide {
    /// At its end.
    End,
    /// In its middle, because the beginning and the end matter most.
    Middle,
}

/// The width of the text in columns of a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, shortened to at most this many columns.
///
/// ```
/// use rbee_keeper::text::{Elide, shorten};
///
/// assert_eq!(shorten("abcdefgh", 5, Elide::End), "abcd…");
/// assert_eq!(shorten("abcdefgh", 5, Elide::Middle), "ab…gh");
/// ```
pub fn shorten(text: &str, most: usize, elide: Elide) -> Cow<'_, str> {
    if width(text) <= most {
        return Cow::Borrowed(text);
    }
    let Some(room) = most.checked_sub(1) else { return Cow::Borrowed("") };
    let (head, tail) = match elide {
        Elide::End => (room, 0),
        Elide::Middle => (room - room / 2, room / 2),
    };
    let mut made = String::new();
    made.extend(fitting(text.chars(), head));
    made.push('…');
    let end: Vec<char> = fitting(text.chars().rev(), tail).collect();
    made.extend(end.into_iter().rev());
    Cow::Owned(made)
}

/// The text wrapped between words, so that no line is wider than `most`; a word that is wider stays whole. Continuation
/// lines are indented by two columns more than their line, or by `hang`.
///
/// ```
/// use rbee_keeper::text::wrap;
///
/// assert_eq!(wrap("error: one two three", 12, None), "error: one\n  two three");
/// ```
pub fn wrap(text: &str, most: usize, hang: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let own = line.len() - line.trim_start_matches(' ').len();
        let hang = hang.unwrap_or(own + 2).min(most / 2);
        let mut used = 0;
        // Spaces move with the next word, and stay if no line ends there.
        let mut rest = line;
        while !rest.is_empty() {
            let blank = rest.len() - rest.trim_start_matches(' ').len();
            let end = rest[blank..].find(' ').map_or(rest.len(), |found| blank + found);
            let (chunk, word) = (&rest[..end], &rest[blank..end]);
            if used > own && used + width(chunk) > most {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', hang));
                out.push_str(word);
                used = hang + width(word);
            } else {
                out.push_str(chunk);
                used += width(chunk);
            }
            rest = &rest[end..];
        }
    }
    out
}

/// The first characters that fit into this many columns.
fn fitting(chars: impl Iterator<Item = char>, most: usize) -> impl Iterator<Item = char> {
    let mut used = 0;
    chars.take_while(move |c| {
        used += c.width().unwrap_or(0);
        used <= most
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_survives_but_line_ends_and_tabs() {
        let all: String = (0..0x2100).filter_map(char::from_u32).collect();
        let controls = |text: &str| text.chars().filter(|c| c.is_control()).collect::<String>();
        assert_eq!(controls(&harmless(&all)), "\t\n");
        assert_eq!(controls(&harmless_line(&all)), "");
        assert!(!harmless("\u{202e}gnp.exe").contains('\u{202e}'));
        assert_eq!(harmless("née 蜂 🐝"), "née 蜂 🐝");
    }

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({"a\u{9b}": "x\u{7f}\u{85}\u{202e}\x1b[2J\n蜂"});
        for written in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let made = json_harmless(&written);
            assert!(!made.chars().any(|c| c != '\n' && is_harmful(c)), "{made:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&made).unwrap(), value);
        }
    }

    #[test]
    fn wrapped_lines_fit_and_lose_no_word() {
        let text = "error: a sentence that is longer than the line\n  a hint of several words\n\nend  of it";
        for most in 12..80 {
            let made = wrap(text, most, None);
            assert!(made.lines().all(|line| width(line) <= most), "{most}: {made}");
            assert!(made.split_whitespace().eq(text.split_whitespace()));
        }
        assert_eq!(wrap(text, 200, None), text);
        assert_eq!(wrap("  ok  check: one two", 15, Some(6)), "  ok  check:\n      one two");
        assert_eq!(wrap("unbreakable-word", 5, None), "unbreakable-word");
    }

    #[test]
    fn a_shortened_text_fits_also_where_characters_are_wide() {
        let text = "蜂蜂蜂蜂 né\u{301}e 🐝🐝";
        for most in 0..20 {
            for elide in [Elide::End, Elide::Middle] {
                assert!(width(&shorten(text, most, elide)) <= most);
            }
        }
    }
}
