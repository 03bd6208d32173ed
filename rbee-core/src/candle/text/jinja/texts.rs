//! The methods of Python's texts.

use minijinja::{Error, Value, value::Tuple};

use super::{
    characters::{self, is_printable, is_space, original},
    html::{escape_html, like},
    limits::{Outcome, collected, fault, limit, limit_items},
    python::{bind, integer, slice_of, string, type_name, width},
};

/// Calls a method of a text; `None` if there is no such method here.
pub(super) fn call(
    value: &Value,
    text: &str,
    method: &str,
    args: &[Value],
) -> Outcome<Option<Value>> {
    let none = || bind(method, [], args).map(|[]| ());
    let all = |is: &dyn Fn(char) -> bool| {
        none()?;
        Ok::<Value, Error>(Value::from(!text.is_empty() && text.chars().all(|c| is(original(c)))))
    };
    let made = |text: String| Ok::<Value, Error>(like(value, text));
    Ok(Some(match method {
        "upper" => none().and_then(|()| made(text.to_uppercase()))?,
        "lower" => none().and_then(|()| made(text.to_lowercase()))?,
        "casefold" => {
            none().and_then(|()| made(text.to_lowercase().replace('ß', "ss").replace('ς', "σ")))?
        }
        "title" => none().and_then(|()| made(title(text)))?,
        "capitalize" => none().and_then(|()| made(capitalize(text)))?,
        "swapcase" => {
            none()?;
            let swap = |c: char| {
                if c.is_uppercase() {
                    c.to_lowercase().to_string()
                } else {
                    c.to_uppercase().to_string()
                }
            };
            made(text.chars().map(swap).collect())?
        }
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = bind(method, ["chars"], args)?;
            made(strip(text, method, characters.as_ref())?.to_owned())?
        }
        "split" | "rsplit" => {
            let [separator, most] = bind(method, ["sep", "maxsplit"], args)?;
            let most = most.map(|most| integer(&most)).transpose()?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let parts = match separator.filter(|separator| !separator.is_none()) {
                None => split_at_space(text, most, method == "rsplit")?,
                Some(separator) => {
                    let separator = string(&separator)?;
                    if separator.is_empty() {
                        return Err(fault("split() at an empty text"));
                    }
                    let parts = most.saturating_add(1);
                    if method == "split" {
                        collected(text.splitn(parts, separator))?
                    } else {
                        let mut parts = collected(text.rsplitn(parts, separator))?;
                        parts.reverse();
                        parts
                    }
                }
            };
            parts.into_iter().map(|part| like(value, part.to_owned())).collect()
        }
        "partition" | "rpartition" => {
            let [separator] = bind(method, ["sep"], args)?;
            let separator = separator.unwrap_or_default();
            let separator = string(&separator)?;
            if separator.is_empty() {
                return Err(fault("partition() at an empty text"));
            }
            let parts = match method {
                "partition" => match text.split_once(separator) {
                    Some((before, after)) => [before, separator, after],
                    None => [text, "", ""],
                },
                _ => match text.rsplit_once(separator) {
                    Some((before, after)) => [before, separator, after],
                    None => ["", "", text],
                },
            };
            Value::from(Tuple::from(parts.map(|part| like(value, part.to_owned()))))
        }
        "splitlines" => {
            let [keep] = bind(method, ["keepends"], args)?;
            let keep = keep.is_some_and(|keep| keep.is_true());
            lines(text, keep)?.into_iter().map(|line| like(value, line.to_owned())).collect()
        }
        "startswith" | "endswith" => {
            let [affix, start, stop] = bind(method, ["prefix", "start", "end"], args)?;
            let affix = affix.unwrap_or_default();
            let part = part_of(text, start, stop)?;
            let is = |affix: &str| match (part, method) {
                (None, _) => false,
                (Some((_, part)), "startswith") => part.starts_with(affix),
                (Some((_, part)), _) => part.ends_with(affix),
            };
            if affix.is_tuple() {
                let affixes: Vec<Value> = affix.try_iter()?.collect();
                let mut found = false;
                for affix in &affixes {
                    found |= is(string(affix)?);
                }
                Value::from(found)
            } else {
                Value::from(is(string(&affix)?))
            }
        }
        "find" | "rfind" | "index" | "rindex" => {
            let [wanted, start, stop] = bind(method, ["sub", "start", "end"], args)?;
            let wanted = wanted.unwrap_or_default();
            let wanted = string(&wanted)?;
            let found = part_of(text, start, stop)?.and_then(|(before, part)| {
                let at =
                    if method.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
                at.map(|at| before + part[..at].chars().count())
            });
            match found {
                Some(at) => Value::from(at),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(fault(format!("{method}(): the text is not found"))),
            }
        }
        "count" => {
            let [wanted, start, stop] = bind(method, ["sub", "start", "end"], args)?;
            let wanted = wanted.unwrap_or_default();
            let part = part_of(text, start, stop)?.map_or("", |(_, part)| part);
            Value::from(part.matches(string(&wanted)?).count())
        }
        "replace" => {
            let [old, new, count] =
                bind(method, ["old", "new", "count"], args)?.map(Option::unwrap_or_default);
            let count = if count.is_undefined() { -1 } else { integer(&count)? };
            made(replace(text, string(&old)?, string(&new)?, count)?)?
        }
        "isdigit" => all(&characters::is_digit)?,
        "isdecimal" => all(&|c| characters::decimal(c).is_some())?,
        "isnumeric" => all(&char::is_numeric)?,
        "isalpha" => all(&char::is_alphabetic)?,
        "isalnum" => all(&char::is_alphanumeric)?,
        "isspace" => all(&is_space)?,
        "isascii" => {
            none()?;
            Value::from(text.chars().all(|c| original(c).is_ascii()))
        }
        "isprintable" => {
            none()?;
            Value::from(text.chars().all(|c| is_printable(original(c))))
        }
        "isidentifier" => {
            none()?;
            let mut characters = text.chars().map(original);
            let begins = characters.next().is_some_and(|c| c.is_alphabetic() || c == '_');
            Value::from(begins && characters.all(|c| c.is_alphanumeric() || c == '_'))
        }
        "islower" => none().map(|()| Value::from(is_lower(text)))?,
        "isupper" => none().map(|()| Value::from(is_upper(text)))?,
        "istitle" => {
            none()?;
            let (mut after_letter, mut has_letter, mut is_title) = (false, false, true);
            for c in text.chars().map(original) {
                let is_letter = c.is_uppercase() || c.is_lowercase();
                is_title &= !is_letter || c.is_uppercase() != after_letter;
                has_letter |= is_letter;
                after_letter = is_letter;
            }
            Value::from(is_title && has_letter)
        }
        "join" => {
            let [items] = bind(method, ["iterable"], args)?;
            let items = items.unwrap_or_default();
            if items.is_none() {
                return Err(fault("join() of none"));
            }
            let mut joined = String::new();
            for (at, item) in items.try_iter()?.enumerate() {
                if at > 0 {
                    joined.push_str(text);
                }
                let part = item.as_str();
                let part = part.ok_or_else(|| {
                    fault(format!("join() of texts, and item {at} is a {}", type_name(&item)))
                })?;
                match value.is_safe() && !item.is_safe() {
                    true => joined.push_str(&escape_html(part)?),
                    false => joined.push_str(part),
                }
                limit(joined.len())?;
            }
            made(joined)?
        }
        "center" | "ljust" | "rjust" => {
            let [size, fill] = bind(method, ["width", "fillchar"], args)?;
            let size = width(&size.unwrap_or_default())?;
            let fill = fill.unwrap_or_else(|| Value::from(" "));
            let fill = string(&fill)?;
            if fill.chars().count() != 1 {
                return Err(fault(format!("{method}() needs one character to fill with")));
            }
            let missing = size.saturating_sub(text.chars().count());
            let left = match method {
                "center" => missing / 2 + (missing & size & 1),
                "ljust" => 0,
                _ => missing,
            };
            made(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))?
        }
        "zfill" => {
            let [size] = bind(method, ["width"], args)?;
            let missing = width(&size.unwrap_or_default())?.saturating_sub(text.chars().count());
            let sign = text.len() - text.strip_prefix(['-', '+']).unwrap_or(text).len();
            made(format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]))?
        }
        "expandtabs" => {
            let [size] = bind(method, ["tabsize"], args)?;
            let size = size.map_or(Ok(8), |size| width(&size))?.min(1_000);
            let (mut expanded, mut column) = (String::new(), 0);
            for character in text.chars() {
                limit(expanded.len())?;
                match character {
                    '\t' => {
                        let missing = if size == 0 { 0 } else { size - column % size };
                        expanded.push_str(&" ".repeat(missing));
                        column += missing;
                    }
                    _ => {
                        expanded.push(character);
                        column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
                    }
                }
            }
            made(expanded)?
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(method, ["affix"], args)?;
            let affix = affix.unwrap_or_default();
            let affix = string(&affix)?;
            let rest = if method == "removeprefix" {
                text.strip_prefix(affix)
            } else {
                text.strip_suffix(affix)
            };
            made(rest.unwrap_or(text).to_owned())?
        }
        _ => return Ok(None),
    }))
}

/// `text.replace(old, new, count)`; every occurrence if the count is negative.
pub(super) fn replace(text: &str, old: &str, new: &str, count: i64) -> Outcome<String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(count);
    limit(new.len().saturating_mul(found).saturating_add(text.len()))?;
    Ok(text.replacen(old, new, count))
}

/// `strip`, `lstrip` or `rstrip`.
pub(super) fn strip<'a>(
    text: &'a str,
    method: &str,
    characters: Option<&Value>,
) -> Outcome<&'a str> {
    let characters = match characters {
        Some(characters) if !characters.is_none() => Some(string(characters)?),
        _ => None,
    };
    let is = |c: char| characters.map_or_else(|| is_space(c), |characters| characters.contains(c));
    Ok(match method {
        "strip" => text.trim_matches(is),
        "lstrip" => text.trim_start_matches(is),
        _ => text.trim_end_matches(is),
    })
}

fn split_at_space(text: &str, most: usize, from_right: bool) -> Outcome<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = if from_right {
        text.trim_end_matches(is_space)
    } else {
        text.trim_start_matches(is_space)
    };
    while !rest.is_empty() {
        limit_items(parts.len())?;
        let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let cut = cut.filter(|_| parts.len() < most);
        match cut {
            None if from_right => {
                parts.push(rest.trim_start_matches(|c| is_space(c) && parts.len() < most));
                break;
            }
            None => {
                parts.push(rest.trim_end_matches(|c| is_space(c) && parts.len() < most));
                break;
            }
            Some(at) if from_right => {
                let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
                parts.push(&rest[after..]);
                rest = rest[..at].trim_end_matches(is_space);
            }
            Some(at) => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_space);
            }
        }
    }
    if from_right {
        parts.retain(|part| !part.is_empty());
        parts.reverse();
    }
    Ok(parts)
}

/// `text.splitlines(keepends)`.
pub(super) fn lines(text: &str, keep: bool) -> Outcome<Vec<&str>> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        limit_items(lines.len())?;
        let Some(at) = rest.find(is_end) else {
            lines.push(rest);
            break;
        };
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    Ok(lines)
}

/// The part of a text between two positions in characters, and the number of characters before it; `None` if it would
/// begin after the end.
fn part_of(
    text: &str,
    start: Option<Value>,
    stop: Option<Value>,
) -> Outcome<Option<(usize, &str)>> {
    if start.is_none() && stop.is_none() {
        return Ok(Some((0, text)));
    }
    let length = text.chars().count();
    let beyond = start.as_ref().and_then(Value::as_i64).is_some_and(|start| start > length as i64);
    let range = slice_of(length, start, stop)?;
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Ok((!beyond).then(|| (range.start, &text[byte(range.start)..byte(range.end)])))
}

pub(super) fn is_lower(text: &str) -> bool {
    let has = |is: fn(char) -> bool| text.chars().any(|c| is(original(c)));
    has(char::is_lowercase) && !has(char::is_uppercase)
}

pub(super) fn is_upper(text: &str) -> bool {
    let has = |is: fn(char) -> bool| text.chars().any(|c| is(original(c)));
    has(char::is_uppercase) && !has(char::is_lowercase)
}

/// The first letter of a word: like an upper-case one, except that of two letters in one the second is lower-case.
fn push_title(out: &mut String, character: char) {
    match character {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        _ => {
            for (at, upper) in character.to_uppercase().enumerate() {
                if at == 0 {
                    out.push(upper);
                } else {
                    out.extend(upper.to_lowercase());
                }
            }
        }
    }
}

/// `text.capitalize()`.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let mut out = String::with_capacity(text.len());
    if let Some(first) = characters.next() {
        push_title(&mut out, first);
        out.push_str(&characters.as_str().to_lowercase());
    }
    out
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_letter = false;
    for character in text.chars() {
        if after_letter {
            out.extend(character.to_lowercase());
        } else {
            push_title(&mut out, character);
        }
        let letter = original(character);
        after_letter = letter.is_uppercase() || letter.is_lowercase();
    }
    out
}
