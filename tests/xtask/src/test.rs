//! Everything that must hold before a change is merged.
//!
//! The quick checks come first. Only a few feature sets are built: the core alone without and with its default
//! features, because embedders build these, and the workspace with all features.

use crate::{
    api, dependencies, layers, metadata, purity, python,
    steps::{self, Failure, Step, cargo},
    system, words,
};

/// Runs all checks.
pub(crate) fn run() -> Result<(), Failure> {
    let packages = metadata::packages()?;
    let features = metadata::test_features(&packages);
    let all = ["--workspace", "--features", features.as_str()];

    let mut clippy_all = Step::cargo("lints of everything", &["clippy", "--all-targets"]);
    clippy_all.arguments(&all);
    clippy_all.arguments(&["--", "-D", "warnings"]);
    let mut doc = Step::cargo("documentation", &["doc", "--no-deps"])
        .environment("RUSTDOCFLAGS", "-D warnings");
    doc.arguments(&all);
    // Without a choice of targets cargo runs unit, integration and documentation tests. The random cases are the same
    // every time, so that a failure comes from the change. All programs are built by this one call.
    let mut test = Step::cargo("tests", &["test"])
        .environment("PROPTEST_RNG_SEED", "2026")
        .environment("TEST_PROGRAMS_BUILT", "1");
    test.arguments(&all);

    steps::run(&[
        Step::check("programs for the tests", system::check),
        Step::cargo("formatting", &["fmt", "--all", "--check"]),
        Step::check("dependency rules", dependencies::check),
        Step::check("licenses and sources", deny),
        Step::check("layers", layers::check),
        Step::check("purity", purity::check),
        Step::check("words", words::check),
        Step::check("public API", api::check),
        Step::check("size of the public API", api::check_size),
        clippy("lints of the bare core", &["--package", "rbee-core", "--no-default-features"]),
        clippy("lints of the core", &["--package", "rbee-core"]),
        // It leaves out most features of the daemon, which no other step does.
        clippy("lints of the quickstart", &["--package", "quickstart"]),
        clippy_all,
        doc,
        test,
        Step::check("the Python package", python::test),
    ])
}

fn clippy(name: &str, arguments: &[&str]) -> Step {
    let mut step = Step::cargo(name, &["clippy"]);
    step.arguments(arguments);
    step.arguments(&["--", "-D", "warnings"]);
    step
}

/// Advisories are left out: they change independently of this repository, and would make an old commit fail.
fn deny() -> Result<(), Failure> {
    let installed =
        cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if installed {
        let step = Step::cargo("cargo deny", &["deny", "check", "bans", "licenses", "sources"]);
        return step.run();
    }
    if std::env::var_os("CI_REQUIRE_DENY").is_some_and(|value| value == "1") {
        return Err("cargo-deny is not installed, and CI_REQUIRE_DENY=1 asks for it".into());
    }
    println!("!!! NOT CHECKED: cargo-deny is not installed (cargo install cargo-deny --locked)");
    Ok(())
}
