//! Programs that run in the place of this one: the queen's program, and clients of the queen.

use std::process::Command;

use crate::failure::{Exit, Failure};

/// Replaces this process by the program of the command, so that signals reach it and its exit code is passed on.
/// Returns only if it cannot be started.
#[cfg(unix)]
pub(super) fn in_the_foreground(command: &mut Command) -> Result<Failure, Failure> {
    use std::os::unix::process::CommandExt as _;
    let cause = command.exec();
    Ok(cannot_start(command, &cause))
}

/// Runs the program of the command and waits for its end.
#[cfg(not(unix))]
pub(super) fn in_the_foreground(command: &mut Command) -> Result<Failure, Failure> {
    let status = command.status().map_err(|cause| cannot_start(command, &cause))?;
    Ok(Failure::new(
        if status.success() { Exit::Ok } else { Exit::Failed },
        "ENDED",
        format!("{} ended with {status}", command.get_program().display()),
    ))
}

/// The failure of a program that cannot be started.
pub(super) fn cannot_start(command: &Command, cause: &std::io::Error) -> Failure {
    let program = command.get_program().display();
    Failure::new(Exit::Failed, "NOT_STARTED", format!("{program} cannot be started: {cause}"))
}
