//! The stand-in for the YAML reader in a build without the feature `yaml`.

use serde::de::DeserializeOwned;

use super::refusal::{Problem, Refusal};

/// Refuses every text.
pub(super) fn read<T: DeserializeOwned>(_: &str) -> Result<T, Refusal> {
    let why = "this program was built without the feature `yaml`, so it reads no configuration";
    Err(Refusal { line: 1, path: String::new(), problem: Problem::Other(why.into()) })
}

/// No keys.
pub(super) fn keys(_: &str) -> Vec<(String, u64)> {
    Vec::new()
}
