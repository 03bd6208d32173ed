//! The daemons themselves.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The program of this package, built as the tests are.
///
/// # Panics
/// Where it cannot be built; with what cargo says.
pub fn built(package: &str) -> PathBuf {
    build(package, "--bin", package);
    directory().join(package)
}

/// An example of this package.
///
/// # Panics
/// As [`built`].
pub fn built_example(package: &str, example: &str) -> PathBuf {
    build(package, "--example", example);
    directory().join("examples").join(example)
}

/// Set to `1` by whoever has built the programs with the tests, in one call of cargo: `cargo test --workspace`. A build of
/// one package by itself has other features, and builds most dependencies a second time.
const BUILT: &str = "TEST_PROGRAMS_BUILT";

fn build(package: &str, kind: &str, name: &str) {
    if std::env::var_os(BUILT).is_some_and(|value| value == "1") {
        return;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package, kind, name]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where programs lie: above the tests, which lie in `deps`.
fn directory() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().to_owned()
}
