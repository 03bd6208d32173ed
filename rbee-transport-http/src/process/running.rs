//! A running process: its end is noticed, and it can be ended.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Signal, kill_process, kill_process_group};
use tokio::{process::Child, sync::watch, time::timeout};

use super::Identity;

/// How long a killed process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between two checks, if the system does not report the end.
const LOOK: Duration = Duration::from_secs(1);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// A description for people.
    pub(crate) how: String,
    /// Its exit code; `None` if it was killed or was not a child of this process.
    pub(crate) code: Option<i32>,
}

impl Ended {
    fn unseen() -> Self {
        Self { how: "it was not a child of this process".to_owned(), code: None }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        Self { how: status.to_string(), code: status.code() }
    }
}

/// A process that leads a process group of its own. Dropping this does not end it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    identity: Identity,
    ended: watch::Receiver<Option<Ended>>,
}

impl Running {
    /// A child that was just started, in a process group of its own.
    pub(crate) fn child(child: Child) -> io::Result<Self> {
        let gone = || io::Error::other("the process ended at once");
        let pid = child.id().ok_or_else(gone)?;
        // Until it is waited for, the child keeps its number, even if it has already ended.
        let identity = Identity::of(pid);
        let (tell, ended) = watch::channel(None);
        let watched = identity.clone();
        tokio::spawn(async move {
            let end = wait_for_child(child, watched.as_ref()).await;
            tell.send_replace(Some(end));
        });
        Ok(Self { identity: identity.ok_or_else(gone)?, ended })
    }

    /// A process that was started earlier; `None` if it is no longer alive.
    pub(crate) fn found(identity: Identity) -> Option<Self> {
        if !identity.is_alive() {
            return None;
        }
        let (tell, ended) = watch::channel(None);
        let watched = identity.clone();
        tokio::spawn(async move {
            until_gone(&watched).await;
            end_group(&watched);
            tell.send_replace(Some(Ended::unseen()));
        });
        Some(Self { identity, ended })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits until it ends.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(Ended::unseen),
            Err(_) => Ended::unseen(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Kills it at once, with the processes that it started.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if self.has_ended() || !self.identity.is_alive() {
            return;
        }
        if let Some(pid) = self.identity.pid()
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(process = %self.identity, %error, "cannot be signalled");
        }
    }

    /// Asks it to end, and kills it after `grace`; returns when it is gone.
    pub(crate) async fn end(&self, grace: Duration) {
        if !grace.is_zero() {
            self.signal(Signal::TERM);
            if timeout(grace, self.ended()).await.is_ok() {
                return;
            }
            tracing::warn!(process = %self.identity, "did not end within {grace:?}; killed");
        }
        self.kill();
        if timeout(KILL_TIMEOUT, self.ended()).await.is_err() {
            tracing::error!(process = %self.identity, "does not end although it was killed");
        }
    }
}

async fn wait_for_child(mut child: Child, identity: Option<&Identity>) -> Ended {
    if let Some(identity) = identity {
        // Before it is waited for, which frees its number: until then the group is certainly its own.
        #[cfg(target_os = "linux")]
        if pidfd::wait(identity).await.is_ok() {
            end_group(identity);
        }
        let _ = identity;
    }
    match child.wait().await {
        Ok(status) => status.into(),
        Err(error) => Ended { how: format!("unknown: {error}"), code: None },
    }
}

/// Ends the processes that it started and left behind in its group.
fn end_group(identity: &Identity) {
    if let Some(pid) = identity.pid() {
        // An error means that none is left.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

async fn until_gone(identity: &Identity) {
    #[cfg(target_os = "linux")]
    if pidfd::wait(identity).await.is_ok() {
        return;
    }
    while identity.is_alive() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(target_os = "linux")]
mod pidfd {
    use std::io;

    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::{Interest, unix::AsyncFd};

    use super::Identity;

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// If the system cannot report the end.
    pub(super) async fn wait(identity: &Identity) -> io::Result<()> {
        let Some(pid) = identity.pid() else { return Ok(()) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Checked after the number was bound to the process that has it: another process would differ.
        if !identity.is_alive() {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "the runtime relies on the behavior of the descriptor")]
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd` owns it.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        registered?.readable().await.map(drop)
    }
}
