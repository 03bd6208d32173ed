//! What every daemon needs around its server.

mod log;

#[cfg(unix)]
use rbee_core::{Error, ErrorKind, Result};
#[cfg(unix)]
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process as it would have without this.
///
/// # Errors
/// [`ErrorKind::Internal`] where the system does not let signals be handled.
#[cfg(unix)]
pub fn stop_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};

    let wrong = |cause: std::io::Error| {
        Error::new(ErrorKind::Internal, format!("signals cannot be handled: {cause}"))
            .with_source(cause)
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
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
