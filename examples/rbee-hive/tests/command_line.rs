//! Tests of the errors for wrong arguments, which come before the program does anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn hive(arguments: &[&str]) -> Output {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbee-hive"));
    // Uses neither the data nor the token of the user who runs the tests.
    command.env("HOME", place.path()).env("XDG_DATA_HOME", place.path());
    command.env_remove("RBEE_HIVE_TOKEN").args(arguments).output().unwrap()
}

#[test]
fn a_value_that_is_not_allowed_is_named_with_what_is() {
    for (arguments, words) in [
        (["--lease", "0"], ["--lease", "1 to 86400"]),
        (["--worker-lease", "soon"], ["soon", "1 to 86400"]),
        (["--log-format", "xml"], ["xml", "json"]),
        (["--host", "everywhere"], ["--host", "everywhere"]),
        (["--file-root", "/nowhere/models"], ["--file-root: /nowhere/models", "No such file"]),
        (["--token-file", "/nowhere/token"], ["/nowhere/token", "No such file"]),
    ] {
        let output = hive(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }
}

#[test]
fn the_help_names_every_flag_that_secures_it() {
    let output = hive(&["--help"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for flag in ["--token-file", "--state-dir", "--host", "--lease"] {
        assert!(said.contains(flag), "{flag}: {said}");
    }
}
