//! The steps of a connection, for a live display: [`Progress`].

use std::time::{Duration, Instant};

/// A step of opening a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectStep {
    /// Reading the configuration.
    Configuration,
    /// Connecting and exchanging keys; the step ends when the host key is accepted.
    HostKey,
    /// Authenticating as the user.
    Authentication,
}

/// Something that happened while a connection is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectEvent {
    /// A step began.
    Started {
        /// The machine; jump hosts have steps of their own.
        host: String,
        /// The step.
        step: ConnectStep,
    },
    /// A step succeeded. A step that fails has no such event: the call returns the error.
    Finished {
        /// The machine.
        host: String,
        /// The step.
        step: ConnectStep,
        /// How long it took.
        duration: Duration,
        /// The result in a few words: the host key, the key of the user.
        detail: String,
    },
}

/// Receives the events of a connection that is being opened. Every closure that takes a `&ConnectEvent` is one.
///
/// ```
/// use rbee_transport_ssh::{ConnectEvent, Progress};
///
/// let show = |event: &ConnectEvent| println!("{event:?}");
/// let _progress: &dyn Progress = &show;
/// ```
pub trait Progress: Send + Sync {
    /// Called for each event. It must return at once.
    fn event(&self, event: &ConnectEvent);
}

impl<F: Fn(&ConnectEvent) + Send + Sync> Progress for F {
    fn event(&self, event: &ConnectEvent) {
        self(event);
    }
}

/// A step in progress.
pub(crate) struct RunningStep<'a> {
    progress: Option<&'a dyn Progress>,
    host: &'a str,
    step: ConnectStep,
    begin: Instant,
}

impl<'a> RunningStep<'a> {
    pub(crate) fn start(
        progress: Option<&'a dyn Progress>,
        host: &'a str,
        step: ConnectStep,
    ) -> Self {
        if let Some(progress) = progress {
            progress.event(&ConnectEvent::Started { host: host.into(), step });
        }
        Self { progress, host, step, begin: Instant::now() }
    }

    pub(crate) fn finish(self, detail: impl Into<String>) {
        if let Some(progress) = self.progress {
            progress.event(&ConnectEvent::Finished {
                host: self.host.into(),
                step: self.step,
                duration: self.begin.elapsed(),
                detail: detail.into(),
            });
        }
    }
}
