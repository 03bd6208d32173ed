//! The methods of Python's texts, lists and mappings.

use minijinja::{Error, ErrorKind, State, Value, value::ValueKind};

use super::{
    bounds,
    limits::{Outcome, fault, limit},
    objects::{self, View},
    python::{self, bind, is_mapping, repr, slice_of, string, type_name},
    texts,
};

/// The names of the methods: `x.name` is the method even if a mapping has a key of that name.
pub(super) const OF_MAPS: &[&str] = &[
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];
const OF_LISTS: &[&str] = &[
    "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse",
    "sort",
];
const OF_TEXTS: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// The name of a method of this value, if it has one of this name.
pub(super) fn named(value: &Value, name: &str) -> Option<&'static str> {
    let names = match value.kind() {
        ValueKind::Map if is_mapping(value) => OF_MAPS,
        ValueKind::String => OF_TEXTS,
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => &["count", "index"][..],
        ValueKind::Seq => OF_LISTS,
        _ => &[],
    };
    names.iter().find(|known| **known == name).copied()
}

/// Returns true for the name of any of these methods.
pub(super) fn is_name(name: &str) -> bool {
    [OF_MAPS, OF_LISTS, OF_TEXTS].iter().any(|names| names.contains(&name))
}

/// Calls a method.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Outcome<Value> {
    bounds::charge(state, value)?;
    let found = match value.kind() {
        ValueKind::String => texts::call(value, value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Map if is_mapping(value) => of_map(value, method, args)?,
        ValueKind::Seq | ValueKind::Iterable => of_list(value, method, args)?,
        ValueKind::Number if method == "is_integer" => {
            Some(Value::from(python::number(value).is_some_and(|number| number.fract() == 0.0)))
        }
        _ => None,
    };
    match found {
        Some(found) => {
            bounds::charge_made(state, &found)?;
            Ok(found)
        }
        None if value.kind() == ValueKind::String && method == "format" => {
            check_size(value.as_str().unwrap_or_default(), args)?;
            if value.is_safe() {
                return Err(fault("format() of safe HTML is not supported in chat templates"));
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
        None => {
            let what =
                format!("a {} has no method {method:?} that a template may call", type_name(value));
            Err(Error::new(ErrorKind::UnknownMethod, what))
        }
    }
}

/// Refuses a format that would take much memory.
fn check_size(format: &str, args: &[Value]) -> Outcome<()> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if format.char_indices().any(|(at, c)| c.is_ascii_digit() && digits(&format[at..]) > 4) {
        return Err(fault("a width or precision in format() is more than 9,999"));
    }
    let mut longest = 10_000;
    for arg in args {
        longest = longest.max(python::text(arg)?.len());
    }
    limit(format.matches('{').count().saturating_mul(longest))
}

fn of_map(value: &Value, method: &str, args: &[Value]) -> Outcome<Option<Value>> {
    Ok(Some(match method {
        "get" => {
            let [key, default] = bind(method, ["key", "default"], args)?;
            let key = key.ok_or_else(|| fault("get() needs a key"))?;
            let found = value.as_object().and_then(|map| map.get_value(&key));
            found.or(default).unwrap_or_else(|| Value::from(()))
        }
        "items" | "keys" | "values" => {
            let [] = bind(method, [], args)?;
            View::of(
                value,
                if method == "items" {
                    "items"
                } else if method == "keys" {
                    "keys"
                } else {
                    "values"
                },
            )?
        }
        "copy" => {
            let [] = bind(method, [], args)?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

fn of_list(value: &Value, method: &str, args: &[Value]) -> Outcome<Option<Value>> {
    Ok(Some(match method {
        "index" => {
            let [item, start, stop] = bind(method, ["value", "start", "stop"], args)?;
            let item = item.ok_or_else(|| fault("index() needs a value"))?;
            let items: Vec<Value> = value.try_iter()?.collect();
            let within = slice_of(items.len(), start, stop)?;
            for at in within {
                if python::equal(&items[at], &item)? {
                    return Ok(Some(Value::from(at)));
                }
            }
            return Err(fault("index(): the value is not in the list"));
        }
        "count" => {
            let [item] = bind(method, ["value"], args)?;
            let item = item.ok_or_else(|| fault("count() needs a value"))?;
            let mut count = 0;
            for other in value.try_iter()? {
                count += i64::from(python::equal(&other, &item)?);
            }
            Value::from(count)
        }
        "copy" => {
            let [] = bind(method, [], args)?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

/// What a name after a dot means: the method of that name, else what the value has under it.
pub(super) fn attribute(args: &[Value]) -> Outcome<Value> {
    let [value, name] = bind("attribute", ["value", "name"], args)?.map(Option::unwrap_or_default);
    let name = string(&name)?;
    match named(&value, name) {
        Some(method) => Ok(objects::Bound::of(value, method)),
        None if value.is_undefined() => Err(Error::new(
            ErrorKind::UndefinedError,
            format!("the value before .{name} is undefined: {}", repr(&value)?),
        )),
        None => value.get_attr(name),
    }
}
