//! Python's `%` with a text on its left: `"%s has %d" % (a, b)`.

use std::{iter::Peekable, str::Chars};

use minijinja::{Value, value::ValueKind};

use super::{
    characters::{is_printable, original, push_escape},
    html::{escape_html, like},
    limits::{Outcome, fault, limit},
    python::{self, bind, type_name},
};

/// The largest width and precision.
const MOST: usize = 10_000;

#[derive(Default)]
struct Spec {
    key: Option<String>,
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// A text with values put in. In safe HTML the values are escaped.
fn percent(format: &str, values: &Value, is_html: bool) -> Outcome<String> {
    let is_tuple = values.is_tuple();
    let list: Vec<Value> =
        if is_tuple { values.try_iter()?.collect() } else { vec![values.clone()] };
    let mut next = list.iter();
    let mut missing =
        || next.next().cloned().ok_or_else(|| fault("there are fewer values than % in the text"));
    let (mut out, mut by_key) = (String::with_capacity(format.len()), false);
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        limit(out.len())?;
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut spec = Spec::default();
        if characters.next_if_eq(&'(').is_some() {
            let mut key = String::new();
            let mut depth = 1;
            loop {
                match characters.next() {
                    None => return Err(fault("a key in %(…) has no end")),
                    Some(')') if depth == 1 => break,
                    Some(c) => {
                        depth += i32::from(c == '(') - i32::from(c == ')');
                        key.push(c);
                    }
                }
            }
            spec.key = Some(key);
        }
        while let Some(flag) = characters.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => spec.alternate = true,
            }
        }
        let width = size(&mut characters, &mut missing)?;
        spec.left |= width < 0;
        spec.width = width.unsigned_abs() as usize;
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(size(&mut characters, &mut missing)?.max(0) as usize);
        }
        if spec.width.max(spec.precision.unwrap_or(0)) > MOST {
            return Err(fault(format!("a width or precision in a % format is more than {MOST}")));
        }
        while characters.next_if(|c| "hlL".contains(*c)).is_some() {}
        let kind = characters.next().ok_or_else(|| fault("a % format has no end"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match &spec.key {
            Some(key) if values.kind() == ValueKind::Map => {
                by_key = true;
                let found = values.get_item(&Value::from(key.as_str()))?;
                if found.is_undefined() {
                    return Err(fault(format!("%({key}) is not among the values")));
                }
                found
            }
            Some(_) => return Err(fault("%(…) needs a mapping of values")),
            None => missing()?,
        };
        if is_html && matches!(kind, 's' | 'r' | 'a') {
            let mut part = String::new();
            convert(&mut part, kind, &spec, &value)?;
            let part = if value.is_safe() { part } else { escape_html(&part)? };
            out.push_str(&part);
        } else {
            convert(&mut out, kind, &spec, &value)?;
        }
    }
    limit(out.len())?;
    let is_mapping = values.kind() == ValueKind::Map;
    if next.next().is_some() && !(by_key || (is_mapping && !is_tuple)) {
        let is_list = matches!(values.kind(), ValueKind::Seq | ValueKind::Iterable) && !is_tuple;
        // Python looks for `values[key]`, which lists have too.
        if !(is_list && list.len() == 1) {
            return Err(fault("there are more values than % in the text"));
        }
    }
    Ok(out)
}

/// A width or precision: digits, none for 0, or `*` for the next value.
fn size(
    characters: &mut Peekable<Chars<'_>>,
    missing: &mut impl FnMut() -> Outcome<Value>,
) -> Outcome<i64> {
    if characters.next_if_eq(&'*').is_some() {
        return python::integer(&missing()?);
    }
    let mut size = 0_i64;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        size = size.saturating_mul(10).saturating_add(i64::from(u32::from(digit) - u32::from('0')));
    }
    Ok(size)
}

fn convert(out: &mut String, kind: char, spec: &Spec, value: &Value) -> Outcome<()> {
    let cut = |text: String| match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text,
    };
    match kind {
        's' => pad(out, spec, "", &cut(python::text(value)?), false),
        'r' => pad(out, spec, "", &cut(python::repr(value)?), false),
        'a' => {
            let mut ascii = String::new();
            for character in python::repr(value)?.chars() {
                limit(ascii.len())?;
                if original(character).is_ascii() || !is_printable(original(character)) {
                    ascii.push(character);
                } else {
                    push_escape(&mut ascii, original(character));
                }
            }
            pad(out, spec, "", &cut(ascii), false);
        }
        'c' => {
            let character = match value.as_str() {
                Some(text) if text.chars().count() == 1 => text.to_owned(),
                Some(_) => return Err(fault("%c needs one character")),
                None => {
                    let code = python::integer(value)?;
                    let code = u32::try_from(code).ok().and_then(char::from_u32);
                    code.ok_or_else(|| fault("%c needs the number of a character"))?.to_string()
                }
            };
            pad(out, spec, "", &character, false);
        }
        'd' | 'i' | 'u' => {
            let digits = match python::number(value) {
                _ if value.kind() == ValueKind::Number && value.is_integer() => value.to_string(),
                Some(number) if number.is_finite() => format!("{:.0}", number.trunc()),
                _ => {
                    return Err(fault(format!(
                        "%{kind} needs a number, and this is a {}",
                        type_name(value)
                    )));
                }
            };
            whole(out, spec, &digits, "");
        }
        'x' | 'X' | 'o' => {
            let number = python::integer(value)?;
            let (size, sign) = (number.unsigned_abs(), if number < 0 { "-" } else { "" });
            let (digits, mark) = match kind {
                'x' => (format!("{size:x}"), "0x"),
                'X' => (format!("{size:X}"), "0X"),
                _ => (format!("{size:o}"), "0o"),
            };
            whole(out, spec, &format!("{sign}{digits}"), if spec.alternate { mark } else { "" });
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let number = python::number(value).ok_or_else(|| {
                fault(format!("%{kind} needs a number, and this is a {}", type_name(value)))
            })?;
            let mut text = float(kind.to_ascii_lowercase(), number, spec);
            if kind.is_ascii_uppercase() {
                text = text.to_ascii_uppercase();
            }
            signed(out, spec, &text, "", number.is_finite());
        }
        other => {
            return Err(fault(format!(
                "%{other} is no format; allowed are %s, %r, %a, %c, %d, %i, %u, %x, %X, %o, %e, %E, %f, %F, %g, %G and %%"
            )));
        }
    }
    Ok(())
}

fn whole(out: &mut String, spec: &Spec, digits: &str, mark: &str) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let zeros = spec.precision.unwrap_or(0).saturating_sub(digits.len());
    signed(out, spec, &format!("{sign}{}{digits}", "0".repeat(zeros)), mark, true);
}

fn signed(out: &mut String, spec: &Spec, text: &str, mark: &str, zeros: bool) {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None if spec.plus => ("+", text),
        None if spec.space => (" ", text),
        None => ("", text),
    };
    pad(out, spec, &format!("{sign}{mark}"), digits, zeros);
}

fn pad(out: &mut String, spec: &Spec, prefix: &str, text: &str, zeros: bool) {
    let missing = spec.width.saturating_sub(prefix.len() + text.chars().count());
    let zeros = zeros && spec.zero && !spec.left;
    if !spec.left && !zeros {
        out.push_str(&" ".repeat(missing));
    }
    out.push_str(prefix);
    if zeros {
        out.push_str(&"0".repeat(missing));
    }
    out.push_str(text);
    if spec.left {
        out.push_str(&" ".repeat(missing));
    }
}

fn float(kind: char, number: f64, spec: &Spec) -> String {
    if !number.is_finite() {
        return python::float(number);
    }
    let precision = spec.precision.unwrap_or(6);
    let scientific = |precision: usize| {
        let text = format!("{number:.precision$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        (digits.to_owned(), exponent.parse::<i64>().unwrap_or(0))
    };
    let joined = |digits: &str, exponent: i64| {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    };
    match kind {
        'f' => format!("{number:.precision$}"),
        'e' => {
            let (digits, exponent) = scientific(precision);
            joined(&digits, exponent)
        }
        _ => {
            let precision = precision.max(1);
            let (digits, exponent) = scientific(precision - 1);
            let short = |digits: &str| match digits.contains('.') && !spec.alternate {
                true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => digits.to_owned(),
            };
            if (-4..precision as i64).contains(&exponent) {
                let decimals = (precision as i64 - 1 - exponent) as usize;
                short(&format!("{number:.decimals$}"))
            } else {
                joined(&short(&digits), exponent)
            }
        }
    }
}

/// The filter `format`: `%` with its arguments as values.
pub(super) fn format(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let format = python::text(&value)?;
    let (named, listed): (Vec<Value>, Vec<Value>) = args.into_iter().partition(Value::is_kwargs);
    let values = match named.into_iter().next() {
        Some(_) if !listed.is_empty() => {
            return Err(fault("format takes values by position or by name, not both"));
        }
        Some(named) => {
            let named = minijinja::value::Kwargs::try_from(named)?;
            let pairs: Outcome<Vec<(String, Value)>> =
                named.args().map(|name| Ok((name.to_owned(), named.get::<Value>(name)?))).collect();
            Value::from_pairs(pairs?)
        }
        None => Value::from(minijinja::value::Tuple::from(listed)),
    };
    let text = percent(&format, &values, value.is_safe())?;
    Ok(like(&value, text))
}

/// `a % b` of any two values.
pub(super) fn remainder(args: Vec<Value>) -> Outcome<Value> {
    let [a, b] = bind("%", ["a", "b"], &args)?.map(Option::unwrap_or_default);
    if let Some(format) = a.as_str() {
        return Ok(like(&a, percent(format, &b, a.is_safe())?));
    }
    let (Some(left), Some(right)) = (python::number(&a), python::number(&b)) else {
        return Err(fault(format!("a {} % a {} cannot be computed", type_name(&a), type_name(&b))));
    };
    let is_whole = |value: &Value| value.kind() == ValueKind::Bool || value.is_integer();
    if is_whole(&a) && is_whole(&b) {
        let as_whole = |value: &Value| match value.kind() {
            ValueKind::Bool => Ok(i128::from(value.is_true())),
            _ => i128::try_from(value.clone()),
        };
        let (a, b) = (as_whole(&a)?, as_whole(&b)?);
        if b == 0 {
            return Err(fault("% by 0"));
        }
        let rest = a.checked_rem(b).unwrap_or(0);
        let rest = if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest };
        return Ok(i64::try_from(rest).map_or_else(|_| Value::from(rest), Value::from));
    }
    if right == 0.0 {
        return Err(fault("% by 0"));
    }
    let rest = left % right;
    Ok(Value::from(if rest == 0.0 {
        0.0_f64.copysign(right)
    } else if (rest < 0.0) != (right < 0.0) {
        rest + right
    } else {
        rest
    }))
}
