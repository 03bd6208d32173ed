//! The daemon `queen-rbee`, in the process of the interpreter.

use std::{ffi::OsString, path::PathBuf};

use pyo3::prelude::*;
use rbee_transport_http::Program;

/// Runs the daemon until its end, and returns its exit code.
#[pyfunction]
pub(crate) fn daemon(
    py: Python<'_>,
    arguments: Vec<OsString>,
    program: PathBuf,
    model: Option<PathBuf>,
) -> u8 {
    Program::packaged_as(program);
    if let Some(model) = model {
        queen_rbee::set_bundled_model(model);
    }
    py.detach(|| queen_rbee::run(arguments))
}
