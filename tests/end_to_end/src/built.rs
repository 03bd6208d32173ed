//! The daemons under test.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The program of this package, built in the same way as the tests.
///
/// # Panics
/// If it cannot be built; with the output of cargo.
pub fn built(package: &str) -> PathBuf {
    built_bin(package, package)
}

/// A program of this package that has a name of its own.
///
/// # Panics
/// As [`built`].
pub fn built_bin(package: &str, program: &str) -> PathBuf {
    build(package, "--bin", program);
    directory().join(program)
}

/// An example of this package.
///
/// # Panics
/// As [`built`].
pub fn built_example(package: &str, example: &str) -> PathBuf {
    build(package, "--example", example);
    directory().join("examples").join(example)
}

/// Set to `1` if the programs were built with the tests, in one call of cargo: `cargo test --workspace`. A build of one
/// package alone has other features, and builds most dependencies a second time.
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

/// The directory of programs: the parent of `deps`, which holds the tests.
fn directory() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().to_owned()
}
