//! Values of a configuration, read by name: an invalid value is an error that names file and key.

use std::{ops::RangeInclusive, path::Path};

use serde_json::{Map, Value};

use super::files::{LoadFault, Loaded, shown};

/// The keys of one JSON object, with the file and the path of the object for messages.
pub(super) struct ConfigFields<'a> {
    pub(super) file: &'a Path,
    pub(super) at: String,
    map: &'a Map<String, Value>,
}

impl<'a> ConfigFields<'a> {
    pub(super) fn new(file: &'a Path, map: &'a Map<String, Value>) -> Self {
        let at = String::new();
        Self { file, at, map }
    }

    /// A value; `null` counts as absent, because the libraries that write these files use it that way.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The same with a path before the keys, for messages.
    pub(super) fn below(file: &'a Path, at: String, map: &'a Map<String, Value>) -> Self {
        Self { file, at, map }
    }

    pub(super) fn bad(&self, key: &str, value: &Value, allowed: &str) -> LoadFault {
        let what = format!("{}{key} is {}; allowed is {allowed}", self.at, shown(value));
        LoadFault::defect(self.file, what)
    }

    pub(super) fn absent(&self, key: &str, allowed: &str) -> LoadFault {
        let what = format!("{}{key} is missing; allowed is {allowed}", self.at);
        LoadFault::defect(self.file, what)
    }

    pub(super) fn object(&self, key: &str) -> Loaded<Option<ConfigFields<'a>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let map = value.as_object().ok_or_else(|| self.bad(key, value, "an object"))?;
        let at = format!("{}{key}.", self.at);
        Ok(Some(ConfigFields { file: self.file, at, map }))
    }

    pub(super) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Loaded<Option<usize>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(count) if range.contains(&count) => Ok(Some(count as usize)),
            _ => Err(self.bad(key, value, &span(&range))),
        }
    }

    pub(super) fn needed(&self, key: &str, range: RangeInclusive<u64>) -> Loaded<usize> {
        self.count(key, range.clone())?.ok_or_else(|| self.absent(key, &span(&range)))
    }

    pub(super) fn number(&self, key: &str, range: RangeInclusive<f64>) -> Loaded<Option<f64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            // A comparison with NaN is false, so NaN is refused too.
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.bad(key, value, &span(&range))),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Loaded<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(other) => Err(self.bad(key, other, "true or false")),
        }
    }

    pub(super) fn needed_number(&self, key: &str, range: RangeInclusive<f64>) -> Loaded<f64> {
        self.number(key, range.clone())?.ok_or_else(|| self.absent(key, &span(&range)))
    }

    /// A list of exactly this many numbers.
    pub(super) fn needed_numbers(
        &self,
        key: &str,
        length: usize,
        range: RangeInclusive<f64>,
    ) -> Loaded<Vec<f64>> {
        let allowed = || format!("a list of {length} numbers from {}", span(&range));
        let value = self.get(key).ok_or_else(|| self.absent(key, &allowed()))?;
        let list = value.as_array().filter(|list| list.len() == length);
        let list = list.ok_or_else(|| self.bad(key, value, &allowed()))?;
        let number = |value: &Value| value.as_f64().filter(|number| range.contains(number));
        list.iter()
            .map(|item| number(item).ok_or_else(|| self.bad(key, item, &allowed())))
            .collect()
    }

    /// The names of all keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// The object itself.
    pub(super) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// Checks that a value, if present, is this one: the engine supports no other.
    pub(super) fn only(&self, key: &str, allowed: Value) -> Loaded<()> {
        match self.get(key) {
            Some(value) if *value != allowed => Err(self.bad(key, value, &allowed.to_string())),
            _ => Ok(()),
        }
    }

    /// A token id, or a list of them.
    pub(super) fn token_ids(&self, key: &str) -> Loaded<Vec<u32>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        list.iter()
            .map(|id| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => Ok(id),
                None => Err(self.bad(key, value, "token ids")),
            })
            .collect()
    }
}

/// A range, for a message.
pub(super) fn span<T: std::fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("{} to {}", range.start(), range.end())
}
