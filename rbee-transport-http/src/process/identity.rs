//! The identity of a process beyond its number, which the system reuses.

use std::fmt;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// A process: its number and when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pid: i32,
    /// Opaque; equal for one process, and different for any later process with its number, also after a reboot.
    started: Box<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

impl Identity {
    /// The process that has this number now, also if it has ended and was not waited for yet.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        Some(Self { pid, started: look(pid)?.started })
    }

    /// True if it is alive.
    pub(crate) fn is_alive(&self) -> bool {
        look(self.pid).is_some_and(|seen| !seen.dead && seen.started == self.started)
    }

    /// Its number in the system.
    pub(crate) fn number(&self) -> Option<u32> {
        u32::try_from(self.pid).ok()
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

/// What the system reports about a process number.
struct Seen {
    started: Box<str>,
    dead: bool,
}

/// Seconds of the clock are not usable on Linux: they are computed from the boot time, which moves when the clock is
/// set.
#[cfg(target_os = "linux")]
fn look(pid: i32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program comes second, in parentheses, and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let ticks = fields.nth(18)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(Seen { started: format!("{}/{ticks}", boot.trim()).into(), dead })
}

#[cfg(not(target_os = "linux"))]
fn look(pid: i32) -> Option<Seen> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

    let pid = Pid::from_u32(u32::try_from(pid).ok()?);
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing(),
    );
    let process = system.process(pid)?;
    let dead = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    Some(Seen { started: process.start_time().to_string().into(), dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let this = Identity::of(std::process::id()).unwrap();
        assert!(this.is_alive());
        assert_eq!(Identity::of(std::process::id()), Some(this.clone()));
        let earlier = Identity { started: "long ago".into(), ..this };
        assert!(!earlier.is_alive(), "another process had the number before");
    }

    #[test]
    fn what_has_ended_does_not_live_even_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let gone = || !identity.is_alive();
        let timeout = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !gone() && std::time::Instant::now() < timeout {
            std::thread::yield_now();
        }
        assert!(gone());
        child.wait().unwrap();
    }
}
