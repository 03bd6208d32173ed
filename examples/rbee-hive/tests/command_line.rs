//! Tests of the errors for wrong arguments, which come before the program does anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Shared with the tests of the keeper.
#[path = "../../rbee-keeper/tests/rbee/support/well_said.rs"]
mod well_said;

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
        (
            ["--lease", "0"],
            ["CONFIG: --lease: lease is \"0\"; allowed is a duration", "from 1s to 1d"],
        ),
        (["--worker-lease", "soon"], ["worker_lease is \"soon\"; allowed is", "from 1s to 1d"]),
        (["--models-budget", "10GX"], ["models_budget is \"10GX\"; allowed is a size", "64MiB"]),
        (["--port", "99999"], ["--port: port is \"99999\"", "to 65535"]),
        (["--id", "a b"], ["--id: ", "a b"]),
        (["--threads", "0"], ["threads is \"0\"", "a whole number"]),
        (["--no-such-flag", "1"], ["--no-such-flag", "--help"]),
        (["--log-level", "loud,"], ["log_level", "allowed is error, warn"]),
        (["--engines", "/nowhere/engines"], ["/nowhere/engines", "No such file"]),
        (["--log-format", "xml"], ["xml", "json"]),
        (["--host", "everywhere"], ["--host", "everywhere"]),
        (["--file-root", "/nowhere/models"], ["--file-root: /nowhere/models", "No such file"]),
        (["--token-file", "/nowhere/token"], ["/nowhere/token", "No such file"]),
    ] {
        let output = hive(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        well_said::assert_well_said(&said);
    }
}

#[test]
fn a_value_of_a_variable_is_refused_as_one_of_a_flag_is() {
    for (variable, value, says) in [
        (
            "RBEE_HIVE_LEASE",
            "2d",
            "CONFIG: RBEE_HIVE_LEASE: lease is \"2d\"; allowed is a duration",
        ),
        ("RBEE_HIVE_MODELS_BUDGET", "much", "RBEE_HIVE_MODELS_BUDGET: models_budget is \"much\""),
        ("RBEE_HIVE_TOKEN", "short", "CONFIG: RBEE_HIVE_TOKEN"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbee-hive"));
        command.env("HOME", place.path()).env("XDG_DATA_HOME", place.path());
        let output = command.env(variable, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        assert!(said.contains(says), "{variable}: {said}");
    }
}

#[test]
fn durations_and_sizes_have_the_units_that_a_queen_takes() {
    // The port is taken, so that the program ends once it has read everything.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let arguments = ["--lease", "1m30s", "--worker-lease", "90", "--models-budget", "64MiB"];
    let output = hive(&[&arguments[..], &["--port", &port]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
}

#[test]
fn the_help_names_every_flag_that_secures_it() {
    let output = hive(&["--help"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for flag in
        ["--token-file", "--state-dir", "--host", "--lease", "RBEE_HIVE_TOKEN", "Exit codes"]
    {
        assert!(said.contains(flag), "{flag}: {said}");
    }
}
