//! What a template may make: the error of everything else, and the limits of texts, lists and nesting.

use minijinja::{Error, ErrorKind};

/// The result of a filter, method or function.
pub(super) type Outcome<T> = Result<T, Error>;

/// The deepest nesting of a value.
pub(super) const MAX_DEPTH: usize = 200;
/// The longest text that is made of values, in bytes.
const MAX_TEXT: usize = 32 << 20;
/// The most items of a list that is made of values.
const MAX_ITEMS: usize = 1_000_000;
/// The most values in a value that is written or compared: a list can contain the same list many times.
pub(super) const MAX_VALUES: usize = 300_000;

/// The error of a filter, method or function.
pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Refuses a text of this length, if it is too long.
pub(super) fn limit(length: usize) -> Outcome<()> {
    if length > MAX_TEXT { Err(fault("a text becomes too long")) } else { Ok(()) }
}

/// Refuses a list of this length, if it is too long.
pub(super) fn limit_items(length: usize) -> Outcome<()> {
    if length > MAX_ITEMS {
        return Err(fault(format!("a list of more than {MAX_ITEMS} items")));
    }
    Ok(())
}

/// The items of an iterator, if they are not too many.
pub(super) fn collected<T>(items: impl Iterator<Item = T>) -> Outcome<Vec<T>> {
    let mut list = Vec::new();
    for item in items {
        limit_items(list.len() + 1)?;
        list.push(item);
    }
    Ok(list)
}
