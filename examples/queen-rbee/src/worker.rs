//! The program of a worker: the configured one, this program, or one in the same directory.

use std::path::Path;
#[cfg(feature = "inside")]
use std::process::ExitCode;

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::Program;

/// The program of a worker, and the first argument that makes this program a worker.
const NAME: &str = "llm-worker-rbee";

/// Call this first in `main`: if this process was started as a worker, it runs as one until its end, and then returns
/// its exit code. From then on workers may be started from this program.
#[cfg(feature = "inside")]
pub fn be_worker_if_told() -> Option<ExitCode> {
    Program::contain(&[NAME]);
    let told = std::env::args_os().nth(1).is_some_and(|first| first == NAME);
    told.then(llm_worker_rbee::main_from_stdin)
}

/// Finds the program: the configured one, or this program, which always fits, or the one in the same directory.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none.
pub(crate) fn program(named: Option<&Path>) -> Result<Program> {
    if let Some(path) = named {
        if !path.is_file() {
            let message = format!("worker_program is {}; there is no such file", path.display());
            return Err(Error::new(ErrorKind::Config, message));
        }
        return Ok(Program::new(path, NAME));
    }
    let program = Program::beside(NAME).map_err(|cause| {
        let message = "this program does not know its own path; set worker_program";
        Error::new(ErrorKind::Config, message).with_source(cause)
    })?;
    if program.path.is_file() {
        return Ok(program);
    }
    let message = format!("there is no {} and no worker_program", program.path.display());
    Err(Error::new(ErrorKind::Config, message))
}
