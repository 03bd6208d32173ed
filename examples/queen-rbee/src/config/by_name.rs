//! Values by the name of what they are for.

use std::{collections::BTreeMap, marker::PhantomData};

use serde_json::{Map, Value as Json};

use super::{
    value::{At, Kind, Size, Wrong, structured},
    yaml::{Node, Value},
};

/// One value of this kind for each name.
pub(super) struct ByName<K>(PhantomData<K>);

impl<K: Kind> Kind for ByName<K> {
    type Value = BTreeMap<String, K::Value>;
    const FORM: &'static str = "{NAME: VALUE, …}";
    const ALLOWED: &'static str = "a map of names to values";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        let shown = value.iter().map(|(name, value)| (name.clone(), K::show(value).into()));
        Json::Object(shown.collect::<Map<_, _>>()).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::Map(entries) = &node.value else {
            return at.wrong(&node, format_args!("{}, each {}", Self::ALLOWED, K::ALLOWED));
        };
        let values = entries.iter().map(|entry| {
            let value = match &entry.node.value {
                Value::Scalar { text, .. } => K::parse(text, at),
                Value::List(_) | Value::Map(_) => None,
            };
            match value {
                Some(value) => Ok((entry.key.clone(), value)),
                None => at.wrong_in(&entry.node, &format!(".{}", entry.key), K::ALLOWED),
            }
        });
        values.collect()
    }
}

/// Memory of a machine, which may not be this one.
pub(super) struct Memory;

impl Kind for Memory {
    type Value = u64;
    const FORM: &'static str = Size::FORM;
    const ALLOWED: &'static str = Size::ALLOWED;

    fn parse(text: &str, at: At<'_>) -> Option<u64> {
        u64::try_from(Size::parse(text, at)?).ok()
    }
    fn show(value: &u64) -> String {
        usize::try_from(*value).map_or_else(|_| format!("{value}B"), |bytes| Size::show(&bytes))
    }
}
