//! What the benchmark of the worker needs: llama.cpp, in a Python environment of its own.

use std::process::{Command, Stdio};

use crate::steps::root;

/// llama.cpp as a Python package.
const PACKAGE: &str = "xllamacpp==2026.10.11549";

/// Installs llama.cpp unless it is there. Without it the benchmark measures the other engines.
pub(crate) fn prepare() {
    let directory = root().join("target/tmp/worker-bench");
    let python = directory.join("bin/python");
    let has_package = || {
        let mut check = Command::new(&python);
        check.args(["-c", "import xllamacpp"]).stdin(Stdio::null()).stderr(Stdio::null());
        check.status().is_ok_and(|status| status.success())
    };
    if !has_package() {
        println!("installing {PACKAGE} into {}", directory.display());
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&directory).stdin(Stdio::null());
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", PACKAGE]).stdin(Stdio::null());
        for command in [&mut make, &mut install] {
            if !command.status().is_ok_and(|status| status.success()) {
                println!("!!! it could not be installed: llama.cpp is not measured");
                return;
            }
        }
    }
}
