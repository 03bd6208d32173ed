//! The fields of a JSON object, each read by its name, so that an error names it.

use std::{borrow::Cow, fmt};

use rbee_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// How much of a wrong value an error repeats, in characters.
const SHOWN_CHARACTERS: usize = 60;

/// The fields of an object. `null` counts as absent; of two with the same name, the last one counts.
pub(in crate::server::queen) struct Fields<'a> {
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
    pub(in crate::server::queen) fn of_body(body: &'a [u8]) -> Result<Self> {
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
    pub(in crate::server::queen) fn of(value: &'a RawValue, name: &str) -> Result<Self> {
        let fields = parse(value, name, "an object")?;
        Ok(Self { fields: last_of_each(fields), path: format!("{name}.") })
    }

    /// The full name of a field of this object.
    pub(in crate::server::queen) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// Removes a field and returns its raw value.
    pub(in crate::server::queen) fn take_raw(&mut self, field: &str) -> Option<&'a RawValue> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        let (_, value) = self.fields.swap_remove(at);
        (value.get() != "null").then_some(value)
    }

    /// Removes a field and returns its value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field, its value and what is allowed.
    pub(in crate::server::queen) fn take<T: Deserialize<'a>>(
        &mut self,
        field: &str,
        allowed: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.take_raw(field) else { return Ok(None) };
        parse(value, &self.name(field), allowed).map(Some)
    }

    /// Removes a field and returns its value, a whole number that may be written with a fraction of zero (`20.0`).
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(in crate::server::queen) fn take_whole<T: TryFrom<i128>>(
        &mut self,
        field: &str,
        allowed: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.take_raw(field) else { return Ok(None) };
        whole(value, &self.name(field), allowed).map(Some)
    }

    /// Removes a required field and returns its value.
    ///
    /// # Errors
    /// As [`take`](Self::take), and if it is missing.
    pub(in crate::server::queen) fn require<T: Deserialize<'a>>(
        &mut self,
        field: &str,
        allowed: &str,
    ) -> Result<T> {
        match self.take(field, allowed)? {
            Some(value) => Ok(value),
            None => Err(missing(&self.name(field), allowed)),
        }
    }

    /// Passes each remaining field to `check`; a field that `check` does not know is refused.
    ///
    /// # Errors
    /// The error of the check, or [`ErrorKind::InvalidRequest`] for an unknown field.
    pub(in crate::server::queen) fn finish(
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

/// The most fields of an object that are compared with each other.
const FEW: usize = 16;

/// Keeps only the last of the fields with one name.
fn last_of_each<'a>(Object(fields): Object<'a>) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    // Of a few fields, comparing each with each is the fastest.
    let is_repeated = |(at, (name, _)): (usize, &(Cow<'_, str>, _))| {
        fields[..at].iter().any(|(before, _)| before == name)
    };
    if fields.len() <= FEW && !fields.iter().enumerate().any(is_repeated) {
        return fields;
    }
    let mut seen = std::collections::HashSet::with_capacity(fields.len());
    let is_last: Vec<bool> = fields.iter().rev().map(|(name, _)| seen.insert(name)).collect();
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
pub(in crate::server::queen) fn parse<'a, T: Deserialize<'a>>(
    value: &'a RawValue,
    name: &str,
    allowed: &str,
) -> Result<T> {
    serde_json::from_str(value.get())
        .map_err(|cause| not_allowed(value, name, allowed).with_source(cause))
}

/// Parses a whole number. Programs whose numbers are all floats write it as `20.0`, or `2e1`.
///
/// # Errors
/// As [`parse`].
pub(in crate::server::queen) fn whole<T: TryFrom<i128>>(
    value: &RawValue,
    name: &str,
    allowed: &str,
) -> Result<T> {
    let number = value.get().parse().ok().or_else(|| {
        let number: f64 = serde_json::from_str(value.get()).ok()?;
        // From 2^53 on, a float does not tell which number was meant.
        let is_exact = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
        is_exact.then_some(number as i128)
    });
    number
        .and_then(|number: i128| T::try_from(number).ok())
        .ok_or_else(|| not_allowed(value, name, allowed))
}

/// The error for a value that is not allowed.
pub(in crate::server::queen) fn not_allowed(value: &RawValue, name: &str, allowed: &str) -> Error {
    let text = value.get();
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let message = format!("{name} is {shown}; allowed is {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(name.to_owned())
}

/// The error for a missing value.
pub(in crate::server::queen) fn missing(name: &str, allowed: &str) -> Error {
    let message = format!("{name} is missing; it must be {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written_and_nothing_else_is() {
        let read = |text: &str| {
            let value: &RawValue = serde_json::from_str(text).unwrap();
            whole::<u32>(value, "n", "1")
        };
        for (text, number) in [("20", 20), ("20.0", 20), ("2e1", 20), ("0.0", 0), ("-0", 0)] {
            assert_eq!(read(text).unwrap(), number, "{text}");
        }
        for text in ["20.5", "-1", "-1.0", "4294967296", "1e400", "\"20\"", "true", "[20]", "1e300"]
        {
            let error = read(text).unwrap_err();
            assert_eq!(error.param(), Some("n"));
            assert_eq!(error.message(), format!("n is {text}; allowed is 1"));
        }
        let exact: &RawValue = serde_json::from_str("18446744073709551615").unwrap();
        assert_eq!(whole::<u64>(exact, "n", "1").unwrap(), u64::MAX);
        let rounded: &RawValue = serde_json::from_str("9007199254740993.0").unwrap();
        assert!(whole::<u64>(rounded, "n", "1").is_err(), "another number may have been meant");
    }
}
