//! What benchmarks compare with: Python packages, each in an environment of its own below `target`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::steps::root;

/// llama.cpp as a Python package.
const LLAMA_CPP: &str = "xllamacpp==2026.10.11549";
/// The router of the vLLM project.
const VLLM_ROUTER: &str = "vllm-router==0.1.17";

/// Installs llama.cpp unless it is there. Without it the benchmark of the worker measures the other engines.
pub(crate) fn llama_cpp() {
    install("worker-bench", LLAMA_CPP, |python| {
        let mut check = Command::new(python);
        check.args(["-c", "import xllamacpp"]).stdin(Stdio::null()).stderr(Stdio::null());
        check.status().is_ok_and(|status| status.success())
    });
}

/// Installs vLLM's router unless it is there, and returns its program. Without it the benchmark of the gateway measures
/// the others.
pub(crate) fn vllm_router() -> Option<PathBuf> {
    let program = |python: &Path| python.with_file_name("vllm-router");
    let python = install("gateway-bench", VLLM_ROUTER, |python| program(python).exists())?;
    Some(program(&python))
}

/// The Python of the environment in this directory, with the package.
fn install(directory: &str, package: &str, is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let directory = root().join("target/tmp").join(directory);
    let python = directory.join("bin/python");
    if is_there(&python) {
        return Some(python);
    }
    println!("installing {package} into {}", directory.display());
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&directory).stdin(Stdio::null());
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", package]).stdin(Stdio::null());
    for command in [&mut make, &mut install] {
        if !command.status().is_ok_and(|status| status.success()) {
            println!("!!! it could not be installed, so it is not measured");
            return None;
        }
    }
    Some(python)
}
