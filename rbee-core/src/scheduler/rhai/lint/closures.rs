//! Closures that would keep themselves alive: the language counts references, so that what holds itself is never freed.

use std::collections::BTreeSet;

use super::{Function, KEYWORDS, closing, is_called, is_method, opens_closure};
use crate::{
    Result,
    scheduler::rhai::{
        faults::script,
        tokens::{Kind, Token},
    },
};

/// Closures of one function.
const MOST_CLOSURES: usize = 64;

/// Methods that put something into the value they are called on.
const FILLING: &[&str] =
    &["push", "insert", "append", "set", "pad", "mixin", "fill_with", "splice", "unshift"];

const ASSIGNMENTS: &[&str] =
    &["=", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "<<=", ">>=", "**="];

/// What a closure has caught must not be changed afterwards: it could be made to hold the closure itself, and then
/// neither would ever be freed.
pub(super) fn check_closures(tokens: &[Token<'_>], function: &Function<'_>) -> Result<()> {
    let is_closure =
        |at: &usize| (tokens[*at].is("|") || tokens[*at].is("||")) && opens_closure(tokens, *at);
    for (count, start) in (function.from..=function.to).filter(is_closure).enumerate() {
        if count == MOST_CLOSURES {
            let message = format!("a function has more than {MOST_CLOSURES} closures");
            return Err(script(tokens[start].at, message));
        }
        let caught = caught(tokens, start, function.to);
        // In a loop, what stands before the closure comes after it in the next round.
        let from = outermost_loop(tokens, function, start);
        let from = from.unwrap_or_else(|| statement(tokens, function, start));
        for index in from..=function.to {
            let token = &tokens[index];
            if token.kind == Kind::Word && caught.contains(token.text) && is_changed(tokens, index)
            {
                let message = format!(
                    "{} is used in a closure (line {}) and changed here; a closure's values must stay as they are, \
                     so write a for loop, or give the changed value another name",
                    token.text, tokens[start].at.line
                );
                return Err(script(token.at, message));
            }
        }
    }
    Ok(())
}

/// Variables from outside that the closure uses which begins here.
fn caught<'a>(tokens: &[Token<'a>], start: usize, end: usize) -> BTreeSet<&'a str> {
    let bar = match tokens[start].text {
        "||" => start,
        _ => (start + 1..=end).find(|at| tokens[*at].is("|")).unwrap_or(end),
    };
    let own: BTreeSet<&str> = tokens[start..=bar].iter().map(|token| token.text).collect();
    let mut depth = 0usize;
    let mut caught = BTreeSet::new();
    for index in bar + 1..=end {
        let token = &tokens[index];
        match token.kind {
            Kind::Sign => match token.text {
                "(" | "[" | "?[" | "{" | "#{" => depth += 1,
                ")" | "]" | "}" | "," | ";" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            },
            Kind::Word => {
                let is_name = !is_method(tokens, index) && !is_called(tokens, index);
                if is_name && !own.contains(token.text) && !KEYWORDS.contains(&token.text) {
                    caught.insert(token.text);
                }
            }
            Kind::Literal => {}
        }
    }
    caught
}

fn outermost_loop(tokens: &[Token<'_>], function: &Function<'_>, inside: usize) -> Option<usize> {
    (function.from..inside).find(|at| {
        let is_loop = ["loop", "while", "for", "do"].iter().any(|word| tokens[*at].is(word));
        let open = (*at..inside).find(|at| tokens[*at].is("{"));
        is_loop && open.is_some_and(|open| closing(tokens, open) > inside)
    })
}

/// Where the statement begins that this belongs to: what is assigned to stands before what is assigned.
fn statement(tokens: &[Token<'_>], function: &Function<'_>, inside: usize) -> usize {
    let ends = |at: &usize| tokens[*at].is(";") || tokens[*at].is("{") || tokens[*at].is("}");
    (function.from..inside).rev().find(ends).map_or(function.from, |end| end + 1)
}

/// Is the variable that stands here given another value, or one more to hold?
fn is_changed(tokens: &[Token<'_>], index: usize) -> bool {
    let is_declared = index > 0 && (tokens[index - 1].is("let") || tokens[index - 1].is("const"));
    if is_declared || is_method(tokens, index) {
        return false;
    }
    let mut at = index + 1;
    while let Some(token) = tokens.get(at) {
        if token.kind != Kind::Sign {
            return false;
        }
        match token.text {
            "." | "?." if is_called(tokens, at + 1) => {
                return tokens.get(at + 1).is_some_and(|name| FILLING.contains(&name.text));
            }
            "." | "?." => at += 2,
            "[" | "?[" => at = closing(tokens, at) + 1,
            sign => return ASSIGNMENTS.contains(&sign),
        }
    }
    false
}
