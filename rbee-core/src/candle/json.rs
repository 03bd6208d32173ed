//! JSON in the layout of Python's `json.dumps`, with which chat templates were trained.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The value as Python writes it: with `", "` and `": "` on one line, or with each item on its own line.
pub(super) fn python_json(
    value: &impl Serialize,
    indent: Option<usize>,
) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, OneLine))?,
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
        }
    }
    // The serializer writes UTF-8 only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_laid_out_as_python_does() {
        let value = serde_json::json!({"a": [1, 2], "b": {"c": "<é>"}, "d": []});
        let line = python_json(&value, None).unwrap();
        assert_eq!(line, r#"{"a": [1, 2], "b": {"c": "<é>"}, "d": []}"#);
        let lines = python_json(&serde_json::json!({"a": [1]}), Some(2)).unwrap();
        assert_eq!(lines, "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
