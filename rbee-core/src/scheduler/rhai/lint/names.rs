//! Names that do not exist, and calls with too few or too many values.

use std::collections::BTreeSet;

use crate::{
    error::Result,
    scheduler::rhai::{
        faults::script,
        registry::HelperIndex,
        syntax::{Function, KEYWORDS, is_called, is_method, opens_closure, values},
        tokens::{Kind, Token},
    },
    similar::nearest,
};

/// Functions of the language that a policy can use. How many values they take shows when they are called.
const LANGUAGE: &[&str] = &[
    "abs",
    "all",
    "append",
    "atan",
    "bits",
    "bytes",
    "ceiling",
    "chars",
    "chop",
    "clear",
    "contains",
    "cos",
    "crop",
    "dedup",
    "drain",
    "end",
    "ends_with",
    "exp",
    "extract",
    "filter",
    "find",
    "find_map",
    "floor",
    "for_each",
    "fraction",
    "get",
    "hypot",
    "index_of",
    "insert",
    "int",
    "is_def_fn",
    "is_def_var",
    "is_empty",
    "is_even",
    "is_exclusive",
    "is_finite",
    "is_inclusive",
    "is_infinite",
    "is_nan",
    "is_odd",
    "is_shared",
    "is_zero",
    "keys",
    "len",
    "ln",
    "log",
    "make_lower",
    "make_upper",
    "map",
    "max",
    "min",
    "mixin",
    "order",
    "order_by",
    "order_desc",
    "pad",
    "parse_float",
    "parse_int",
    "pop",
    "push",
    "range",
    "reduce",
    "reduce_rev",
    "remove",
    "replace",
    "retain",
    "reverse",
    "round",
    "set",
    "shift",
    "sign",
    "sin",
    "some",
    "sort",
    "sort_by",
    "sort_desc",
    "splice",
    "split",
    "split_rev",
    "sqrt",
    "start",
    "starts_with",
    "sub_string",
    "tan",
    "to_chars",
    "to_debug",
    "to_float",
    "to_int",
    "to_lower",
    "to_string",
    "to_upper",
    "trim",
    "truncate",
    "type_of",
    "values",
];

/// Properties of the values of the language.
const PROPERTIES: &[&str] = &[
    "bytes",
    "ceiling",
    "chars",
    "end",
    "floor",
    "fraction",
    "int",
    "is_empty",
    "is_even",
    "is_exclusive",
    "is_finite",
    "is_inclusive",
    "is_infinite",
    "is_nan",
    "is_odd",
    "is_zero",
    "len",
    "round",
    "start",
];

/// The most values of a call: all of them are held while the last one is computed.
const MOST_VALUES: usize = 8;
/// The most tokens from `for` to `in`: `for (value, count) in`.
const MOST_FOR: usize = 8;

pub(super) fn check_calls(
    tokens: &[Token<'_>],
    functions: &[Function<'_>],
    helpers: &HelperIndex,
) -> Result<()> {
    let known = &helpers.names.functions;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word) {
        let is_declared = index > 0 && tokens[index - 1].is("fn");
        if !is_called(tokens, index) || KEYWORDS.contains(&token.text) || is_declared {
            continue;
        }
        let given = values(tokens, index + 1);
        if given > MOST_VALUES {
            let message =
                format!("{} is given {given} values; allowed are {MOST_VALUES}", token.text);
            return Err(script(token.at, message));
        }
        let own: Vec<usize> =
            functions.iter().filter(|f| f.name == token.text).map(|f| f.parameters.len()).collect();
        let takes = known.get(token.text);
        if LANGUAGE.contains(&token.text) || (!own.is_empty() && takes.is_some()) {
            continue;
        }
        let name = token.text;
        let is_method = is_method(tokens, index);
        let Some(takes) = takes.or((!own.is_empty()).then_some(&own)) else {
            let names = known.keys().copied().chain(LANGUAGE.iter().copied());
            let names = names.chain(functions.iter().map(|function| function.name));
            let hint = nearest(name, names)
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            return Err(script(token.at, format!("there is no function {name}{hint}")));
        };
        let given_all = given + usize::from(is_method);
        if !takes.contains(&given_all) {
            let takes: BTreeSet<usize> =
                takes.iter().map(|takes| takes.saturating_sub(usize::from(is_method))).collect();
            let takes: Vec<String> = takes.iter().map(ToString::to_string).collect();
            let message =
                format!("{name} is given {given} values; it takes {}", takes.join(" or "));
            return Err(script(token.at, message));
        }
    }
    Ok(())
}

pub(super) fn check_properties(tokens: &[Token<'_>], helpers: &HelperIndex) -> Result<()> {
    // Keys of the script's own maps.
    let own: BTreeSet<&str> = tokens
        .windows(2)
        .filter(|pair| pair[1].is(":") || pair[1].is("="))
        .map(|pair| pair[0].text.trim_matches('"'))
        .collect();
    let known = &helpers.names.properties;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word) {
        let name = token.text;
        if !is_method(tokens, index)
            || is_called(tokens, index)
            || known.contains(&name)
            || PROPERTIES.contains(&name)
            || own.contains(name)
        {
            continue;
        }
        let hint = if helpers.names.functions.contains_key(name) || LANGUAGE.contains(&name) {
            format!("; did you mean {name}()?")
        } else {
            let names = known.iter().copied().chain(helpers.names.functions.keys().copied());
            nearest(name, names)
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
        };
        return Err(script(token.at, format!("there is no property {name}{hint}")));
    }
    Ok(())
}

/// Checks that every variable is declared in its function, or is a constant of the script.
pub(super) fn check_variables(
    tokens: &[Token<'_>],
    functions: &[Function<'_>],
    helpers: &HelperIndex,
) -> Result<()> {
    let outside =
        |at: usize| functions.iter().all(|function| !(function.from..=function.to).contains(&at));
    let constants: Vec<&str> = tokens
        .windows(2)
        .enumerate()
        .filter(|(at, pair)| pair[0].is("const") && outside(*at))
        .map(|(_, pair)| pair[1].text)
        .collect();
    for function in functions {
        let mut known = declared(tokens, function);
        known.extend(&function.parameters);
        known.extend(&constants);
        for index in function.from + 1..=function.to {
            let token = &tokens[index];
            let is_key = tokens.get(index + 1).is_some_and(|next| next.is(":"));
            if token.kind != Kind::Word
                || is_key
                || is_method(tokens, index)
                || is_called(tokens, index)
                || KEYWORDS.contains(&token.text)
            {
                continue;
            }
            let name = token.text;
            // Outside of its block, the name of the variable would mean the function.
            if functions.iter().any(|function| function.name == name) {
                let message = format!("{name} is a function; give the variable another name");
                return Err(script(token.at, message));
            }
            if known.contains(name) {
                continue;
            }
            let hint = if helpers.names.functions.contains_key(name) {
                format!("; did you mean {name}()?")
            } else {
                let names = known.iter().copied().chain(helpers.names.functions.keys().copied());
                nearest(name, names)
                    .map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
            };
            return Err(script(token.at, format!("there is no variable {name}{hint}")));
        }
    }
    Ok(())
}

/// The names that the function declares, anywhere in it.
fn declared<'a>(tokens: &[Token<'a>], function: &Function<'a>) -> BTreeSet<&'a str> {
    let mut declared = BTreeSet::new();
    let mut bars_end = 0;
    for index in function.from + 1..=function.to {
        let token = &tokens[index];
        let end = match token.text {
            "let" | "const" => index + 1,
            "for" => {
                let names = index..function.to.min(index + MOST_FOR);
                names.into_iter().find(|at| tokens[*at].is("in")).unwrap_or(index)
            }
            "catch" if is_called(tokens, index) => tokens[index + 1].close,
            "|" if index > bars_end && opens_closure(tokens, index) => {
                (index + 1..=function.to).find(|at| tokens[*at].is("|")).unwrap_or(index)
            }
            _ => continue,
        };
        if token.is("|") {
            bars_end = end;
        }
        let names = tokens[index + 1..=end.max(index + 1).min(function.to)].iter();
        declared.extend(names.filter(|name| name.kind == Kind::Word).map(|name| name.text));
    }
    declared
}
