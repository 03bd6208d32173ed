//! Allowed dependencies. An embedder takes all of the core's dependencies along, so they are kept few; the dependencies
//! of a transport or of a language binding stay there.

use std::collections::BTreeSet;

use crate::{
    metadata,
    steps::{Failure, cargo},
};

/// Packages that a package must not depend on, directly or indirectly. A name that ends in `*` is a prefix.
struct Rule {
    package: &'static str,
    features: Features,
    never: &'static [&'static str],
    /// The maximum number of packages that it may add.
    most: usize,
}

/// The features that a rule applies to.
#[derive(Clone, Copy)]
enum Features {
    Default,
    All,
}

const UNBOUNDED: usize = usize::MAX;

const RULES: &[Rule] = &[
    Rule {
        package: "rbee-core",
        features: Features::All,
        never: &["axum*", "hyper*", "reqwest*", "russh*", "clap*", "pyo3*"],
        most: UNBOUNDED,
    },
    Rule {
        package: "rbee-core",
        features: Features::Default,
        never: &["candle*", "tokenizers"],
        // Fifteen of them are for the language of policies; an application that needs no policies leaves out the
        // feature `rhai`.
        most: 72,
    },
    Rule {
        package: "rbee-transport-http",
        features: Features::All,
        never: &["russh*"],
        most: UNBOUNDED,
    },
    // It needs only the client of the HTTP transport; the server comes with axum.
    Rule {
        package: "rbee-transport-ssh",
        features: Features::All,
        never: &["axum*"],
        most: UNBOUNDED,
    },
    // A thin client of the queen: it decides nothing, so it needs no parts for decisions or for connections to
    // machines.
    Rule {
        package: "rbee-keeper",
        features: Features::All,
        never: &["russh*", "rusqlite", "rhai*", "candle*", "axum*", "utoipa*", "aws-lc*"],
        most: UNBOUNDED,
    },
];

/// The only package that may depend on Python.
const PYTHON: &str = "rbee-py";

/// Checks every rule, and prints the number of packages that each one covers.
pub(crate) fn check() -> Result<(), Failure> {
    for rule in RULES {
        let found = tree(rule.package, rule.features)?;
        let which = match rule.features {
            Features::Default => "default features",
            Features::All => "all features",
        };
        let (package, count, most) = (rule.package, found.len(), rule.most);
        if let Some(bad) = first_match(&found, rule.never) {
            let features = match rule.features {
                Features::Default => "",
                Features::All => " --all-features",
            };
            return Err(format!(
                "{package} ({which}) depends on {bad}, which it must not; to see how: \
                 cargo tree -p {package} -e normal,build{features} -i {bad}"
            ));
        }
        if count > most {
            return Err(format!(
                "{package} ({which}) depends on {count} packages; allowed are {most}"
            ));
        }
        println!("{package} ({which}): {count} packages, none of {:?}", rule.never);
    }
    let packages = metadata::packages()?;
    for package in packages.iter().filter(|package| package.name != PYTHON) {
        if let Some(bad) = first_match(&tree(&package.name, Features::All)?, &["pyo3*"]) {
            return Err(format!("{} depends on {bad}; only {PYTHON} may", package.name));
        }
    }
    println!("no package but {PYTHON} depends on pyo3");
    Ok(())
}

/// Names of the packages that this one needs to build and to run, without itself.
fn tree(package: &str, features: Features) -> Result<BTreeSet<String>, Failure> {
    let mut command = cargo();
    command.args(["tree", "--locked", "--package", package]);
    command.args(["--edges=normal,build", "--prefix=none", "--format={p}"]);
    if let Features::All = features {
        command.arg("--all-features");
    }
    let output =
        command.output().map_err(|cause| format!("cargo could not be started: {cause}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo tree of {package} failed: {}", said.trim()));
    }
    let names = names(&String::from_utf8_lossy(&output.stdout));
    Ok(names.into_iter().filter(|name| name != package).collect())
}

/// The first word of each line.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(ToOwned::to_owned).collect()
}

fn first_match<'a>(found: &'a BTreeSet<String>, never: &[&str]) -> Option<&'a str> {
    let matches = |name: &str| {
        never.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        })
    };
    found.iter().map(String::as_str).find(|name| matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_is_found_by_its_name_or_its_family() {
        let found =
            names("core v0.1.0 (/x)\nserde v1.0.0\nhyper-util v0.1.0 (*)\n\nserde v1.0.0 (*)\n");
        assert_eq!(found.len(), 3);
        assert_eq!(first_match(&found, &["hyper*"]), Some("hyper-util"));
        assert_eq!(first_match(&found, &["hyper", "serd"]), None);
        assert_eq!(first_match(&found, &["serde"]), Some("serde"));
    }
}
