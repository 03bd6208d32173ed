//! Rewrites the source of a template so that the template engine reads it as Jinja with Python's operators.
//!
//! What the engine has no hook for becomes a call of a function of this module's parent: `'%s' % x` becomes
//! `__percent('%s', x)`. `{% generation %}`, which the transformers library adds to Jinja, becomes `{% with %}`: it marks
//! the answer for a training run, and has a scope of its own. A tag that is not understood stays as it is, so that the
//! engine reports what is wrong with it.

use super::{
    super::super::files::shown,
    lexer::{Kind, Token, lex},
    parser::Parser,
};

/// The longest tag of a template, in bytes.
const MAX_TAG: usize = 64 << 10;
/// The longest tag that is not understood and that the engine reads for its message, in bytes. It could be nested
/// deeply.
const MAX_UNREAD: usize = 1 << 10;
/// The most `if` and `elif` that are open at one place: the engine reads each within the one before it.
const MAX_CONDITIONS: usize = 200;

/// A rewritten template.
pub(super) struct Rewritten {
    pub(super) source: String,
    /// The first tag that was not understood. It stays as it is in the source.
    pub(super) unread: Option<String>,
}

/// Rewrites a whole template.
///
/// # Errors
/// The name of something that neither the engine nor this module supports.
pub(super) fn rewrite(source: &str) -> Result<Rewritten, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut out, mut rest) = (String::with_capacity(source.len() * 2), &*source);
    let (mut open, mut unread) = (Open::default(), None);
    while let Some(at) = next_tag(rest) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let kind = &rest[..2];
        let length = match kind {
            "{#" => rest.find("#}").map(|end| end + 2),
            "{%" if is_tag(rest, "raw") => raw_end(rest),
            _ => tag_end(rest),
        };
        let Some(length) = length else { break };
        let (tag, after) = rest.split_at(length);
        rest = after;
        match kind {
            "{#" => out.push_str(tag),
            "{%" if is_tag(tag, "raw") => {
                // Jinja trims no line break after the begin of raw text.
                let open = tag.find("%}").unwrap_or(0);
                let plain = !tag[..open].ends_with(['-', '+']) && tag[open + 2..].starts_with('\n');
                out.push_str(tag[..open].trim_end());
                out.push_str(if plain { " +" } else { "" });
                out.push_str(&tag[open..]);
            }
            _ if tag.len() > MAX_TAG => {
                let size = tag.len();
                return Err(format!("a tag of {size} bytes; allowed are up to {MAX_TAG}"));
            }
            _ => match rewritten(tag, &mut open)? {
                Some(made) => out.push_str(&made),
                None if tag.len() > MAX_UNREAD => {
                    return Err(format!("{} is not supported in chat templates", shown(tag)));
                }
                None => {
                    unread.get_or_insert_with(|| tag.chars().take(200).collect());
                    out.push_str(tag);
                }
            },
        }
    }
    out.push_str(rest);
    Ok(Rewritten { source: out, unread })
}

/// What is open where a tag is.
#[derive(Default)]
struct Open {
    blocks: Vec<&'static str>,
    /// For each `if`, 1 and the number of its `elif` so far.
    conditions: Vec<usize>,
}

fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{')
        .map(|(at, _)| at)
        .find(|at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Returns true if a text begins with this tag, without anything else in it.
fn is_tag(text: &str, name: &str) -> bool {
    let inner = text.get(2..).unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
    let Some(after) = inner.strip_prefix(name) else { return false };
    let after = after.trim_start();
    after.trim_start_matches(['-', '+']).starts_with("%}")
}

fn raw_end(text: &str) -> Option<usize> {
    let mut ends = text.match_indices("{%").map(|(at, _)| at);
    let end = ends.find(|at| is_tag(&text[*at..], "endraw"))?;
    Some(end + text[end..].find("%}")? + 2)
}

fn tag_end(text: &str) -> Option<usize> {
    let close = if text.starts_with("{%") { "%}" } else { "}}" };
    let (mut at, mut depth) = (2, 0_usize);
    while at < text.len() {
        let rest = &text[at..];
        if depth == 0 && rest.starts_with(close) {
            return Some(at + 2);
        }
        let token = lex(rest);
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += token.text.len();
    }
    None
}

/// A tag with its expressions rewritten; `None` if it is not understood.
fn rewritten(tag: &str, within: &mut Open) -> Result<Option<String>, String> {
    let mut inner = &tag[2..tag.len() - 2];
    let open = if inner.starts_with(['-', '+']) { 1 } else { 0 };
    inner = &inner[open..];
    let close = if inner.ends_with(['-', '+']) { 1 } else { 0 };
    inner = &inner[..inner.len() - close];
    let (mut tokens, mut rest) = (Vec::new(), inner);
    while !rest.is_empty() {
        let token = lex(rest);
        rest = &rest[token.text.len()..];
        if token.kind != Kind::Space {
            tokens.push(token);
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        let after = |text: &str| at > 0 && tokens[at - 1].text == text;
        if token.kind == Kind::Name
            && matches!(token.text, "varargs" | "kwargs")
            && !after(".")
            && !after("|")
        {
            return Err(format!("{} of a macro is not supported in chat templates", token.text));
        }
    }
    if tag.starts_with("{%") {
        follow_blocks(&tokens, &mut within.blocks)?;
        follow_conditions(&tokens, &mut within.conditions)?;
    }
    let mut parser = Parser::new(&tokens);
    let made = if tag.starts_with("{{") { parser.tuple(true) } else { parser.statement() };
    if let Some(what) = parser.unsupported {
        return Err(what);
    }
    let Some(made) = made.filter(|_| parser.at == tokens.len()) else { return Ok(None) };
    // Errors name lines.
    let lines = "\n".repeat(inner.matches('\n').count().saturating_sub(made.matches('\n').count()));
    let mark = |text: &str, at: usize| text[at..=at].to_owned();
    let open = if open > 0 { mark(tag, 2) } else { String::new() };
    let close = if close > 0 { mark(tag, tag.len() - 3) } else { String::new() };
    Ok(Some(format!("{}{open} {made} {lines}{close}{}", &tag[..2], &tag[tag.len() - 2..])))
}

/// Keeps the list of the blocks that are open. The engine cannot leave a loop from within another block.
fn follow_blocks(tokens: &[Token<'_>], blocks: &mut Vec<&'static str>) -> Result<(), String> {
    const BLOCKS: [&str; 8] =
        ["for", "with", "generation", "filter", "set", "call", "macro", "autoescape"];
    let name = tokens.first().map_or("", |token| token.text);
    if let Some(block) = BLOCKS.iter().find(|block| **block == name) {
        let mut depth = 0_i32;
        let has_value = tokens.iter().any(|token| {
            depth += i32::from(token.text == "(") - i32::from(token.text == ")");
            depth == 0 && token.text == "="
        });
        // `set` with a value is no block.
        if *block != "set" || !has_value {
            blocks.push(block);
        }
    } else if let Some(block) = name.strip_prefix("end") {
        if blocks.last().is_some_and(|last| *last == block) {
            blocks.pop();
        }
    } else if matches!(name, "break" | "continue") {
        let within: Vec<&str> =
            blocks.iter().rev().take_while(|block| **block != "for").copied().collect();
        if let Some(block) = within.first() {
            return Err(format!(
                "{{% {name} %}} within {{% {block} %}} is not supported in chat templates"
            ));
        }
    }
    Ok(())
}

fn follow_conditions(tokens: &[Token<'_>], conditions: &mut Vec<usize>) -> Result<(), String> {
    match tokens.first().map_or("", |token| token.text) {
        "if" => conditions.push(1),
        "elif" => conditions.last_mut().into_iter().for_each(|count| *count += 1),
        "endif" => drop(conditions.pop()),
        _ => return Ok(()),
    }
    if conditions.iter().sum::<usize>() > MAX_CONDITIONS {
        return Err(format!(
            "more than {MAX_CONDITIONS} `if` and `elif` that are open at one place are not supported in chat templates"
        ));
    }
    Ok(())
}
