//! The hives of the configuration.

use std::{collections::BTreeMap, path::PathBuf};

use rbee_core::{HiveId, hive::parse_label};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::hive_url::HiveUrl;

/// A machine on which `rbee-hive` already runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiveEntry {
    /// Its name.
    pub id: HiveId,
    /// The address of its daemon.
    pub url: HiveUrl,
    /// A file with the token it accepts; not needed for a hive of the same user on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Labels for the policy: `region=eu, cost=0.3`.
    #[serde(default, with = "labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Labels as one line of text.
mod labels {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        labels: &BTreeMap<String, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        serializer.serialize_str(&labels.join(", "))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, String>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let labels = text.split(',').map(parse_label);
        labels.collect::<Result<_, _>>().map_err(|error| D::Error::custom(error.message()))
    }
}
