//! What can be said of a script before it is run: names that do not exist, wrong numbers of values, words that a policy
//! must not use, and closures that are kept.
//!
//! The language looks names up when it runs a line, so that a wrong one would come to light with the first job that
//! leads there.

use std::ops::Range;

use super::{
    book::Contents,
    engine::{FORBIDDEN, MOST_FUNCTIONS},
    faults::{Fault, script},
    tokens::{Kind, Token},
};
use crate::Result;

mod closures;
mod names;

/// Bytes of a script.
const MOST_BYTES: usize = 64 * 1024;

/// Blocks and statements of a script: the language takes the square of their number to simplify them.
const MOST_BLOCKS: usize = 2_000;
const MOST_STATEMENTS: usize = 5_000;
/// `switch` inside one another: for each more, the language takes twice as long to simplify them.
const MOST_SWITCHES: usize = 4;

/// Words with a bracket after them that are no calls.
const KEYWORDS: &[&str] = &[
    "if", "else", "while", "until", "loop", "for", "in", "switch", "return", "throw", "catch",
    "try", "do", "let", "const", "fn", "private", "global", "true", "false", "break", "continue",
    "as", "_",
];

pub(super) fn check_size(text: &str) -> Result<()> {
    let bytes = text.len();
    if bytes > MOST_BYTES {
        return Err(Fault::TooLong { bytes, most: MOST_BYTES }.into());
    }
    Ok(())
}

/// The first line of comment of a script or of rules.
pub(super) fn description(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).skip_while(|line| line.is_empty());
    let comment = |line: &str| {
        let line = ["//!", "///", "//", "#"].iter().find_map(|mark| line.strip_prefix(mark))?;
        Some(line.trim().to_owned())
    };
    lines.next().and_then(comment).unwrap_or_default()
}

/// A function that the script declares.
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Vec<&'a str>,
    /// Where it stands in the text, in bytes.
    pub(super) range: Range<usize>,
    /// Where what is between its braces stands, with them.
    pub(super) body: Range<usize>,
    /// The tokens from its name to its last brace.
    from: usize,
    to: usize,
}

pub(super) fn check(tokens: &[Token<'_>], contents: &Contents) -> Result<()> {
    check_number(tokens, "{", MOST_BLOCKS, "blocks")?;
    check_number(tokens, ";", MOST_STATEMENTS, "statements")?;
    check_switches(tokens)?;
    let functions = functions(tokens);
    check_words(tokens)?;
    check_entry(&functions)?;
    closures::check_closures(tokens, &functions)?;
    names::check_calls(tokens, &functions, contents)?;
    names::check_properties(tokens, contents)?;
    check_constants(tokens, &functions)?;
    names::check_variables(tokens, &functions, contents)
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
        // A function in a function is none; the language says so.
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

/// How many values stand between the brackets that open here.
fn values(tokens: &[Token<'_>], open: usize) -> usize {
    let close = tokens[open].close;
    let (mut commas, mut any, mut index) = (0, false, open + 1);
    while index < close {
        let token = &tokens[index];
        match token.text {
            _ if token.kind != Kind::Sign => {}
            // The commas between the bars of a closure are its own.
            "|" if opens_closure(tokens, index) => {
                index = (index + 1..close).find(|at| tokens[*at].is("|")).unwrap_or(close);
            }
            "," => commas += usize::from(index + 1 < close),
            // What stands between other brackets is theirs.
            _ => index = token.close,
        }
        any = true;
        index += 1;
    }
    if any { commas + 1 } else { 0 }
}

fn opens_closure(tokens: &[Token<'_>], index: usize) -> bool {
    let Some(before) = index.checked_sub(1).map(|index| &tokens[index]) else { return true };
    let is_value = match before.kind {
        Kind::Literal => true,
        Kind::Word => !KEYWORDS.contains(&before.text),
        Kind::Sign => matches!(before.text, ")" | "]" | "}"),
    };
    !is_value
}

fn is_method(tokens: &[Token<'_>], index: usize) -> bool {
    index > 0 && (tokens[index - 1].is(".") || tokens[index - 1].is("?."))
}

fn is_called(tokens: &[Token<'_>], index: usize) -> bool {
    tokens.get(index + 1).is_some_and(|next| next.is("("))
}

fn check_number(tokens: &[Token<'_>], sign: &str, most: usize, what: &str) -> Result<()> {
    match tokens.iter().filter(|token| token.is(sign)).nth(most) {
        Some(token) => Err(script(token.at, format!("there are more than {most} {what}"))),
        None => Ok(()),
    }
}

fn check_switches(tokens: &[Token<'_>]) -> Result<()> {
    let mut ends: Vec<usize> = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.is("switch")) {
        while ends.pop_if(|end| *end < index).is_some() {}
        if ends.len() == MOST_SWITCHES {
            let message = format!("switch stands inside more than {MOST_SWITCHES} others");
            return Err(script(token.at, message));
        }
        let mut open = index + 1;
        while open < tokens.len() && !tokens[open].is("{") && !tokens[open].is(";") {
            open = tokens[open].close + 1;
        }
        ends.push(tokens.get(open).map_or(tokens.len(), |block| block.close));
    }
    Ok(())
}

fn check_words(tokens: &[Token<'_>]) -> Result<()> {
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word) {
        let forbidden = FORBIDDEN.iter().find(|(word, _)| token.text == *word);
        let is_property = is_method(tokens, index) && !is_called(tokens, index);
        if let Some((word, why)) = forbidden.filter(|_| !is_property) {
            return Err(script(token.at, format!("{word} is not to be had in a policy: {why}")));
        }
    }
    Ok(())
}

fn check_entry(functions: &[Function<'_>]) -> Result<()> {
    let expected = [
        ("schedule", 3, "job, workers, hives"),
        ("admit", 2, "job, queue"),
        ("order", 1, "job"),
        ("evict", 2, "need, workers"),
    ];
    for (name, takes, values) in expected {
        match functions.iter().find(|function| function.name == name) {
            Some(function) if function.parameters.len() != takes => {
                let message = format!(
                    "{name} has {} parameters; write fn {name}({values})",
                    function.parameters.len()
                );
                return Err(script(super::faults::At::default(), message));
            }
            None if name == "schedule" => {
                let message = "there is no fn schedule(job, workers, hives)";
                return Err(script(super::faults::At::default(), message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Outside functions there are only constants: other statements would run once, and never again.
fn check_constants(tokens: &[Token<'_>], functions: &[Function<'_>]) -> Result<()> {
    let mut index = 0;
    while index < tokens.len() {
        let token = &tokens[index];
        if let Some(function) = functions.iter().find(|f| f.from == index + 1 && token.is("fn")) {
            index = function.to + 1;
        } else if token.is("const") {
            let end = (index..tokens.len()).scan(0usize, |depth, at| {
                match tokens[at].text {
                    "(" | "[" | "{" | "#{" if tokens[at].kind == Kind::Sign => *depth += 1,
                    ")" | "]" | "}" if tokens[at].kind == Kind::Sign => {
                        *depth = depth.saturating_sub(1)
                    }
                    _ => {}
                }
                Some((at, *depth == 0 && tokens[at].is(";")))
            });
            index = end
                .filter(|(_, is_end)| *is_end)
                .map(|(at, _)| at + 1)
                .next()
                .unwrap_or(tokens.len());
        } else if token.is("private") || token.is(";") {
            index += 1;
        } else {
            return Err(script(
                token.at,
                format!(
                    "{:?} stands outside of a function; there are only const and fn",
                    token.text
                ),
            ));
        }
    }
    Ok(())
}
