//! The fields of a JSON object, each read by its name, so that an error names it.

use std::{borrow::Cow, fmt};

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// How much of a wrong value an error repeats, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// The fields of an object. `null` counts as absent; of two with the same name, the last one counts.
pub(super) struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The path of the object: empty for the body itself, `messages[2].` for a part of it.
    path: String,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &RawValue>()? {
                    fields.push((key, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl<'a> Fields<'a> {
    /// The fields of a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it is not JSON, or not an object.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self> {
        let read = serde_json::from_slice(body).map_err(|cause| {
            Error::for_client(
                ErrorKind::InvalidRequest,
                format!("the body is not a JSON object: {cause}"),
            )
            .with_source(cause)
        });
        Ok(Self { fields: last_of_each(read?), path: String::new() })
    }

    /// The fields of an object in the body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place, if it is not an object.
    pub(super) fn of(value: &'a RawValue, name: &str) -> Result<Self> {
        let fields = parse(value, name, "an object")?;
        Ok(Self { fields: last_of_each(fields), path: format!("{name}.") })
    }

    /// The full name of a field of this object.
    pub(super) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// Removes a field and returns its raw value.
    pub(super) fn take_raw(&mut self, field: &str) -> Option<&'a RawValue> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        let (_, value) = self.fields.swap_remove(at);
        (value.get() != "null").then_some(value)
    }

    /// Removes a field and returns its value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field, its value and what is allowed.
    pub(super) fn take<T: Deserialize<'a>>(
        &mut self,
        field: &str,
        allowed: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.take_raw(field) else { return Ok(None) };
        parse(value, &self.name(field), allowed).map(Some)
    }

    /// Removes a required field and returns its value.
    ///
    /// # Errors
    /// As [`take`](Self::take), and if it is missing.
    pub(super) fn require<T: Deserialize<'a>>(&mut self, field: &str, allowed: &str) -> Result<T> {
        match self.take(field, allowed)? {
            Some(value) => Ok(value),
            None => Err(missing(&self.name(field), allowed)),
        }
    }

    /// Passes each remaining field to `check`; a field that `check` does not know is refused.
    ///
    /// # Errors
    /// The error of the check, or [`ErrorKind::InvalidRequest`] for an unknown field.
    pub(super) fn finish(
        self,
        check: impl Fn(&str, &'a RawValue) -> Option<Result<()>>,
    ) -> Result<()> {
        for (field, value) in &self.fields {
            match check(field, value) {
                Some(checked) => checked?,
                None => {
                    let name: String = self.name(field).chars().take(SHOWN_CHARACTERS).collect();
                    let message = format!("Unrecognized request argument supplied: {name}");
                    return Err(
                        Error::for_client(ErrorKind::InvalidRequest, message).with_param(name)
                    );
                }
            }
        }
        Ok(())
    }
}

/// Keeps only the last of the fields with one name.
fn last_of_each<'a>(Object(fields): Object<'a>) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    let mut seen = std::collections::HashSet::with_capacity(fields.len());
    let is_last: Vec<bool> = fields.iter().rev().map(|(name, _)| seen.insert(name)).collect();
    if is_last.iter().all(|last| *last) {
        drop(seen);
        return fields;
    }
    drop(seen);
    fields
        .into_iter()
        .zip(is_last.into_iter().rev())
        .filter_map(|(f, last)| last.then_some(f))
        .collect()
}

/// Parses one value.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the place, the value and what is allowed.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    value: &'a RawValue,
    name: &str,
    allowed: &str,
) -> Result<T> {
    serde_json::from_str(value.get())
        .map_err(|cause| not_allowed(value, name, allowed).with_source(cause))
}

/// The error for a value that is not allowed.
pub(super) fn not_allowed(value: &RawValue, name: &str, allowed: &str) -> Error {
    let text = value.get();
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let message = format!("{name} is {shown}; allowed is {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(name.to_owned())
}

/// The error for a missing value.
pub(super) fn missing(name: &str, allowed: &str) -> Error {
    let message = format!("{name} is missing; it must be {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(name.to_owned())
}
