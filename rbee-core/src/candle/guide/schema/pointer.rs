//! Places in a schema.

use std::fmt;

/// A JSON pointer, such as `/properties/name/type`. That of the whole document is empty, and printed as `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Pointer(String);

impl Pointer {
    /// The place of a part of what is at this place.
    pub(super) fn join(&self, part: &str) -> Self {
        Self(format!("{}/{}", self.0, part.replace('~', "~0").replace('/', "~1")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Pointer {
    fn from(pointer: String) -> Self {
        Self(pointer)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// The pointer in a reference within the same document, such as `#/$defs/a%20b`. `None` if it is another reference.
pub(super) fn of_reference(reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|path| path.is_empty() || path.starts_with('/'))
}
