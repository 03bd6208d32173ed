//! Jinja as the transformers library sets it up for chat templates, with Python's values.
//!
//! The template engine reads most of Jinja's syntax and brings most of its filters; where its result is another than
//! that of Python, this module puts its own in place. `tests/fixtures/chat_templates` has some 1,700 templates with what
//! the library makes of them. `docs/models.md` lists what is not supported.

mod bounds;
mod characters;
mod filters;
mod html;
mod json;
mod lexer;
mod limits;
mod lists;
mod methods;
mod objects;
mod parser;
mod printf;
mod python;
mod rewrite;
mod texts;

use std::time::SystemTime;

use minijinja::{
    Environment, Error, ErrorKind, State, Value, syntax::SyntaxConfig, value::ValueKind,
};

pub(super) use self::characters::Originals;
use self::{
    filters::Args,
    limits::{Outcome, fault, limit},
    python::{bind, number, type_name},
};
use super::strftime::strftime;

/// The mark of errors from `raise_exception`. The user must see these messages of a template.
pub(super) const RAISED: &str = "\u{1}raised:";

/// The longest format of a date, in bytes.
const MAX_DATE_FORMAT: usize = 1024;

/// An environment that can render this template, and nothing else.
///
/// # Errors
/// The template does not compile.
pub(super) fn environment(
    name: &'static str,
    source: &str,
    steps: u64,
) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(steps));
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        if matches!(state.auto_escape(), minijinja::AutoEscape::None) || value.is_safe() {
            let text = python::text(value)?;
            // What a block or macro writes is kept in memory, and no other limit holds for it.
            state.consume_fuel(text.len() as u64 / 16)?;
            out.write_str(&text)?;
        } else {
            let escaped = state.apply_filter("escape", std::slice::from_ref(value))?;
            out.write_str(escaped.as_str().unwrap_or_default())?;
        }
        Ok(())
    });
    // What Jinja does not have.
    for filter in ["split", "lines", "bool", "chain", "zip"] {
        environment.remove_filter(filter);
    }
    for test in ["startingwith", "endingwith", "safe", "int"] {
        environment.remove_test(test);
    }
    environment.remove_global("debug");
    filters::add_to(&mut environment);
    lists::add_to(&mut environment);
    add_tests(&mut environment);
    add_functions(&mut environment);
    add_operators(&mut environment);
    let rewritten =
        rewrite::rewrite(source).map_err(|what| Error::new(ErrorKind::SyntaxError, what))?;
    environment.add_template_owned(name, rewritten.source)?;
    match rewritten.unread {
        // The engine understands what this module does not: then nothing limits what it makes.
        Some(tag) => Err(Error::new(
            ErrorKind::SyntaxError,
            format!("{tag} is not supported in chat templates"),
        )),
        None => Ok(environment),
    }
}

fn add_functions(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(fault(format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", |state: &State<'_, '_>, format: &str| {
        if format.len() > MAX_DATE_FORMAT {
            return Err(fault(format!(
                "the format of a date has more than {MAX_DATE_FORMAT} bytes"
            )));
        }
        state.consume_fuel(format.len() as u64)?;
        Ok::<_, Error>(strftime(format, SystemTime::now()))
    });
    environment.add_function("range", |args: Args| objects::range(&args.into_values()));
    environment.add_function("cycler", |args: Args| {
        bounds::nested(objects::Cycler::of(args.into_values())?)
    });
    environment.add_function("joiner", |args: Args| {
        bounds::nested(objects::Joiner::of(&args.into_values())?)
    });
    environment.add_function("namespace", |state: &State<'_, '_>, args: Args| {
        let pairs = objects::pairs(&args.into_values())?;
        if let Some((name, _)) =
            pairs.iter().find(|(name, _)| name.as_str().is_some_and(|name| name.starts_with('_')))
        {
            return Err(fault(format!(
                "a namespace cannot have a name that begins with _, and got {name}"
            )));
        }
        let values = [bounds::held(state, Value::from_pairs(pairs))?];
        let (defaults,) = minijinja::value::from_args(&values)?;
        minijinja::functions::namespace(defaults)
    });
    environment.add_function("lipsum", |_: Args| {
        Err::<Value, _>(fault("the function lipsum is not supported in chat templates"))
    });
    environment.add_global("dict", Value::from_object(objects::Dict { check: bounds::nested }));
}

fn add_tests(environment: &mut Environment<'static>) {
    let has_items = |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable
        ) || python::is_mapping(value)
    };
    environment.add_test("iterable", move |value: Value| has_items(&value));
    environment.add_test("sequence", move |value: Value| {
        has_items(&value) && !python::is_a(&value, "View")
    });
    environment.add_test("mapping", |value: Value| python::is_mapping(&value));
    environment.add_test("callable", |value: Value| {
        matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
    });
    environment
        .add_test("lower", |value: Value| Ok::<_, Error>(texts::is_lower(&python::text(&value)?)));
    environment
        .add_test("upper", |value: Value| Ok::<_, Error>(texts::is_upper(&python::text(&value)?)));
    for (name, rest) in [("even", 0.0), ("odd", 1.0)] {
        environment.add_test(name, move |value: Value| {
            let number = number(&value)
                .ok_or_else(|| fault(format!("a {} is neither even nor odd", type_name(&value))))?;
            Ok::<_, Error>(number.rem_euclid(2.0) == rest)
        });
    }
}

/// The operators that the engine computes differently; the source of a template is rewritten to use them.
fn add_operators(environment: &mut Environment<'static>) {
    environment.add_function("__percent", |state: &State<'_, '_>, args: Args| {
        made(state, printf::remainder(args.into_values())?)
    });
    environment.add_function("__concat", |state: &State<'_, '_>, args: Args| {
        let mut out = String::new();
        for value in args.into_values() {
            match value.as_str() {
                Some(text) => {
                    limit(out.len() + text.len())?;
                    out.push_str(text);
                }
                None => out.push_str(&python::text(&value)?),
            }
        }
        made(state, Value::from(out))
    });
    for (name, operator) in
        [("__plus", plus as fn(&Value, &Value) -> Outcome<Value>), ("__times", bounds::times)]
    {
        environment.add_function(name, move |state: &State<'_, '_>, args: Args| {
            let mut values = args.into_values().into_iter();
            let first = values.next().ok_or_else(bounds::missing_operand)?;
            values.try_fold(first, |out, value| made(state, operator(&out, &value)?))
        });
    }
    environment.add_function("__nested", |state: &State<'_, '_>, value: Value| {
        bounds::charged(state, value)
    });
    environment
        .add_function("__held", |state: &State<'_, '_>, value: Value| bounds::held(state, value));
    environment.add_function("__list", |state: &State<'_, '_>, value: Value| {
        made(state, bounds::list_of(value)?)
    });
    environment.add_function("__equal", |state: &State<'_, '_>, args: Args| {
        let [a, b] = bind("==", ["a", "b"], &args.into_values())?.map(Option::unwrap_or_default);
        let (equal, count) = python::equal_counted(&a, &b)?;
        state.consume_fuel(count as u64 / 4)?;
        Ok::<_, Error>(equal)
    });
    environment.add_function("__attribute", |args: Args| methods::attribute(&args.into_values()));
    environment.add_function("__positive", |value: Value| match number(&value) {
        Some(_) if value.kind() == ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        Some(_) => Ok(value),
        None => Err(fault(format!("+ of a {}", type_name(&value)))),
    });
    environment.add_function("__sliceable", |value: Value| match value.kind() {
        ValueKind::Undefined => {
            Err(Error::new(ErrorKind::UndefinedError, "a slice of an undefined value"))
        }
        ValueKind::None => Ok(Value::from("")),
        _ => Ok(value),
    });
    for (name, or_equal) in [("__less", false), ("__less_or_equal", true)] {
        environment.add_function(name, move |state: &State<'_, '_>, args: Args| {
            let [a, b] = bind("<", ["a", "b"], &args.into_values())?.map(Option::unwrap_or_default);
            bounds::charge(state, &a)?;
            let order = python::compare(&a, &b)?;
            let is_number = [&a, &b].iter().all(|value| !number(value).is_some_and(f64::is_nan));
            Ok::<_, Error>(is_number && (order.is_lt() || (or_equal && order.is_eq())))
        });
    }
    environment.add_function("__in", |state: &State<'_, '_>, args: Args| {
        let [item, whole] =
            bind("in", ["item", "whole"], &args.into_values())?.map(Option::unwrap_or_default);
        bounds::charge(state, &whole)?;
        contains(&whole, &item)
    });
}

/// `a + b`.
fn plus(a: &Value, b: &Value) -> Outcome<Value> {
    let (Some(left), Some(right)) = (a.as_str(), b.as_str()) else { return lists::add(a, b) };
    limit(left.len() + right.len())?;
    if !a.is_safe() && !b.is_safe() {
        return Ok(Value::from([left, right].concat()));
    }
    let part = |value: &Value, text: &str| match value.is_safe() {
        true => Ok(text.to_owned()),
        false => html::escape_html(text),
    };
    Ok(Value::from_safe_string([part(a, left)?, part(b, right)?].concat()))
}

/// The value that an operator made, for which it takes steps.
fn made(state: &State<'_, '_>, value: Value) -> Outcome<Value> {
    bounds::charge_made(state, &value)?;
    Ok(value)
}

/// `item in whole`.
fn contains(whole: &Value, item: &Value) -> Outcome<bool> {
    match whole.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::String => {
            let wanted = item.as_str();
            let wanted = wanted.ok_or_else(|| {
                fault(format!("only a text can be in a text, and this is a {}", type_name(item)))
            })?;
            Ok(whole.as_str().is_some_and(|whole| whole.contains(wanted)))
        }
        ValueKind::Map => Ok(whole.as_object().is_some_and(|map| map.get_value(item).is_some())),
        ValueKind::Seq | ValueKind::Iterable => {
            for other in whole.try_iter()? {
                if python::equal(&other, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(fault(format!("nothing is in a {}", type_name(whole)))),
    }
}

#[cfg(test)]
#[path = "jinja_tests.rs"]
mod tests;
