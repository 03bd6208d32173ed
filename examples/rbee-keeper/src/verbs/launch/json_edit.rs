//! Changes of single members of a JSON text that leave everything else as it is: order, spaces and line ends.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{
    Value,
    ser::{PrettyFormatter, Serializer},
    value::RawValue,
};

/// The indentation if the text has none.
const INDENT: &str = "  ";

/// Sets the member at this path of names. Missing objects on the way are made; an empty text is an empty object.
///
/// # Errors
/// The place of a syntax error, a member that is there twice, or a member on the way that is not an object.
pub(super) fn set(text: &str, path: &[&str], value: &Value) -> Result<String, String> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let object = parse(text)?;
    let style = Style::of(text, &object);
    let start = text.len() - text.trim_start().len();
    let whole = text.trim();
    let changed = style.set(whole, "", path, value)?;
    Ok(format!("{}{changed}{}", &text[..start], &text[start + whole.len()..]))
}

/// The members of an object in their order, with the texts of their values.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!(
                            "the member {name:?} is there twice"
                        )));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

fn parse(text: &str) -> Result<Members<'_>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Where a value is in the text of its object, in which it was found.
fn place(object: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - object.as_ptr().addr();
    start..start + value.get().len()
}

/// The indentation of the first member of an object: the spaces before it on its line. `None` if it is on the line of
/// the brace, or if there is no member.
fn member_indent(object: &str) -> Option<&str> {
    let inside = object.strip_prefix('{')?;
    let spaces = &inside[..inside.len() - inside.trim_start().len()];
    let (_, indent) = spaces.rsplit_once('\n')?;
    inside.trim_start().starts_with('"').then_some(indent)
}

/// How the text is written.
struct Style {
    indent: String,
    line_end: &'static str,
}

impl Style {
    fn of(text: &str, object: &Members<'_>) -> Self {
        let indent = member_indent(text.trim()).filter(|indent| !indent.is_empty());
        let is_empty = object.0.is_empty();
        let line_end = if text.contains("\r\n") && !is_empty { "\r\n" } else { "\n" };
        Self { indent: indent.unwrap_or(INDENT).to_owned(), line_end }
    }

    /// The text of an object, which begins on a line with the indentation `outer`, with the member set.
    fn set(
        &self,
        object: &str,
        outer: &str,
        path: &[&str],
        value: &Value,
    ) -> Result<String, String> {
        let [name, rest @ ..] = path else { return Ok(object.to_owned()) };
        let members = parse(object)?;
        let indent = member_indent(object);
        let inner = match (indent, members.0.is_empty()) {
            (Some(indent), _) => Some(indent.to_owned()),
            (None, true) => Some(format!("{outer}{}", self.indent)),
            // All on one line.
            (None, false) => None,
        };
        if let Some(old) = members.get(name) {
            let new = match rest {
                [] if serde_json::from_str::<Value>(old.get()).is_ok_and(|old| old == *value) => {
                    return Ok(object.to_owned());
                }
                [] => self.render(value, inner.as_deref()),
                _ if !old.get().starts_with('{') => {
                    return Err(format!("the member {name:?} is not an object"));
                }
                _ => self.set(old.get(), inner.as_deref().unwrap_or(outer), rest, value)?,
            };
            let Range { start, end } = place(object, old);
            return Ok(format!("{}{new}{}", &object[..start], &object[end..]));
        }
        let nested = rest.iter().rev().fold(value.clone(), |value, name| {
            Value::Object([((*name).to_owned(), value)].into_iter().collect())
        });
        let name = Value::from(*name);
        let new = format!("{name}: {}", self.render(&nested, inner.as_deref()));
        let line_end = self.line_end;
        Ok(match (members.0.last(), inner) {
            (None, inner) => {
                format!("{{{line_end}{}{new}{line_end}{outer}}}", inner.unwrap_or_default())
            }
            (Some((_, last)), inner) => {
                let end = place(object, last).end;
                let gap = inner.map_or_else(|| " ".into(), |inner| format!("{line_end}{inner}"));
                format!("{},{gap}{new}{}", &object[..end], &object[end..])
            }
        })
    }

    /// The text of a value behind a name on a line with this indentation, or on one line without an indentation.
    fn render(&self, value: &Value, outer: Option<&str>) -> String {
        let Some(outer) = outer else { return value.to_string() };
        let mut out = Vec::new();
        let formatter = PrettyFormatter::with_indent(self.indent.as_bytes());
        // A value can be written, because its names are texts, and memory does not fail.
        let written = value.serialize(&mut Serializer::with_formatter(&mut out, formatter));
        let text = match (written, String::from_utf8(out)) {
            (Ok(()), Ok(text)) => text,
            _ => value.to_string(),
        };
        text.replace('\n', &format!("{}{outer}", self.line_end))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_is_set_and_everything_else_stays() {
        let one = json!(1);
        for (text, path, changed) in [
            ("", &["a"][..], "{\n  \"a\": 1\n}\n"),
            ("  {}  ", &["a"], "  {\n  \"a\": 1\n}  "),
            ("{\"a\":0}", &["a"], "{\"a\":1}"),
            ("{\"a\":0}", &["b"], "{\"a\":0, \"b\": 1}"),
            (
                "{\n    \"z\" : [1,\n2],\n    \"a\" :0\n}\n",
                &["a"],
                "{\n    \"z\" : [1,\n2],\n    \"a\" :1\n}\n",
            ),
            ("{\n\t\"z\": {}\n}", &["a"], "{\n\t\"z\": {},\n\t\"a\": 1\n}"),
            ("{\r\n  \"z\": 0\r\n}", &["a"], "{\r\n  \"z\": 0,\r\n  \"a\": 1\r\n}"),
            ("", &["a", "b"], "{\n  \"a\": {\n    \"b\": 1\n  }\n}\n"),
            ("{\n  \"a\": {}\n}", &["a", "b"], "{\n  \"a\": {\n    \"b\": 1\n  }\n}"),
            (
                "{\n  \"a\": {\n    \"x\": 0\n  }\n}",
                &["a", "b"],
                "{\n  \"a\": {\n    \"x\": 0,\n    \"b\": 1\n  }\n}",
            ),
            ("{\"a\": {\"b\": \"}{\\\"\"}}", &["a", "b"], "{\"a\": {\"b\": 1}}"),
        ] {
            assert_eq!(set(text, path, &one).unwrap(), changed, "{text:?}");
        }
        let same = "{\"a\": \"\\u0062\"}";
        assert_eq!(set(same, &["a"], &json!("b")).unwrap(), same, "written in another way");
    }

    #[test]
    fn an_object_is_written_with_the_indentation_of_the_text() {
        let object = json!({ "b": [1], "c": {} });
        assert_eq!(
            set("{\n    \"x\": 0\n}", &["a"], &object).unwrap(),
            "{\n    \"x\": 0,\n    \"a\": {\n        \"b\": [\n            1\n        ],\n        \"c\": {}\n    }\n}"
        );
    }

    #[test]
    fn what_cannot_be_changed_is_refused_with_the_reason() {
        for (text, why) in [
            ("{\n  // mine\n}", "line 2 column 3"),
            ("{\"a\": 1,}", "line 1 column 9"),
            ("[]", "expected an object"),
            ("{} {}", "trailing characters"),
            ("{\"a\": 1, \"a\": 2}", "the member \"a\" is there twice"),
            ("{\"env\": {\"x\": 1, \"x\": 2}}", "the member \"x\" is there twice"),
            ("{\"env\": [1]}", "the member \"env\" is not an object"),
        ] {
            let refused = set(text, &["env", "a"], &json!(1)).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
