//! A closure must be written where it is used. One that is kept in a variable, a list or a map could come to contain
//! itself; it would never be freed then, because the language counts references. It would also hold more than its size
//! shows.

use crate::{
    error::Result,
    scheduler::rhai::{
        faults::script,
        syntax::{Function, is_method, opens_closure},
        tokens::{Kind, Token},
    },
};

/// Methods that call the closure they get, and do not keep it.
const TAKERS: &[&str] = &[
    "all",
    "any",
    "dedup",
    "drain",
    "filter",
    "find",
    "find_map",
    "for_each",
    "index_of",
    "map",
    "max_by",
    "min_by",
    "order",
    "order_by",
    "reduce",
    "reduce_rev",
    "retain",
    "some",
    "sort",
    "sort_by",
    "sum",
];

pub(super) fn check_closures(tokens: &[Token<'_>], functions: &[Function<'_>]) -> Result<()> {
    let mut bars_end = 0;
    for (index, token) in tokens.iter().enumerate() {
        if index < bars_end || !(token.is("|") || token.is("||")) {
            continue;
        }
        if index > 0 && tokens[index - 1].is("}") {
            let message = format!(
                "after }} it is not clear what {} means; put brackets around what stands before it",
                token.text
            );
            return Err(script(token.at, message));
        }
        if !opens_closure(tokens, index) {
            continue;
        }
        if !is_given(tokens, index, functions) {
            let message = "a closure must be written in the brackets of the method that calls it, as in workers.filter(|w| \
                           true); it cannot be kept in a variable, a list or a map";
            return Err(script(token.at, message));
        }
        if token.is("|") {
            let bar = (index + 1..tokens.len()).find(|at| tokens[*at].is("|"));
            bars_end = bar.map_or(tokens.len(), |bar| bar + 1);
        }
    }
    Ok(())
}

/// Returns true if the closure is the first value of a method that calls it.
fn is_given(tokens: &[Token<'_>], index: usize, functions: &[Function<'_>]) -> bool {
    let Some(name) = index.checked_sub(2) else { return false };
    let called = &tokens[name];
    tokens[index - 1].is("(")
        && called.kind == Kind::Word
        && is_method(tokens, name)
        && TAKERS.contains(&called.text)
        // A function of the script can be called as a method, and would get the closure as a value.
        && functions.iter().all(|function| function.name != called.text)
}
