//! The tokens of a tag.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Space,
    Name,
    Text,
    Number,
    Operator,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

/// The first token of a text that is not empty.
pub(super) fn lex(text: &str) -> Token<'_> {
    let first = text.chars().next().unwrap_or(' ');
    let run = |kind, is: &dyn Fn(char) -> bool| {
        let end = text.find(|c| !is(c)).unwrap_or(text.len());
        Token { kind, text: &text[..end] }
    };
    if first.is_whitespace() {
        return run(Kind::Space, &char::is_whitespace);
    }
    if first.is_alphabetic() || first == '_' {
        return run(Kind::Name, &|c| c.is_alphanumeric() || c == '_');
    }
    if first.is_ascii_digit() {
        return Token { kind: Kind::Number, text: &text[..number_end(text)] };
    }
    if matches!(first, '\'' | '"') {
        let mut escaped = false;
        for (at, character) in text.char_indices().skip(1) {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == first => return Token { kind: Kind::Text, text: &text[..=at] },
                _ => {}
            }
        }
        return Token { kind: Kind::Text, text };
    }
    let long = ["//", "**", "==", "!=", ">=", "<="];
    let length = if long.iter().any(|long| text.starts_with(long)) { 2 } else { first.len_utf8() };
    Token { kind: Kind::Operator, text: &text[..length] }
}

fn number_end(text: &str) -> usize {
    let digits =
        |text: &str| text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    if let Some('x' | 'X' | 'o' | 'O' | 'b' | 'B') =
        text.chars().nth(1).filter(|_| text.starts_with('0'))
    {
        return text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    }
    let mut end = digits(text);
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end += 1 + digits(&text[end + 1..]);
    }
    if text[end..].starts_with(['e', 'E']) {
        let exponent = &text[end + 1..];
        let sign = usize::from(exponent.starts_with(['-', '+']));
        let count = digits(&exponent[sign..]);
        end += if count > 0 { 1 + sign + count } else { 0 };
    }
    end
}
