//! The workspace's metadata from cargo.

use serde_json::Value;

use crate::steps::{Failure, cargo};

/// Features that need a special toolkit or machine, or that suit only the build of one tool. They are neither linted
/// nor tested here.
const SPECIAL: [&str; 3] = ["cuda", "metal", "extension-module"];

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    features: Vec<String>,
}

impl Package {
    /// Features to lint and test with, as `package/feature`.
    fn test_features(&self) -> impl Iterator<Item = String> {
        self.features
            .iter()
            .filter(|feature| *feature != "default" && !SPECIAL.contains(&feature.as_str()))
            .map(|feature| format!("{}/{feature}", self.name))
    }
}

/// All packages of the workspace. Fails if `Cargo.lock` does not match the manifests.
pub(crate) fn packages() -> Result<Vec<Package>, Failure> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .map_err(|cause| format!("cargo could not be started: {cause}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata failed: {}", said.trim()));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|cause| format!("cargo metadata answered with something else: {cause}"))?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    packages
        .iter()
        .map(|package| {
            let features = package["features"].as_object().ok_or("no features")?;
            Ok(Package {
                name: package["name"].as_str().ok_or("no name")?.into(),
                features: features.keys().cloned().collect(),
            })
        })
        .collect::<Result<_, &str>>()
        .map_err(|missing| format!("cargo metadata has {missing} where they are expected"))
}

/// The one set of features for lints, documentation and tests, so that it is built only once.
pub(crate) fn test_features(packages: &[Package]) -> String {
    let features: Vec<String> = packages.iter().flat_map(Package::test_features).collect();
    features.join(",")
}
