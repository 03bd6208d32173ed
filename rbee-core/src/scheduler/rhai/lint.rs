//! What can be said of a script before it is run: names that do not exist, wrong numbers of values, words that a policy
//! must not use, and closures that would keep themselves alive.
//!
//! The language looks names up when it runs a line, so that a wrong one would come to light with the first job that
//! leads there.

use std::{collections::BTreeSet, ops::Range};

use super::{
    book::Contents,
    engine::FORBIDDEN,
    faults::{Fault, nearest, script},
    tokens::{Kind, Token},
};
use crate::Result;

/// Bytes of a script.
const MOST_BYTES: usize = 64 * 1024;

/// Closures of one function.
const MOST_CLOSURES: usize = 64;

/// Words with a bracket after them that are no calls.
const KEYWORDS: &[&str] = &[
    "if", "else", "while", "until", "loop", "for", "in", "switch", "return", "throw", "catch",
    "try", "do", "let", "const", "fn", "private", "global", "true", "false", "break", "continue",
    "as", "_",
];

/// Functions of the language that a policy has; how many values they take is found out when they are called.
const LANGUAGE: &[&str] = &[
    "abs",
    "all",
    "append",
    "atan",
    "bits",
    "bytes",
    "call",
    "ceiling",
    "chars",
    "chop",
    "clear",
    "contains",
    "cos",
    "crop",
    "curry",
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
    "zip",
];

/// Properties of the language's own values.
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

/// Methods that put something into the value they are called on.
const FILLING: &[&str] =
    &["push", "insert", "append", "set", "pad", "mixin", "fill_with", "splice", "unshift"];

const ASSIGNMENTS: &[&str] =
    &["=", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "<<=", ">>=", "**="];

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
    let functions = functions(tokens);
    check_words(tokens)?;
    check_entry(&functions)?;
    check_calls(tokens, &functions, contents)?;
    check_properties(tokens, contents)?;
    check_constants(tokens, &functions)?;
    check_variables(tokens, &functions, contents)?;
    functions.iter().try_for_each(|function| check_closures(tokens, function))
}

pub(super) fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let heads = tokens
        .windows(3)
        .enumerate()
        .filter(|(_, head)| head[0].is("fn") && head[1].kind == Kind::Word && head[2].is("("));
    let mut functions: Vec<Function<'a>> = Vec::new();
    for (index, head) in heads {
        // A function in a function is none; the language says so.
        if functions.last().is_some_and(|last| last.to > index) {
            continue;
        }
        let last = closing(tokens, index + 2);
        let open = (last + 1..tokens.len()).find(|at| tokens[*at].is("{")).unwrap_or(last);
        let close = closing(tokens, open);
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

/// Where the bracket closes that opens here; the end of the script where it does not.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open).filter(|(_, t)| t.kind == Kind::Sign)
    {
        match token.text {
            "(" | "[" | "?[" | "{" | "#{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// How many values stand between the brackets that open here.
fn values(tokens: &[Token<'_>], open: usize) -> usize {
    let close = closing(tokens, open);
    let (mut depth, mut commas, mut any, mut index) = (0usize, 0, false, open + 1);
    while index < close {
        let token = &tokens[index];
        let is_trailing = token.is(",") && index + 1 == close;
        if token.kind == Kind::Sign {
            match token.text {
                // The commas between the bars of a closure are its own.
                "|" if opens_closure(tokens, index) => {
                    index = (index + 1..close).find(|at| tokens[*at].is("|")).unwrap_or(close);
                }
                "(" | "[" | "?[" | "{" | "#{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "," if depth == 0 && !is_trailing => commas += 1,
                _ => {}
            }
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

fn check_calls(
    tokens: &[Token<'_>],
    functions: &[Function<'_>],
    contents: &Contents,
) -> Result<()> {
    let known = &contents.names.functions;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word) {
        let is_declared = index > 0 && tokens[index - 1].is("fn");
        if !is_called(tokens, index) || KEYWORDS.contains(&token.text) || is_declared {
            continue;
        }
        let own: Vec<usize> =
            functions.iter().filter(|f| f.name == token.text).map(|f| f.parameters.len()).collect();
        let takes = known.get(token.text);
        if LANGUAGE.contains(&token.text) || (!own.is_empty() && takes.is_some()) {
            continue;
        }
        let name = token.text;
        let is_method = is_method(tokens, index);
        let given = values(tokens, index + 1);
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

fn check_properties(tokens: &[Token<'_>], contents: &Contents) -> Result<()> {
    // Keys of the script's own maps.
    let own: BTreeSet<&str> = tokens
        .windows(2)
        .filter(|pair| pair[1].is(":") || pair[1].is("="))
        .map(|pair| pair[0].text.trim_matches('"'))
        .collect();
    let known = &contents.names.properties;
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
        let hint = if contents.names.functions.contains_key(name) || LANGUAGE.contains(&name) {
            format!("; did you mean {name}()?")
        } else {
            let names = known.iter().copied().chain(contents.names.functions.keys().copied());
            nearest(name, names)
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
        };
        return Err(script(token.at, format!("there is no property {name}{hint}")));
    }
    Ok(())
}

/// Every variable is declared in its function, or is a constant of the script.
fn check_variables(
    tokens: &[Token<'_>],
    functions: &[Function<'_>],
    contents: &Contents,
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
                || known.contains(token.text)
            {
                continue;
            }
            let name = token.text;
            let hint = if contents.names.functions.contains_key(name) {
                format!("; did you mean {name}()?")
            } else {
                let names = known.iter().copied().chain(contents.names.functions.keys().copied());
                nearest(name, names)
                    .map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
            };
            return Err(script(token.at, format!("there is no variable {name}{hint}")));
        }
    }
    Ok(())
}

/// Names that the function declares, anywhere in it.
fn declared<'a>(tokens: &[Token<'a>], function: &Function<'a>) -> BTreeSet<&'a str> {
    let mut declared = BTreeSet::new();
    let mut bars_end = 0;
    for index in function.from + 1..=function.to {
        let token = &tokens[index];
        let end = match token.text {
            "let" | "const" => index + 1,
            "for" => (index..function.to).find(|at| tokens[*at].is("in")).unwrap_or(index),
            "catch" if is_called(tokens, index) => closing(tokens, index + 1),
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

/// What a closure has caught must not be changed afterwards: it could be made to hold the closure itself, and then
/// neither would ever be freed.
fn check_closures(tokens: &[Token<'_>], function: &Function<'_>) -> Result<()> {
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
