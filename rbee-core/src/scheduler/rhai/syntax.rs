//! The structure of a script, as far as the checks at load need it: functions, calls and closures.

use std::ops::Range;

use super::{
    engine::MOST_FUNCTIONS,
    tokens::{Kind, Token},
};

/// Words that can be followed by a bracket and are not calls.
pub(super) const KEYWORDS: &[&str] = &[
    "if", "else", "while", "until", "loop", "for", "in", "switch", "return", "throw", "catch",
    "try", "do", "let", "const", "fn", "private", "global", "true", "false", "break", "continue",
    "as", "_",
];

/// A function that the script declares.
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Vec<&'a str>,
    /// Its range in the text, in bytes.
    pub(super) range: Range<usize>,
    /// The range of its body in the text, with the braces.
    pub(super) body: Range<usize>,
    /// The indexes of its first and last token: its name, and its closing brace.
    pub(super) from: usize,
    pub(super) to: usize,
}

pub(super) fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let heads = tokens
        .windows(3)
        .enumerate()
        .filter(|(_, head)| head[0].is("fn") && head[1].kind == Kind::Word && head[2].is("("));
    let mut functions: Vec<Function<'a>> = Vec::new();
    for (index, head) in heads {
        // The language refuses more of them.
        if functions.len() > MOST_FUNCTIONS {
            break;
        }
        // A function inside a function is not allowed; the language reports it.
        if functions.last().is_some_and(|last| last.to > index) {
            continue;
        }
        let last = tokens[index + 2].close;
        let open = (last + 1..tokens.len()).find(|at| tokens[*at].is("{")).unwrap_or(last);
        let close = tokens[open].close;
        let end = tokens[close].start + tokens[close].text.len();
        let words = tokens[index + 3..last.max(index + 3)].iter();
        functions.push(Function {
            name: head[1].text,
            parameters: words.filter(|t| t.kind == Kind::Word).map(|t| t.text).collect(),
            range: head[0].start..end,
            body: tokens[open].start..end,
            from: index + 1,
            to: close,
        });
    }
    functions
}

/// The number of values between the brackets that open here.
pub(super) fn values(tokens: &[Token<'_>], open: usize) -> usize {
    let close = tokens[open].close;
    let (mut commas, mut any, mut index) = (0, false, open + 1);
    while index < close {
        let token = &tokens[index];
        match token.text {
            _ if token.kind != Kind::Sign => {}
            // The commas between the bars of a closure do not count.
            "|" if opens_closure(tokens, index) => {
                index = (index + 1..close).find(|at| tokens[*at].is("|")).unwrap_or(close);
            }
            "," => commas += usize::from(index + 1 < close),
            // The contents of other brackets do not count.
            _ => index = token.close,
        }
        any = true;
        index += 1;
    }
    if any { commas + 1 } else { 0 }
}

pub(super) fn opens_closure(tokens: &[Token<'_>], index: usize) -> bool {
    let Some(before) = index.checked_sub(1).map(|index| &tokens[index]) else { return true };
    let is_value = match before.kind {
        Kind::Literal => true,
        Kind::Word => !KEYWORDS.contains(&before.text),
        Kind::Sign => matches!(before.text, ")" | "]" | "}"),
    };
    !is_value
}

pub(super) fn is_method(tokens: &[Token<'_>], index: usize) -> bool {
    index > 0 && (tokens[index - 1].is(".") || tokens[index - 1].is("?."))
}

pub(super) fn is_called(tokens: &[Token<'_>], index: usize) -> bool {
    tokens.get(index + 1).is_some_and(|next| next.is("("))
}
