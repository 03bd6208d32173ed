//! YAML as a tree in which every value has a line number.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// The greatest depth of nested lists and maps.
const MOST_DEPTH: usize = 16;

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The line; 1 is the first.
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// The text as written; `plain` if it is not in quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<YamlEntry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct YamlEntry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

/// The reason why a text is not accepted, with the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Node {
    /// The value for a message: shortened, on one line.
    pub(crate) fn shown(&self) -> String {
        const MOST: usize = 60;
        let text = match &self.value {
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        };
        match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// Parses the only document of a text; `None` if it is empty.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Malformed> {
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
            None => {
                Err(Malformed { line: self.line, message: "the document ends too early".into() })
            }
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
            let mut entries: Vec<YamlEntry> = Vec::new();
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
                entries.push(YamlEntry { key, line, node });
            }
        }
        // An alias can turn a small text into an endless tree.
        Event::Alias(_) => return malformed(span, "anchors and aliases are not allowed here"),
        _ => return malformed(span, "a value is missing"),
    };
    Ok(Node { line, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        for (text, line, said) in [
            ("a: 1\nb: 2\na: 3\n", 3, "a is given twice, on line 1"),
            ("a: &x [1]\nb: *x\n", 2, "aliases"),
            ("a: 1\n---\nb: 2\n", 2, "a second document"),
            ("a: [1\nb: 2\n", 2, "not YAML"),
            (&*deep, 1, "deeper than 16"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error:?}");
            assert!(error.message.contains(said), "{error:?}");
        }
        assert_eq!(parse("# words\n").unwrap(), None);
    }
}
