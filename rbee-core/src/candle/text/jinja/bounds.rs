//! Checks of what a template makes: how deep its values are nested, and how many steps they take.
//!
//! Values are dropped, compared and hashed level by level on the stack. So no value may be nested deeply, even if it is
//! never written: what makes a value of other values checks it here.

use minijinja::{Error, ErrorKind, State, Value, value::ValueKind};

use super::{
    limits::{MAX_DEPTH, MAX_VALUES, Outcome, collected, fault, limit, limit_items},
    objects::{Bound, Cycler, Joiner},
    python::{self, is_a},
};

/// Takes the steps of work on a value: one for each item, or for each 64 bytes of a text.
pub(super) fn charge(state: &State<'_, '_>, value: &Value) -> Outcome<()> {
    let length = match value.as_str() {
        Some(text) => text.len() / 64,
        None => value.len().unwrap_or(0),
    };
    if length > 0 { state.consume_fuel(length as u64) } else { Ok(()) }
}

/// Takes the steps of the memory of a value that was made: one for each 16 bytes of a text, and for each item.
pub(super) fn charge_made(state: &State<'_, '_>, value: &Value) -> Outcome<()> {
    let steps = match value.as_str() {
        Some(text) => {
            limit(text.len())?;
            text.len() / 16
        }
        None => value.len().unwrap_or(0),
    };
    if steps > 0 { state.consume_fuel(steps as u64) } else { Ok(()) }
}

/// The value, if it is not nested too deeply.
pub(super) fn nested(value: Value) -> Outcome<Value> {
    Walk { left: MAX_VALUES, in_namespace: false }.value(&value, 0)?;
    Ok(value)
}

/// The value, if it is not nested too deeply. Takes steps for the values in it.
pub(super) fn charged(state: &State<'_, '_>, value: Value) -> Outcome<Value> {
    walk(state, &value, false)?;
    Ok(value)
}

/// The value, if a namespace may hold it. A namespace changes after it was made: in a namespace, it could be nested
/// without a limit.
pub(super) fn held(state: &State<'_, '_>, value: Value) -> Outcome<Value> {
    walk(state, &value, true)?;
    Ok(value)
}

fn walk(state: &State<'_, '_>, value: &Value, in_namespace: bool) -> Outcome<()> {
    let mut walk = Walk { left: MAX_VALUES, in_namespace };
    walk.value(value, 0)?;
    let steps = (MAX_VALUES - walk.left) / 4;
    if steps > 0 { state.consume_fuel(steps as u64) } else { Ok(()) }
}

struct Walk {
    /// The number of values that may follow.
    left: usize,
    in_namespace: bool,
}

impl Walk {
    fn value(&mut self, value: &Value, depth: usize) -> Outcome<()> {
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth >= MAX_DEPTH {
            return Err(fault(format!(
                "a value is nested too deeply: {MAX_DEPTH} levels are allowed"
            )));
        }
        if self.in_namespace && ["Namespace", "Loop", "Macro"].iter().any(|name| is_a(value, name))
        {
            return Err(fault(
                "a namespace, a macro or `loop` in a namespace is not supported in chat templates",
            ));
        }
        if let Some(bound) = object.downcast_ref::<Bound>() {
            return self.part(bound.value(), depth);
        }
        if let Some(cycler) = object.downcast_ref::<Cycler>() {
            return cycler.values().iter().try_for_each(|item| self.part(item, depth));
        }
        if let Some(joiner) = object.downcast_ref::<Joiner>() {
            return self.part(joiner.value(), depth);
        }
        match value.kind() {
            ValueKind::Map => {
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    self.part(&key, depth)?;
                    self.part(&value, depth)?;
                }
            }
            ValueKind::Seq | ValueKind::Iterable => {
                for item in object.try_iter().into_iter().flatten() {
                    self.part(&item, depth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, depth: usize) -> Outcome<()> {
        // Long lists of plain values are no danger: their items only take steps.
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None if part.as_object().is_some() => {
                return Err(fault("a list of lists or mappings has too many values in it"));
            }
            None => {}
        }
        self.value(part, depth + 1)
    }
}

/// `a * b` of numbers, or of a text or list and a number.
pub(super) fn times(a: &Value, b: &Value) -> Outcome<Value> {
    let is_many = |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable)
    };
    let (many, count) = match (is_many(a), is_many(b)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return python::product(a, b),
    };
    let count = usize::try_from(python::integer(count)?).unwrap_or(0);
    if let Some(text) = many.as_str() {
        limit(text.len().saturating_mul(count))?;
        return Ok(super::html::like(many, text.repeat(count)));
    }
    let items = collected(many.try_iter()?)?;
    limit_items(items.len().saturating_mul(count))?;
    let length = items.len() * count;
    let items: Vec<Value> = items.into_iter().cycle().take(length).collect();
    Ok(if many.is_tuple() {
        Value::from(minijinja::value::Tuple::from(items))
    } else {
        Value::from(items)
    })
}

/// The items of what the engine computes only when it is read, which would hold what it is computed of.
pub(super) fn list_of(value: Value) -> Outcome<Value> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if !is_list || value.is_tuple() || value.downcast_object_ref::<Vec<Value>>().is_some() {
        return Ok(value);
    }
    collected(value.try_iter()?).map(Value::from)
}

/// An error for arguments that no operator of a template gives.
pub(super) fn missing_operand() -> Error {
    Error::new(ErrorKind::MissingArgument, "an operator without its operands")
}
