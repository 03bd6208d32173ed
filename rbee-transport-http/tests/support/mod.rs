//! What the tests of hives share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{path::PathBuf, process::Command, sync::OnceLock};

use rbee_core::{HiveId, WorkerSpec};
use rbee_transport_http::ProcessHive;
use tempfile::TempDir;

/// The program of a worker without a model, which cargo has built beside the tests.
pub fn echo_worker() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let deps = std::env::current_exe().unwrap();
            let target = deps.parent().unwrap().parent().unwrap();
            let program = target.join("examples/echo-worker");
            // `cargo test` builds examples too; a choice of tests alone does not.
            if !program.is_file() {
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--package", "rbee-transport-http", "--example"]);
                assert!(cargo.arg("echo-worker").status().unwrap().success());
            }
            program
        })
        .clone()
}

/// A hive of echo workers.
pub fn hive(dir: &TempDir) -> ProcessHive {
    ProcessHive::new(HiveId::local(), dir.path().join("state")).with_program(echo_worker())
}

pub fn spec(model: &str) -> WorkerSpec {
    WorkerSpec { model: model.parse().unwrap(), slots: 2, devices: vec![0], need_bytes: 0 }
}
