//! What every daemon needs around its server.

mod log;

use std::path::Path;

use rbee_core::Result;
#[cfg(unix)]
use rbee_core::{Error, ErrorKind};
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
#[cfg(unix)]
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process as it would have without this.
///
/// # Errors
/// [`ErrorKind::Internal`] if the system does not let signals be handled.
#[cfg(unix)]
pub fn stop_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).map_err(unhandled)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unhandled)?;
    let stop = CancellationToken::new();
    let tell = stop.clone();
    tokio::spawn(async move {
        for times in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if times > 0 {
                tracing::warn!("told to end a second time: ending at once");
                std::process::exit(130);
            }
            tell.cancel();
        }
    });
    Ok(stop)
}

/// Runs this whenever SIGHUP comes, which would end the process without it: a supervisor sends it to have files read
/// again, and the system when a terminal is closed.
///
/// # Errors
/// [`ErrorKind::Internal`] if the system does not let signals be handled.
#[cfg(unix)]
pub fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup()).map_err(unhandled)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
    Ok(())
}

/// Writes to the log what came of reading this file again: the `what` in it has changed or has not, or is refused.
pub fn log_reload(what: &str, file: &Path, reloaded: &Result<bool>) {
    let file = file.display();
    match reloaded {
        Ok(true) => tracing::info!(%file, "reloaded: the new {what} is in force"),
        Ok(false) => tracing::info!(%file, "reloaded: the {what} has not changed"),
        Err(error) => {
            tracing::error!(%file, %error, "the {what} is refused; the old one stays in force");
        }
    }
}

/// Writes a warning to the log if other users of this machine can read or change this file, which holds a secret. It may
/// have been replaced, so it is looked at whenever it is read again.
pub fn warn_of_exposed(what: &str, file: &Path) {
    if let Some(exposed) = rbee_core::private_files::exposed(file) {
        tracing::warn!("{what}: {exposed}");
    }
}

/// Lets this process have as many files and connections open as the system allows it. Many a login begins with 1,024,
/// which is fewer than the connections that a [`Server`](super::Server) takes.
#[cfg(unix)]
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // Without it the daemon serves fewer connections at once, and the others wait.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(?current, ?maximum, %error, "the limit on open files stays");
    }
}

#[cfg(unix)]
fn unhandled(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("signals cannot be handled: {cause}"))
        .with_source(cause)
}
