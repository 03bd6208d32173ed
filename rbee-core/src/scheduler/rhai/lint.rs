//! Checks of a script before it runs: names that do not exist, wrong numbers of values, words that a policy must not
//! use, and closures that are kept.
//!
//! The language looks names up when it runs a line, so without these checks a wrong name would show only with the first
//! job that gets there.

use super::{
    engine::FORBIDDEN,
    faults::{At, Fault, script},
    registry::HelperIndex,
    syntax::{Function, functions, is_called, is_method},
    tokens::{Kind, Token},
};
use crate::error::Result;

mod closures;
mod names;

/// The most bytes of a script.
const MOST_BYTES: usize = 64 * 1024;

/// The most blocks and statements of a script: the language takes the square of their number to optimize them.
const MOST_BLOCKS: usize = 2_000;
const MOST_STATEMENTS: usize = 5_000;
/// The most `switch` inside one another: with each one more, the language takes twice as long to optimize them.
const MOST_SWITCHES: usize = 4;

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

pub(super) fn check(tokens: &[Token<'_>], helpers: &HelperIndex) -> Result<()> {
    check_number(tokens, "{", MOST_BLOCKS, "blocks")?;
    check_number(tokens, ";", MOST_STATEMENTS, "statements")?;
    check_switches(tokens)?;
    let functions = functions(tokens);
    check_words(tokens)?;
    check_entry(&functions)?;
    closures::check_closures(tokens, &functions)?;
    names::check_calls(tokens, &functions, helpers)?;
    names::check_properties(tokens, helpers)?;
    check_constants(tokens, &functions)?;
    names::check_variables(tokens, &functions, helpers)
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
            return Err(script(token.at, format!("{word} is not available in a policy: {why}")));
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
                return Err(script(At::default(), message));
            }
            None if name == "schedule" => {
                let message = "there is no fn schedule(job, workers, hives)";
                return Err(script(At::default(), message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that outside of functions there are only constants: other statements would run once, and never again.
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
                    "{:?} is outside of a function; only const and fn are allowed there",
                    token.text
                ),
            ));
        }
    }
    Ok(())
}
