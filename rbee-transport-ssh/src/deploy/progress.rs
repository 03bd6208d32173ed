//! The steps of a deployment, for a live display: [`DeployEvent`].

use std::time::{Duration, Instant};

/// A step of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeployStep {
    /// Looking at the machine.
    Probe,
    /// Choosing the programs that fit it, on this machine.
    Programs,
    /// Copying files, running them once, and giving the directory its name.
    Upload,
    /// Removing old versions.
    CleanUp,
    /// Removing everything.
    Remove,
}

/// Something that happened during a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeployEvent {
    /// A step began.
    Started {
        /// The step.
        step: DeployStep,
    },
    /// Bytes of the files to copy were sent. There is one such event at the beginning of each file, one at its end,
    /// and some between.
    Sent {
        /// The name of the file that is being copied.
        file: String,
        /// The bytes of all files that were sent so far, before compression.
        done: u64,
        /// The bytes of all files to copy.
        total: u64,
    },
    /// A step succeeded. A step that fails has no such event: the call returns the error.
    Finished {
        /// The step.
        step: DeployStep,
        /// How long it took.
        duration: Duration,
        /// The result in a few words.
        detail: String,
    },
}

/// Receives the events of a deployment. Every closure that takes a `&DeployEvent` is one; `()` ignores them.
///
/// ```
/// use rbee_transport_ssh::deploy::{DeployEvent, DeployProgress};
///
/// let show = |event: &DeployEvent| println!("{event:?}");
/// let _progress: &dyn DeployProgress = &show;
/// ```
pub trait DeployProgress: Send + Sync {
    /// Called for each event. It must return at once.
    fn event(&self, event: &DeployEvent);
}

impl<F: Fn(&DeployEvent) + Send + Sync> DeployProgress for F {
    fn event(&self, event: &DeployEvent) {
        self(event);
    }
}

impl DeployProgress for () {
    fn event(&self, _: &DeployEvent) {}
}

/// A step in progress.
pub(super) struct RunningStep<'a> {
    progress: &'a dyn DeployProgress,
    step: DeployStep,
    begin: Instant,
}

impl<'a> RunningStep<'a> {
    pub(super) fn start(progress: &'a dyn DeployProgress, step: DeployStep) -> Self {
        progress.event(&DeployEvent::Started { step });
        Self { progress, step, begin: Instant::now() }
    }

    pub(super) fn finish(self, detail: impl Into<String>) {
        let duration = self.begin.elapsed();
        let (step, detail) = (self.step, detail.into());
        self.progress.event(&DeployEvent::Finished { step, duration, detail });
    }
}
