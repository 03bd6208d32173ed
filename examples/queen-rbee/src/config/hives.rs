//! The hives of the configuration.

use std::{collections::BTreeMap, path::PathBuf};

use rbee_core::{HiveId, hive::parse_label};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::hive_url::HiveUrl;

/// Another machine: one on which `rbee-hive` runs already, or one on which the queen starts it by SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct HiveEntry {
    /// Its name.
    pub id: HiveId,
    /// The address of its daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<HiveUrl>,
    /// A file with the token it accepts; not needed for a hive of the same user on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// With a `url` that begins with `https://`: a file with the daemon's certificate in PEM, or with that of the CA that
    /// signed it; trusted instead of those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// Labels for the policy: `region=eu, cost=0.3`.
    #[serde(with = "labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The machine for `ssh`, instead of `url`: `gpu-box`, `ada@192.168.1.7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// With `ssh`: the directory on the machine for programs, state and models, absolute or beginning with `~/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// With `ssh`: arguments of `rbee-hive`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// The fields of a [`HiveEntry`], before the rules between them are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    id: HiveId,
    #[serde(default)]
    url: Option<HiveUrl>,
    #[serde(default)]
    token_file: Option<PathBuf>,
    #[serde(default)]
    ca_cert: Option<PathBuf>,
    #[serde(default, with = "labels")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ssh: Option<String>,
    #[serde(default)]
    directory: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
}

impl TryFrom<Fields> for HiveEntry {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, &'static str> {
        let Fields { id, url, token_file, ca_cert, labels, ssh, directory, arguments } = fields;
        match (&url, &ssh) {
            (None, None) => Err("there is no url, and no ssh; give one of them"),
            (Some(_), Some(_)) => Err("url and ssh are both given; give one of them"),
            (None, Some(_)) if token_file.is_some() => {
                Err("token_file belongs to url; a hive that the queen starts by ssh needs none")
            }
            (url, _) if ca_cert.is_some() && !url.as_ref().is_some_and(HiveUrl::is_tls) => {
                Err("ca_cert belongs to a url that begins with https://")
            }
            (Some(_), None) if directory.is_some() || !arguments.is_empty() => {
                Err("directory and arguments belong to ssh; rbee-hive at a url has its own")
            }
            _ => Ok(Self { id, url, token_file, ca_cert, labels, ssh, directory, arguments }),
        }
    }
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
