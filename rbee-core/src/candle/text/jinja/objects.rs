//! Python's objects that have no counterpart in the template engine.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Enumerator, Kwargs, Object, ObjectExt, ObjectRepr, ValueKind},
};

use super::{
    limits::{Outcome, collected, fault},
    python::{self, bind, integer},
};

/// The most items of a range, as in Jinja's sandbox.
const MAX_RANGE: i64 = 100_000;

#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: i64,
}

/// `range(stop)`, `range(start, stop)` and `range(start, stop, step)`.
pub(super) fn range(args: &[Value]) -> Outcome<Value> {
    let numbers = args.iter().map(integer).collect::<Outcome<Vec<i64>>>()?;
    let (start, stop, step) = match numbers[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] if step != 0 => (start, stop, step),
        [_, _, _] => return Err(fault("range() with a step of 0")),
        _ => return Err(fault(format!("range() takes 1 to 3 arguments, and got {}", args.len()))),
    };
    let distance = if step > 0 {
        i128::from(stop) - i128::from(start)
    } else {
        i128::from(start) - i128::from(stop)
    };
    let length =
        (distance + i128::from(step.unsigned_abs()) - 1).max(0) / i128::from(step.unsigned_abs());
    let length = i64::try_from(length).ok().filter(|length| *length <= MAX_RANGE);
    let length = length.ok_or_else(|| fault(format!("a range of more than {MAX_RANGE} items")))?;
    Ok(Value::from_object(Range { start, stop, step, length }))
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_i64().filter(|index| (0..self.length).contains(index))?;
        Some(Value::from(self.start + index * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length as usize)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range({}, {}", self.start, self.stop)?;
        if self.step == 1 { f.write_str(")") } else { write!(f, ", {})", self.step) }
    }
}

/// The keys, values or items of a mapping.
#[derive(Debug)]
pub(super) struct View {
    kind: &'static str,
    items: Vec<Value>,
}

impl View {
    pub(super) fn of(map: &Value, kind: &'static str) -> Outcome<Value> {
        let pairs = map.as_object().and_then(|map| map.try_iter_pairs());
        let pairs = pairs.ok_or_else(|| fault("this is no mapping"))?;
        let items = pairs.map(|(key, value)| match kind {
            "keys" => key,
            "values" => value,
            _ => Value::from(minijinja::value::Tuple::from([key, value])),
        });
        Ok(Value::from_object(Self { kind, items: items.collect() }))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|view| Box::new(view.items.iter().cloned()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = Value::from(self.items.clone());
        write!(f, "dict_{}({})", self.kind, python::repr(&items).map_err(|_| fmt::Error)?)
    }
}

/// `cycler('a', 'b')`: gives its values one after the other.
#[derive(Debug)]
pub(super) struct Cycler {
    items: Vec<Value>,
    next: AtomicUsize,
}

impl Cycler {
    pub(super) fn of(items: Vec<Value>) -> Outcome<Value> {
        if items.is_empty() {
            return Err(fault("cycler() needs at least 1 value"));
        }
        Ok(Value::from_object(Self { items, next: AtomicUsize::new(0) }))
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.items
    }

    fn current(&self) -> Option<Value> {
        self.items.get(self.next.load(Ordering::Relaxed)).cloned()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.current())?
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let [] = bind(method, [], args)?;
        match method {
            "next" => {
                let current = self.current().unwrap_or_default();
                let next = (self.next.load(Ordering::Relaxed) + 1) % self.items.len();
                self.next.store(next, Ordering::Relaxed);
                Ok(current)
            }
            "reset" => {
                self.next.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `joiner(', ')`: nothing the first time that it is called, and the separator from then on.
#[derive(Debug)]
pub(super) struct Joiner {
    separator: Value,
    calls: AtomicUsize,
}

impl Joiner {
    pub(super) fn of(args: &[Value]) -> Outcome<Value> {
        let [separator] = bind("joiner", ["sep"], args)?;
        let separator = separator.unwrap_or_else(|| Value::from(", "));
        Ok(Value::from_object(Self { separator, calls: AtomicUsize::new(0) }))
    }

    pub(super) fn value(&self) -> &Value {
        &self.separator
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let [] = bind("joiner", [], args)?;
        let is_first = self.calls.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if is_first { Value::from("") } else { self.separator.clone() })
    }
}

/// The pairs of `dict(mapping or list of pairs, name=value, …)`.
pub(super) fn pairs(args: &[Value]) -> Outcome<Vec<(Value, Value)>> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    let mut set = |key: Value, value: Value| match pairs.iter_mut().find(|(known, _)| *known == key)
    {
        Some((_, old)) => *old = value,
        None => pairs.push((key, value)),
    };
    for (at, arg) in args.iter().enumerate() {
        if arg.is_kwargs() {
            let kwargs = Kwargs::try_from(arg.clone())?;
            for name in kwargs.args() {
                set(Value::from(name), kwargs.get::<Value>(name)?);
            }
        } else if at > 0 {
            return Err(fault("dict() takes at most 1 argument without a name"));
        } else if let (ValueKind::Map, Some(map)) = (arg.kind(), arg.as_object()) {
            for (key, value) in map.try_iter_pairs().into_iter().flatten() {
                set(key, value);
            }
        } else {
            for pair in arg.try_iter()? {
                let pair: Vec<Value> = pair.try_iter()?.collect();
                let [key, value] = &pair[..] else {
                    return Err(fault("dict() of a list needs pairs"));
                };
                set(key.clone(), value.clone());
            }
        }
    }
    Ok(pairs)
}

/// The type `dict`, which templates call.
#[derive(Debug)]
pub(super) struct Dict {
    /// Refuses a value that must not be made.
    pub(super) check: fn(Value) -> Outcome<Value>,
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        (self.check)(Value::from_pairs(pairs(args)?))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        if method != "fromkeys" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        let [keys, value] = bind(method, ["iterable", "value"], args)?;
        let value = value.unwrap_or_else(|| Value::from(()));
        let pairs = keys.unwrap_or_default().try_iter()?.map(|key| (key, value.clone()));
        (self.check)(Value::from_pairs(collected(pairs)?))
    }
}

/// A method that is named and not called: `message.items`.
#[derive(Debug)]
pub(super) struct Bound {
    of: Value,
    method: &'static str,
}

impl Bound {
    pub(super) fn of(of: Value, method: &'static str) -> Value {
        Value::from_object(Self { of, method })
    }

    pub(super) fn value(&self) -> &Value {
        &self.of
    }
}

impl Object for Bound {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.of.call_method(state, self.method, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of {} object>", self.method, python::type_name(&self.of))
    }
}
