//! Values as Python writes and compares them.

use std::{cmp::Ordering, fmt::Write as _, ops::Range};

use minijinja::{
    Error, Value,
    value::{Kwargs, ValueKind},
};

use super::{
    characters::{is_printable, original, push_escape},
    limits::{MAX_DEPTH, MAX_VALUES, Outcome, fault, limit},
};

/// The arguments of a call by the names of the parameters.
pub(super) fn bind<const N: usize>(
    function: &str,
    names: [&str; N],
    args: &[Value],
) -> Outcome<[Option<Value>; N]> {
    let mut bound = [const { None }; N];
    for (at, value) in args.iter().enumerate() {
        if value.is_kwargs() {
            let kwargs = Kwargs::try_from(value.clone())?;
            for name in kwargs.args() {
                let place = names.iter().position(|known| known == &name);
                let place = place.filter(|place| bound[*place].is_none()).ok_or_else(|| {
                    fault(format!("{function}() has no parameter {name:?} left to set"))
                })?;
                bound[place] = Some(kwargs.get::<Value>(name)?);
            }
        } else {
            let place = bound.get_mut(at).ok_or_else(|| {
                fault(format!("{function}() takes at most {N} arguments, and got {}", args.len()))
            })?;
            *place = Some(value.clone());
        }
    }
    Ok(bound)
}

/// An integer argument.
pub(super) fn integer(value: &Value) -> Outcome<i64> {
    match value.kind() {
        ValueKind::Bool => Ok(value.is_true().into()),
        ValueKind::Number if value.is_integer() => {
            value.as_i64().ok_or_else(|| fault(format!("{value} is too large")))
        }
        _ => Err(fault(format!("a whole number is needed, and this is a {}", type_name(value)))),
    }
}

/// A size that memory is taken for.
pub(super) fn width(value: &Value) -> Outcome<usize> {
    const MOST: i64 = 100_000;
    let width = integer(value)?;
    if width > MOST {
        return Err(fault(format!("a width of {width} characters; allowed are up to {MOST}")));
    }
    Ok(width.max(0) as usize)
}

/// A text argument.
pub(super) fn string(value: &Value) -> Outcome<&str> {
    value
        .as_str()
        .ok_or_else(|| fault(format!("a text is needed, and this is a {}", type_name(value))))
}

/// The name of the type in Python.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map => "dict",
        _ => "object",
    }
}

/// Returns true for an object that is written in its own way, and has no JSON.
pub(super) fn has_own_text(value: &Value) -> bool {
    ["Range", "View", "Group", "Namespace", "Loop"].iter().any(|name| is_a(value, name))
}

/// Returns true for an object of this type, by its name: the engine's own types are not public.
pub(super) fn is_a(value: &Value, name: &str) -> bool {
    let kind = value.as_object().map_or("", |object| object.type_name());
    kind.rsplit("::").next() == Some(name)
}

/// Returns true for a mapping; what `namespace()` makes is none.
pub(super) fn is_mapping(value: &Value) -> bool {
    value.kind() == ValueKind::Map && !is_a(value, "Namespace")
}

/// A number as a float.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => {
            f64::try_from(value.clone()).ok().or_else(|| value.to_string().parse().ok())
        }
        _ => None,
    }
}

/// `a * b` of numbers.
pub(super) fn product(a: &Value, b: &Value) -> Outcome<Value> {
    let (Some(left), Some(right)) = (number(a), number(b)) else {
        let (a, b) = (type_name(a), type_name(b));
        return Err(fault(format!("a {a} and a {b} cannot be multiplied")));
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => {
            a.checked_mul(b).map(from_whole).ok_or_else(|| fault("a product is too large"))
        }
        _ => Ok(Value::from(left * right)),
    }
}

/// An integer or a boolean as an integer.
pub(super) fn whole(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

pub(super) fn from_whole(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

/// `str(value)`.
pub(super) fn text(value: &Value) -> Outcome<String> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> Outcome<String> {
    let mut out = String::new();
    let mut left = MAX_VALUES;
    write_repr(&mut out, value, 0, &mut left)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize, left: &mut usize) -> Outcome<()> {
    if depth > MAX_DEPTH {
        return Err(fault("a value is nested too deeply"));
    }
    *left = left.checked_sub(1).ok_or_else(|| fault("a value is too large to be written"))?;
    limit(out.len())?;
    let mut list = |out: &mut String, open, close, items: &mut dyn Iterator<Item = Value>| {
        out.push(open);
        let mut count = 0;
        for item in items {
            if count > 0 {
                out.push_str(", ");
            }
            count += 1;
            write_repr(out, &item, depth + 1, left)?;
        }
        if open == '(' && count == 1 {
            out.push(',');
        }
        out.push(close);
        Ok::<(), Error>(())
    };
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&float(number(value).unwrap_or(f64::NAN)))
        }
        ValueKind::String if value.is_safe() => {
            out.push_str("Markup(");
            write_quoted(out, value.as_str().unwrap_or_default())?;
            out.push(')');
        }
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default())?,
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => {
            list(out, '(', ')', &mut value.try_iter()?)?;
        }
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() && !has_own_text(value) => {
            list(out, '[', ']', &mut value.try_iter()?)?;
        }
        ValueKind::Map if is_a(value, "Loop") => {
            let (index, length) = (value.get_attr("index")?, value.get_attr("length")?);
            out.push_str(&format!("<LoopContext {index}/{length}>"));
        }
        ValueKind::Map if !has_own_text(value) => {
            out.push('{');
            let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
            for (at, (key, value)) in pairs.into_iter().flatten().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1, left)?;
                out.push_str(": ");
                write_repr(out, &value, depth + 1, left)?;
            }
            out.push('}');
        }
        // Integers, booleans and none.
        _ => write!(out, "{value}").map_err(|_| fault("a value has no text"))?,
    }
    Ok(())
}

/// A text as Python's `repr` quotes it.
fn write_quoted(out: &mut String, text: &str) -> Outcome<()> {
    let has = |wanted| text.chars().any(|c| original(c) == wanted);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        limit(out.len())?;
        match original(character) {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            shown if shown == quote => out.extend(['\\', character]),
            shown if is_printable(shown) => out.push(character),
            hidden => push_escape(out, hidden),
        }
    }
    out.push(quote);
    Ok(())
}

/// `repr` of a float: the shortest digits that give it back.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> Outcome<bool> {
    let mut left = MAX_VALUES;
    equal_within(a, b, 0, &mut left)
}

/// `a == b`, and the number of values that were compared.
pub(super) fn equal_counted(a: &Value, b: &Value) -> Outcome<(bool, usize)> {
    let mut left = MAX_VALUES;
    let equal = equal_within(a, b, 0, &mut left)?;
    Ok((equal, MAX_VALUES - left))
}

fn equal_within(a: &Value, b: &Value, depth: usize, left: &mut usize) -> Outcome<bool> {
    if depth > MAX_DEPTH {
        return Err(fault("values are nested too deeply to compare"));
    }
    *left = left.checked_sub(1).ok_or_else(|| fault("values are too large to compare"))?;
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(a) && is_list(b) {
        if a.is_tuple() != b.is_tuple() {
            return Ok(false);
        }
        let (mut first, mut second) = (a.try_iter()?, b.try_iter()?);
        loop {
            match (first.next(), second.next()) {
                (None, None) => return Ok(true),
                (Some(a), Some(b)) if equal_within(&a, &b, depth + 1, left)? => {}
                _ => return Ok(false),
            }
        }
    }
    if let (ValueKind::Map, ValueKind::Map, Some(first), Some(second)) =
        (a.kind(), b.kind(), a.as_object(), b.as_object())
    {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (key, value) in first.try_iter_pairs().into_iter().flatten() {
            match second.get_value(&key) {
                Some(other) if equal_within(&value, &other, depth + 1, left)? => {}
                _ => return Ok(false),
            }
        }
        return Ok(true);
    }
    Ok(a == b)
}

/// `a < b`, `a == b` or `a > b`; an error if Python cannot order the two.
pub(super) fn compare(a: &Value, b: &Value) -> Outcome<Ordering> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Bool | ValueKind::Number);
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let (mut left, mut a, mut b) = (MAX_VALUES, a.clone(), b.clone());
    loop {
        if is_number(&a) && is_number(&b) {
            // Not a number is neither less nor greater: a sort leaves it in its place.
            return Ok(a.partial_cmp(&b).unwrap_or(Ordering::Equal));
        }
        if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
            return Ok(a.cmp(b));
        }
        if !(is_list(&a) && is_list(&b) && a.is_tuple() == b.is_tuple()) {
            let (a, b) = (type_name(&a), type_name(&b));
            return Err(fault(format!("a {a} and a {b} cannot be ordered")));
        }
        // The first items that are not equal decide.
        let (mut first, mut second) = (a.try_iter()?, b.try_iter()?);
        (a, b) = loop {
            match (first.next(), second.next()) {
                (None, None) => return Ok(Ordering::Equal),
                (None, Some(_)) => return Ok(Ordering::Less),
                (Some(_), None) => return Ok(Ordering::Greater),
                (Some(a), Some(b)) if equal_within(&a, &b, 1, &mut left)? => {}
                (Some(a), Some(b)) => break (a, b),
            }
        };
    }
}

/// The part of a sequence that `[start:stop]` selects.
pub(super) fn slice_of(
    length: usize,
    start: Option<Value>,
    stop: Option<Value>,
) -> Outcome<Range<usize>> {
    let place = |value: Option<Value>, default: usize| {
        let value = value.filter(|value| !value.is_none());
        let Some(value) = value else { return Ok(default) };
        let at = integer(&value)?;
        let at = if at < 0 { at + length as i64 } else { at };
        Ok::<usize, Error>(at.clamp(0, length as i64) as usize)
    };
    let (start, stop) = (place(start, 0)?, place(stop, length)?);
    Ok(start..stop.max(start))
}

/// Sorts by a key; items with equal keys keep their order.
pub(super) fn sort_by_key(
    items: Vec<Value>,
    reverse: bool,
    mut key: impl FnMut(&Value) -> Outcome<Value>,
) -> Outcome<Vec<Value>> {
    let keyed =
        items.into_iter().map(|item| Ok((key(&item)?, item))).collect::<Outcome<Vec<_>>>()?;
    let sorted = merge_sort(keyed, &|(a, _), (b, _)| {
        let order = compare(a, b)?;
        Ok(if reverse { order.reverse() } else { order })
    })?;
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// A stable sort with a comparison that can fail. The standard library's may panic if an order is not total, and that of
/// values is not: not a number is neither less nor greater than another.
fn merge_sort<T>(
    mut items: Vec<T>,
    compare: &impl Fn(&T, &T) -> Outcome<Ordering>,
) -> Outcome<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut sorted = Vec::with_capacity(items.len() + right.len());
    let mut left = merge_sort(items, compare)?.into_iter().peekable();
    let mut right = merge_sort(right, compare)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(a, b)?.is_gt() { right.next() } else { left.next() };
        sorted.extend(next);
    }
    sorted.extend(left);
    sorted.extend(right);
    Ok(sorted)
}
