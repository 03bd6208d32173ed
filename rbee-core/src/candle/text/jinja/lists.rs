//! The filters of Jinja that work on lists and mappings.

use minijinja::{
    Environment, Error, Value,
    value::{Enumerator, Object, ObjectRepr, Tuple, ValueKind},
};

use super::{
    bounds,
    filters::add_filter,
    limits::{Outcome, collected, fault, limit},
    python::{self, bind, string, text, type_name},
};

pub(super) fn add_to(environment: &mut Environment<'static>) {
    add_filter(environment, "join", join);
    add_filter(environment, "list", |value, _| items(&value).map(Value::from));
    add_filter(environment, "sort", sort);
    add_filter(environment, "unique", unique);
    add_filter(environment, "min", |value, args| extreme("min", &value, args));
    add_filter(environment, "max", |value, args| extreme("max", &value, args));
    add_filter(environment, "sum", sum);
    add_filter(environment, "dictsort", dictsort);
    add_filter(environment, "groupby", groupby);
    add_filter(environment, "batch", batch);
    add_filter(environment, "slice", slice);
    add_filter(environment, "reverse", |value, args| {
        let [] = bind("reverse", [], &args)?;
        bounds::list_of(minijinja::filters::reverse(&value)?)
    });
    add_filter(environment, "items", |value, args| {
        let [] = bind("items", [], &args)?;
        bounds::list_of(minijinja::filters::items(&value)?)
    });
    // The attributes of texts, lists and mappings are their methods, which this filter must not give.
    environment.add_filter("attr", |value: Value, _name: Value| match value.kind() {
        ValueKind::Undefined => Err(fault("an attribute of an undefined value")),
        ValueKind::Plain => Err(fault("the filter attr is not supported for this value")),
        _ => Ok(Value::UNDEFINED),
    });
}

/// The items of a list, the keys of a mapping, or the characters of a text.
fn items(value: &Value) -> Outcome<Vec<Value>> {
    if value.is_none() {
        return Err(fault("none has no items"));
    }
    collected(value.try_iter()?)
}

/// What `attribute=` names of an item: names and numbers between dots.
struct Attribute {
    path: Vec<Value>,
    default: Option<Value>,
}

impl Attribute {
    fn of(attribute: &Value) -> Self {
        let path = match attribute.as_str() {
            Some(path) => path
                .split('.')
                .map(|part| part.parse::<usize>().map_or_else(|_| Value::from(part), Value::from))
                .collect(),
            None => vec![attribute.clone()],
        };
        Self { path, default: None }
    }

    fn get(&self, item: &Value) -> Outcome<Value> {
        let mut found = item.clone();
        for part in &self.path {
            found = match found.kind() {
                ValueKind::None => Value::UNDEFINED,
                ValueKind::String => {
                    let characters = part.as_usize().and_then(|at| found.as_str()?.chars().nth(at));
                    characters.map_or(Value::UNDEFINED, |c| Value::from(c.to_string()))
                }
                _ => found.get_item(part)?,
            };
            if found.is_undefined()
                && let Some(default) = &self.default
            {
                found = default.clone();
            }
        }
        Ok(found)
    }
}

/// The key of an item for sorting: its attribute, in lower case unless the case counts.
fn key_of(
    attribute: Option<&Value>,
    ignore_case: bool,
) -> impl Fn(&Value) -> Outcome<Value> + use<> {
    let attribute = attribute.filter(|attribute| !attribute.is_none()).map(Attribute::of);
    move |item: &Value| {
        let key = match &attribute {
            Some(attribute) => attribute.get(item)?,
            None => item.clone(),
        };
        Ok(match key.as_str() {
            Some(text) if ignore_case => Value::from(text.to_lowercase()),
            _ => key,
        })
    }
}

fn is_set(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}

fn join(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [separator, attribute] = bind("join", ["d", "attribute"], &args)?;
    let separator = separator.map_or(Ok(String::new()), |separator| text(&separator))?;
    let attribute =
        attribute.filter(|attribute| !attribute.is_none()).map(|name| Attribute::of(&name));
    let mut joined = String::new();
    for (at, item) in items(&value)?.iter().enumerate() {
        if at > 0 {
            joined.push_str(&separator);
        }
        match &attribute {
            Some(attribute) => joined.push_str(&text(&attribute.get(item)?)?),
            None => joined.push_str(&text(item)?),
        }
        limit(joined.len())?;
    }
    Ok(Value::from(joined))
}

fn sort(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let names = ["reverse", "case_sensitive", "attribute"];
    let [reverse, case, attribute] = bind("sort", names, &args)?;
    // Several attributes are separated by commas.
    let keys: Vec<_> = match attribute.as_ref().and_then(Value::as_str) {
        Some(list) => {
            list.split(',').map(|name| key_of(Some(&Value::from(name)), !is_set(&case))).collect()
        }
        None => vec![key_of(attribute.as_ref(), !is_set(&case))],
    };
    // Items of a list are compared for equality first, so that equal ones need no order.
    let sorted = python::sort_by_key(items(&value)?, is_set(&reverse), |item| {
        Ok(Value::from(keys.iter().map(|key| key(item)).collect::<Outcome<Vec<_>>>()?))
    })?;
    Ok(Value::from(sorted))
}

/// An error for what Python cannot use as a key.
fn hashable(value: &Value) -> Outcome<()> {
    match value.kind() {
        ValueKind::Map => Err(fault("a mapping cannot be a key")),
        ValueKind::Seq | ValueKind::Iterable if !value.is_tuple() => {
            Err(fault("a list cannot be a key"))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let is_plain = |item: Value| item.as_object().is_none();
            let message = "a tuple with lists, tuples or mappings in it is not supported as a key";
            if value.try_iter()?.all(is_plain) { Ok(()) } else { Err(fault(message)) }
        }
        _ => Ok(()),
    }
}

fn unique(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [case, attribute] = bind("unique", ["case_sensitive", "attribute"], &args)?;
    let key = key_of(attribute.as_ref(), !is_set(&case));
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for item in items(&value)? {
        let key = key(&item)?;
        hashable(&key)?;
        if seen.insert(key) {
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

fn extreme(name: &str, value: &Value, args: Vec<Value>) -> Outcome<Value> {
    let [case, attribute] = bind(name, ["case_sensitive", "attribute"], &args)?;
    let key = key_of(attribute.as_ref(), !is_set(&case));
    let mut best: Option<(Value, Value)> = None;
    for item in items(value)? {
        let key = key(&item)?;
        let is_better = match &best {
            None => true,
            Some((other, _)) if name == "min" => python::compare(&key, other)?.is_lt(),
            Some((other, _)) => python::compare(&key, other)?.is_gt(),
        };
        if is_better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

fn sum(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [attribute, start] = bind("sum", ["attribute", "start"], &args)?;
    let attribute =
        attribute.filter(|attribute| !attribute.is_none()).map(|name| Attribute::of(&name));
    let mut total = start.unwrap_or_else(|| Value::from(0));
    if total.as_str().is_some() {
        return Err(fault("sum cannot add texts"));
    }
    for item in items(&value)? {
        let item = match &attribute {
            Some(attribute) => attribute.get(&item)?,
            None => item,
        };
        total = add(&total, &item)?;
    }
    Ok(total)
}

/// `a + b` of numbers or of lists.
pub(super) fn add(a: &Value, b: &Value) -> Outcome<Value> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Bool | ValueKind::Number);
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_number(a) && is_number(b) {
        if let (Some(a), Some(b)) = (python::whole(a), python::whole(b)) {
            let sum = a.checked_add(b).ok_or_else(|| fault("a sum is too large"))?;
            return Ok(python::from_whole(sum));
        }
        return Ok(Value::from(
            python::number(a).unwrap_or(f64::NAN) + python::number(b).unwrap_or(f64::NAN),
        ));
    }
    if is_list(a) && is_list(b) && a.is_tuple() == b.is_tuple() {
        let both = collected(a.try_iter()?.chain(b.try_iter()?))?;
        return Ok(if a.is_tuple() { Value::from(Tuple::from(both)) } else { Value::from(both) });
    }
    Err(fault(format!("a {} and a {} cannot be added", type_name(a), type_name(b))))
}

fn dictsort(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [case, by, reverse] = bind("dictsort", ["case_sensitive", "by", "reverse"], &args)?;
    let by = by.unwrap_or_else(|| Value::from("key"));
    let at = match string(&by)? {
        "key" => 0,
        "value" => 1,
        _ => return Err(fault("dictsort sorts by \"key\" or by \"value\"")),
    };
    let pairs = value
        .as_object()
        .filter(|_| value.kind() == ValueKind::Map)
        .and_then(|map| map.try_iter_pairs());
    let pairs = pairs.ok_or_else(|| fault(format!("dictsort of a {}", type_name(&value))))?;
    let pairs = pairs.map(|(key, value)| Value::from(Tuple::from([key, value]))).collect();
    let key = key_of(Some(&Value::from(at)), !is_set(&case));
    python::sort_by_key(pairs, is_set(&reverse), key).map(Value::from)
}

/// A group of `groupby`: a tuple with names.
#[derive(Debug)]
struct Group {
    key: Value,
    items: Value,
}

impl Object for Group {
    fn repr(self: &std::sync::Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &std::sync::Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_str(), key.as_usize()) {
            (Some("grouper"), _) | (_, Some(0)) => Some(self.key.clone()),
            (Some("list"), _) | (_, Some(1)) => Some(self.items.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &std::sync::Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }

    fn render(self: &std::sync::Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pair = Value::from(Tuple::from([self.key.clone(), self.items.clone()]));
        f.write_str(&python::repr(&pair).map_err(|_| std::fmt::Error)?)
    }
}

fn groupby(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [attribute, default, case] =
        bind("groupby", ["attribute", "default", "case_sensitive"], &args)?;
    let attribute = attribute.ok_or_else(|| fault("groupby needs an attribute"))?;
    let attribute = Attribute { default, ..Attribute::of(&attribute) };
    let key = |item: &Value| {
        let key = attribute.get(item)?;
        Ok::<Value, Error>(match key.as_str() {
            Some(text) if !is_set(&case) => Value::from(text.to_lowercase()),
            _ => key,
        })
    };
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for item in python::sort_by_key(items(&value)?, false, key)? {
        let key = key(&item)?;
        match groups.last_mut() {
            Some((last, _, group)) if python::equal(last, &key)? => group.push(item),
            _ => {
                // A group has the key as its first item writes it.
                let shown = attribute.get(&item)?;
                groups.push((key, shown, vec![item]));
            }
        }
    }
    let group = |(_, key, items): (Value, Value, Vec<Value>)| {
        Value::from_object(Group { key, items: items.into() })
    };
    bounds::nested(groups.into_iter().map(group).collect())
}

fn batch(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [size, fill] = bind("batch", ["linecount", "fill_with"], &args)?;
    let size = python::integer(&size.unwrap_or_default())?.max(0) as usize;
    let fill = fill.filter(|fill| !fill.is_none());
    let (mut rows, mut row): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for item in items(&value)? {
        if row.len() == size {
            rows.push(std::mem::take(&mut row).into());
        }
        row.push(item);
    }
    if !row.is_empty() {
        if let Some(fill) = fill {
            let missing = size.saturating_sub(row.len()).min(100_000);
            row.extend(std::iter::repeat_n(fill, missing));
        }
        rows.push(row.into());
    }
    bounds::nested(rows.into())
}

fn slice(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let [slices, fill] = bind("slice", ["slices", "fill_with"], &args)?;
    let slices = python::integer(&slices.unwrap_or_default())?;
    if !(1..=100_000).contains(&slices) {
        return Err(fault(format!("slice into {slices} parts; allowed are 1 to 100000")));
    }
    let (slices, items) = (slices as usize, items(&value)?);
    let fill = fill.filter(|fill| !fill.is_none());
    let (each, more) = (items.len() / slices, items.len() % slices);
    let mut rest = items.into_iter();
    let mut parts: Vec<Value> = Vec::with_capacity(slices);
    for at in 0..slices {
        let mut part: Vec<Value> = rest.by_ref().take(each + usize::from(at < more)).collect();
        if at >= more {
            part.extend(fill.clone());
        }
        parts.push(part.into());
    }
    bounds::nested(parts.into())
}
