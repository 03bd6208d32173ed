//! YAML as a tree in which everything knows its line. Text of flags and variables becomes the same tree.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value as Json;

/// Lists and maps inside one another.
const MOST_DEPTH: usize = 16;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// 1 for the first line.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// As it is written; `plain` where it is without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Why a text is not understood, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) message: String,
}

impl Node {
    /// The text of a flag or a variable.
    pub(super) fn text(text: &str) -> Self {
        Self { line: 1, value: Value::Scalar { text: text.into(), plain: true } }
    }

    /// As a message shows it: shortened, on one line.
    pub(super) fn shown(&self) -> String {
        const MOST: usize = 60;
        let text = match &self.value {
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::List(_) | Value::Map(_) => self.json().to_string(),
        };
        match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// The same as JSON, for what is described by a type.
    pub(super) fn json(&self) -> Json {
        match &self.value {
            Value::Scalar { text, plain: false } => Json::String(text.clone()),
            Value::Scalar { text, plain: true } => match text.as_str() {
                "" | "~" | "null" => Json::Null,
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                number => number.parse().map_or_else(|_| Json::String(text.clone()), Json::Number),
            },
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.node.json())).collect(),
            ),
        }
    }
}

/// The one document of a text; `None` where it is empty.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Malformed> {
    let mut events = Events { parser: Parser::new_from_str(text), line: 1 };
    let mut root = None;
    loop {
        let (event, span) = events.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if root.is_some() => {
                return malformed(&span, "a second document; allowed is one");
            }
            Event::DocumentStart(_) => {}
            event => root = Some(node(&mut events, event, &span, 0)?),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    line: usize,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok((event, span))
            }
            Some(Err(error)) => Err(Malformed {
                line: error.marker().line(),
                message: format!("this is not YAML: {}", error.info()),
            }),
            None => Err(Malformed { line: self.line, message: "the document breaks off".into() }),
        }
    }
}

fn malformed<T>(span: &Span, message: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { line: span.start.line(), message: message.into() })
}

fn node(
    events: &mut Events<'_>,
    event: Event<'_>,
    span: &Span,
    depth: usize,
) -> Result<Node, Malformed> {
    if depth > MOST_DEPTH {
        return malformed(span, format!("nested deeper than {MOST_DEPTH} levels"));
    }
    let line = span.start.line();
    let value = match event {
        Event::Scalar(text, style, ..) => {
            Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
        }
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match events.next()? {
                    (Event::SequenceEnd, _) => break Value::List(items),
                    (event, span) => items.push(node(events, event, &span, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries: Vec<Entry> = Vec::new();
            loop {
                let (key, line) = match events.next()? {
                    (Event::MappingEnd, _) => break Value::Map(entries),
                    (Event::Scalar(key, ..), span) => (key.into_owned(), span.start.line()),
                    (_, span) => return malformed(&span, "a key that is not plain text"),
                };
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    let message =
                        format!("{key} is given twice, on line {} for the first time", first.line);
                    return Err(Malformed { line, message });
                }
                let (event, span) = events.next()?;
                let node = node(events, event, &span, depth + 1)?;
                entries.push(Entry { key, line, node });
            }
        }
        // An alias can make a small text into an endless tree.
        Event::Alias(_) => return malformed(span, "anchors and aliases are not allowed here"),
        _ => return malformed(span, "a value is missing"),
    };
    Ok(Node { line, value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_lines_and_quoted_ones_stay_text() {
        let text =
            "port: 7833\n\nhives:\n  - id: a\n    url: \"7\"\n  - {id: b, yes: true, no: ~}\n";
        let root = parse(text).unwrap().unwrap();
        assert_eq!(
            root.json(),
            json!({"port": 7833, "hives": [{"id": "a", "url": "7"}, {"id": "b", "yes": true, "no": null}]})
        );
        let Value::Map(entries) = &root.value else { panic!("a map") };
        let lines: Vec<_> = entries.iter().map(|entry| (&*entry.key, entry.line)).collect();
        assert_eq!(lines, [("port", 1), ("hives", 3)]);
        let Value::List(hives) = &entries[1].node.value else { panic!("a list") };
        assert_eq!((hives[0].line, hives[1].line), (4, 6));
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("# nothing but words\n").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let deep = "[".repeat(40) + "]".repeat(40).as_str();
        for (text, line, said) in [
            ("a: 1\nb: 2\na: 3\n", 3, "a is given twice, on line 1"),
            ("a: &x [1]\nb: *x\n", 2, "aliases"),
            ("a: 1\n---\nb: 2\n", 2, "a second document"),
            ("a: [1\nb: 2\n", 2, "not YAML"),
            ("? [1]\n: 2\n", 1, "not plain text"),
            (&*deep, 1, "deeper than 16"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error:?}");
            assert!(error.message.contains(said), "{error:?}");
        }
    }
}
