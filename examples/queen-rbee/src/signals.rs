//! The signals of the process.

use std::sync::Arc;

use rbee_core::{Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The signals, by their meaning.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The first SIGTERM or SIGINT: shut down gracefully.
    pub end: CancellationToken,
    /// The second one: do not wait for jobs that have not ended.
    pub hurry: CancellationToken,
    /// SIGUSR1: shut down and leave hives and workers to the next queen.
    pub hand_over: CancellationToken,
    /// SIGHUP: read files again. Notified once for several in quick succession.
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Handles signals from now on. A third SIGTERM or SIGINT ends the process immediately.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the system does not allow handling signals.
    #[cfg(unix)]
    pub fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let signal = |kind| signal(kind).map_err(wrong);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut user = signal(SignalKind::user_defined1())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let signals = Self::unheard();
        let told = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => told.again(),
                    _ = interrupt.recv() => told.again(),
                    _ = user.recv() => told.hand_over.cancel(),
                    _ = hangup.recv() => told.reload.notify_one(),
                }
            }
        });
        Ok(signals)
    }

    /// Handles Ctrl-C from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the system does not allow handling signals.
    #[cfg(not(unix))]
    pub fn listen() -> Result<Self> {
        let signals = Self::unheard();
        let told = signals.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                told.again();
            }
        });
        Ok(signals)
    }

    fn unheard() -> Self {
        let new = CancellationToken::new;
        Self { end: new(), hurry: new(), hand_over: new(), reload: Arc::default() }
    }

    fn again(&self) {
        if self.hurry.is_cancelled() {
            std::process::exit(130);
        }
        if self.end.is_cancelled() {
            self.hurry.cancel();
        }
        self.end.cancel();
    }
}

#[cfg(unix)]
fn wrong(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("signals cannot be handled: {cause}"))
        .with_source(cause)
}
