//! Machines that are named in the configuration.

use std::{collections::BTreeMap, path::PathBuf};

use rbee_core::{HiveId, parse_label};
use serde_json::json;

use super::{
    table::nearest,
    value::{At, Kind, Wrong, structured},
    yaml::{Node, Value},
};
use crate::hive_url::HiveUrl;

/// A machine whose `rbee-hive` runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiveEntry {
    /// Its name.
    pub id: HiveId,
    /// Where its daemon listens.
    pub url: HiveUrl,
    /// A file with the token it takes; not needed for a hive of the same user on this machine.
    pub token_file: Option<PathBuf>,
    /// What the policy is to know of it: `region=eu`.
    pub labels: BTreeMap<String, String>,
}

/// A list of [`HiveEntry`].
pub(super) struct Hives;

const FIELDS: [&str; 4] = ["id", "url", "token_file", "labels"];

impl Kind for Hives {
    type Value = Vec<HiveEntry>;
    const FORM: &'static str =
        "[{id: NAME, url: URL, token_file: PATH, labels: \"NAME=VALUE, …\"}, …]";
    const ALLOWED: &'static str =
        "a list like [{id: attic, url: \"http://192.168.1.7:7835\", token_file: attic.token}]";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }

    fn show(value: &Self::Value) -> String {
        let entry = |hive: &HiveEntry| {
            let mut shown = json!({"id": hive.id.as_str(), "url": hive.url.to_string()});
            if let Some(file) = &hive.token_file {
                shown["token_file"] = json!(file);
            }
            if !hive.labels.is_empty() {
                let labels = hive.labels.iter().map(|(name, value)| format!("{name}={value}"));
                shown["labels"] = json!(labels.collect::<Vec<_>>().join(", "));
            }
            shown
        };
        json!(value.iter().map(entry).collect::<Vec<_>>()).to_string()
    }

    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::List(items) = &node.value else { return at.wrong(&node, Self::ALLOWED) };
        items.iter().enumerate().map(|(index, item)| entry(index, item, at)).collect()
    }
}

fn entry(index: usize, item: &Node, at: At<'_>) -> Result<HiveEntry, Wrong> {
    let Value::Map(fields) = &item.value else {
        return at.wrong_in(item, &format!("[{index}]"), "a map with id and url");
    };
    let mut values = [None; FIELDS.len()];
    for field in fields {
        let Some(which) = FIELDS.iter().position(|name| *name == field.key) else {
            let meant = nearest(&field.key, FIELDS);
            let meant = meant.map(|name| format!("; {name} perhaps?")).unwrap_or_default();
            let message = format!(
                "{}[{index}] has no {:?}; allowed are {}{meant}",
                at.key,
                field.key,
                FIELDS.join(", ")
            );
            return Err(Wrong { line: field.line, message });
        };
        let Value::Scalar { text, .. } = &field.node.value else {
            return at.wrong_in(&field.node, &format!("[{index}].{}", field.key), "text");
        };
        values[which] = Some((&field.node, text.as_str()));
    }
    let needed = |which: usize| {
        values[which].ok_or_else(|| Wrong {
            line: item.line,
            message: format!("{}[{index}] has no {}", at.key, FIELDS[which]),
        })
    };
    let (node, text) = needed(0)?;
    let Ok(id) = HiveId::new(text) else {
        return at.wrong_in(
            node,
            &format!("[{index}].id"),
            "a name of letters, digits, '.', '_' and '-'",
        );
    };
    let (node, text) = needed(1)?;
    let url = match text.parse() {
        Ok(url) => url,
        Err(_) => {
            return at.wrong_in(node, &format!("[{index}].url"), HiveUrl::ALLOWED);
        }
    };
    let token_file = values[2].map(|(_, text)| at.base.join(text));
    let mut labels = BTreeMap::new();
    if let Some((node, text)) = values[3] {
        for label in text.split(',') {
            let Ok((name, value)) = parse_label(label) else {
                let key = format!("[{index}].labels");
                return at.wrong_in(node, &key, "labels like \"region=eu, cost=0.3\"");
            };
            labels.insert(name, value);
        }
    }
    Ok(HiveEntry { id, url, token_file, labels })
}
