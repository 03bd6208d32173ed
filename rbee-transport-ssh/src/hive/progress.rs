//! The steps by which a machine becomes a hive: [`SshEvent`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    deploy::{DeployEvent, DeployProgress, DeployStep},
    progress::{ConnectEvent, ConnectStep, Progress},
};

/// A step on the way to a hive that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SshStep {
    /// A step of the connection.
    Connect(ConnectStep),
    /// A step of the deployment.
    Deploy(DeployStep),
    /// Starting the hive, or finding the one that runs.
    Start,
    /// Opening the tunnel to it.
    Tunnel,
    /// Asking it for its state.
    Health,
}

impl SshStep {
    /// Its name for programs: `host_key`, `upload`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect(ConnectStep::Configuration) => "configuration",
            Self::Connect(ConnectStep::HostKey) => "host_key",
            Self::Connect(ConnectStep::Authentication) => "authentication",
            Self::Deploy(DeployStep::Probe) => "probe",
            Self::Deploy(DeployStep::Programs) => "programs",
            Self::Deploy(DeployStep::Upload) => "upload",
            Self::Deploy(DeployStep::CleanUp) => "clean_up",
            Self::Deploy(DeployStep::Remove) => "remove",
            Self::Start => "start",
            Self::Tunnel => "tunnel",
            Self::Health => "health",
        }
    }
}

/// Something that happened on the way to a hive that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SshEvent {
    /// A step began.
    Started {
        /// The machine; jump hosts have steps of their own.
        host: String,
        /// The step.
        step: SshStep,
    },
    /// Bytes of the programs were sent.
    Sent {
        /// The machine.
        host: String,
        /// The name of the file that is being copied.
        file: String,
        /// The bytes of all files that were sent so far.
        done: u64,
        /// The bytes of all files to copy.
        total: u64,
    },
    /// A step succeeded. A step that fails has no such event: the call returns the error.
    Finished {
        /// The machine.
        host: String,
        /// The step.
        step: SshStep,
        /// How long it took.
        duration: Duration,
        /// The result in a few words.
        detail: String,
    },
}

/// Receives the events of a machine. Every closure that takes an `SshEvent` is one; `()` ignores them.
pub trait SshProgress: Send + Sync {
    /// Called for each event. It must return at once.
    fn event(&self, event: SshEvent);
}

impl<F: Fn(SshEvent) + Send + Sync> SshProgress for F {
    fn event(&self, event: SshEvent) {
        self(event);
    }
}

impl SshProgress for () {
    fn event(&self, _: SshEvent) {}
}

/// The progress of a connection, as that of a machine.
pub(super) fn of_connection(progress: Arc<dyn SshProgress>) -> Arc<dyn Progress> {
    Arc::new(move |event: &ConnectEvent| {
        progress.event(match event.clone() {
            ConnectEvent::Started { host, step } => {
                SshEvent::Started { host, step: SshStep::Connect(step) }
            }
            ConnectEvent::Finished { host, step, duration, detail } => {
                SshEvent::Finished { host, step: SshStep::Connect(step), duration, detail }
            }
        });
    })
}

/// Reports the steps of one machine.
pub(super) struct Reporter<'a> {
    pub(super) host: &'a str,
    pub(super) progress: &'a Arc<dyn SshProgress>,
}

impl Reporter<'_> {
    pub(super) fn start(&self, step: SshStep) -> RunningStep<'_> {
        self.progress.event(SshEvent::Started { host: self.host.into(), step });
        RunningStep { reporter: self, step, begin: Instant::now() }
    }
}

impl DeployProgress for Reporter<'_> {
    fn event(&self, event: &DeployEvent) {
        let host = self.host.to_owned();
        self.progress.event(match event.clone() {
            DeployEvent::Started { step } => {
                SshEvent::Started { host, step: SshStep::Deploy(step) }
            }
            DeployEvent::Sent { file, done, total } => SshEvent::Sent { host, file, done, total },
            DeployEvent::Finished { step, duration, detail } => {
                SshEvent::Finished { host, step: SshStep::Deploy(step), duration, detail }
            }
        });
    }
}

/// A step in progress.
pub(super) struct RunningStep<'a> {
    reporter: &'a Reporter<'a>,
    step: SshStep,
    begin: Instant,
}

impl RunningStep<'_> {
    pub(super) fn finish(self, detail: impl Into<String>) {
        self.reporter.progress.event(SshEvent::Finished {
            host: self.reporter.host.into(),
            step: self.step,
            duration: self.begin.elapsed(),
            detail: detail.into(),
        });
    }
}
