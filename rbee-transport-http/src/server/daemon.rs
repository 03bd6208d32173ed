//! What every daemon needs in addition to its server: signals, reloads, limits.

mod log;
mod units;

use std::path::Path;

use rbee_core::Result;
#[cfg(unix)]
use rbee_core::{Error, ErrorKind};
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
#[cfg(unix)]
use tokio_util::sync::CancellationToken;

pub use units::{ByteSize, HumanDuration, allowed_values, quoted};

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process immediately.
///
/// # Errors
/// [`ErrorKind::Internal`] if the system does not allow handling signals.
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
                tracing::warn!("got a second signal: ending at once");
                std::process::exit(130);
            }
            tell.cancel();
        }
    });
    Ok(stop)
}

/// Runs this on every SIGHUP, which would otherwise end the process: a supervisor sends it to have files read again,
/// and the system sends it when a terminal is closed.
///
/// # Errors
/// [`ErrorKind::Internal`] if the system does not allow handling signals.
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

/// Logs the result of reading this file again: the `what` in it has changed, has not changed, or is refused.
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

/// Logs a warning if other users of this machine can read or change this file, which holds a secret. It may have been
/// replaced, so it is checked whenever it is read again.
pub fn warn_of_exposed(what: &str, file: &Path) {
    if let Some(exposed) = rbee_core::private_files::exposed(file) {
        tracing::warn!("{what}: {exposed}");
    }
}

/// Raises the limit on open files and connections of this process to the maximum that the system allows. Login
/// sessions often begin with 1,024, which is fewer than the connections that a [`Server`](super::Server) accepts.
#[cfg(unix)]
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // If it fails, the daemon serves fewer connections at once, and the others wait.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(?current, ?maximum, %error, "the limit on open files is unchanged");
    }
}

#[cfg(unix)]
fn unhandled(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("signals cannot be handled: {cause}"))
        .with_source(cause)
}
