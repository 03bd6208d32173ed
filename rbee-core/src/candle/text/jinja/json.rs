//! `tojson` as the transformers library defines it: Python's `json.dumps`, with nothing escaped for HTML.

use minijinja::{Value, value::ValueKind};

use super::{
    characters::original,
    limits::{MAX_DEPTH, MAX_VALUES, Outcome, fault, limit},
    python::{self, bind, has_own_text, type_name},
};

struct Writer {
    ascii: bool,
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sort: bool,
    out: String,
    /// The number of values that may follow.
    left: usize,
}

pub(super) fn tojson(value: Value, args: Vec<Value>) -> Outcome<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort] = bind("tojson", names, &args)?;
    let is_set = |value: &Option<Value>| value.as_ref().is_some_and(Value::is_true);
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(python::width(&indent)?),
        }),
    };
    let (between_items, after_key) = match separators.filter(|separators| !separators.is_none()) {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair: Vec<Value> = pair.try_iter()?.collect();
            match &pair[..] {
                [items, key] => {
                    (python::string(items)?.to_owned(), python::string(key)?.to_owned())
                }
                _ => return Err(fault("separators of tojson are two texts")),
            }
        }
    };
    let mut writer = Writer {
        ascii: is_set(&ascii),
        indent,
        between_items,
        after_key,
        sort: is_set(&sort),
        out: String::new(),
        left: MAX_VALUES,
    };
    writer.value(&value, 0)?;
    Ok(Value::from(writer.out))
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Outcome<()> {
        if depth > MAX_DEPTH {
            return Err(fault("a value is nested too deeply for JSON"));
        }
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| fault("a value is too large for JSON"))?;
        limit(self.out.len())?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Map if !has_own_text(value) => {
                let pairs = value.as_object().and_then(|map| map.try_iter_pairs());
                let mut pairs: Vec<Value> = pairs
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| Value::from(vec![key, value]))
                    .collect();
                if self.sort {
                    pairs = python::sort_by_key(pairs, false, |pair| pair.get_item_by_index(0))?;
                }
                self.items('{', '}', pairs, depth, |writer, pair| {
                    writer.key(&pair.get_item_by_index(0)?)?;
                    writer.out.push_str(&writer.after_key.clone());
                    writer.value(&pair.get_item_by_index(1)?, depth + 1)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable if !has_own_text(value) => {
                let items = value.try_iter()?.collect();
                self.items('[', ']', items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            _ => return Err(fault(format!("a value of type {} has no JSON", type_name(value)))),
        }
        Ok(())
    }

    fn items(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value) -> Outcome<()>,
    ) -> Outcome<()> {
        self.out.push(open);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push_str(&self.between_items);
            }
            self.line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Outcome<()> {
        if let Some(indent) = &self.indent {
            limit(indent.len().saturating_mul(depth).saturating_add(self.out.len()))?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn key(&mut self, key: &Value) -> Outcome<()> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default())?,
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.out.push('"');
                self.value(key, 0)?;
                self.out.push('"');
            }
            _ => return Err(fault(format!("a {} is no key of JSON", type_name(key)))),
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        let text = match python::number(value) {
            _ if value.is_integer() => value.to_string(),
            Some(number) if number.is_nan() => "NaN".into(),
            Some(number) if number.is_infinite() => {
                if number > 0.0 {
                    "Infinity".into()
                } else {
                    "-Infinity".into()
                }
            }
            number => python::float(number.unwrap_or_default()),
        };
        self.out.push_str(&text);
    }

    fn string(&mut self, text: &str) -> Outcome<()> {
        self.out.push('"');
        for character in text.chars() {
            limit(self.out.len())?;
            match original(character) {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                shown if shown < ' ' || (self.ascii && shown >= '\u{7f}') => {
                    let mut units = [0; 2];
                    for unit in shown.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
        Ok(())
    }
}
