//! The program of a worker: the configured one, this program, or one in the same directory.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use rbee_core::{Error, ErrorKind, Result};

/// The program of a worker, and the first argument that makes this program a worker.
const NAME: &str = "llm-worker-rbee";

static CAN_BE_ONE: AtomicBool = AtomicBool::new(false);

/// Call this first in `main`: if this process was started as a worker, it runs as one until its end, and then returns
/// its exit code. From then on workers may be started from this program.
pub fn be_worker_if_told() -> Option<ExitCode> {
    CAN_BE_ONE.store(true, Ordering::Relaxed);
    let told = std::env::args_os().nth(1).is_some_and(|first| first == NAME);
    told.then(llm_worker_rbee::main_from_stdin)
}

/// How a worker is started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// The arguments before all others.
    pub(crate) arguments: Vec<String>,
}

/// Finds the program: the configured one, or this program, which always fits, or the one in the same directory.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none.
pub(crate) fn program(named: Option<&Path>) -> Result<Program> {
    let plain = |path: PathBuf| Program { path, arguments: Vec::new() };
    if let Some(path) = named {
        if !path.is_file() {
            let message = format!("worker_program is {}; there is no such file", path.display());
            return Err(Error::new(ErrorKind::Config, message));
        }
        return Ok(plain(path.to_owned()));
    }
    let here = std::env::current_exe().map_err(|cause| {
        let message = "this program does not know its own path; set worker_program";
        Error::new(ErrorKind::Config, message).with_source(cause)
    })?;
    if CAN_BE_ONE.load(Ordering::Relaxed) {
        return Ok(Program { path: here, arguments: vec![NAME.into()] });
    }
    let beside = here.with_file_name(format!("{NAME}{}", std::env::consts::EXE_SUFFIX));
    if beside.is_file() {
        return Ok(plain(beside));
    }
    let message = format!("there is no {} and no worker_program", beside.display());
    Err(Error::new(ErrorKind::Config, message))
}
