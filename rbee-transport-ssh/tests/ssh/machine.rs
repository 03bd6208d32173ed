//! A "machine" that is reached by SSH alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{keys::user, sshd::Sshd};

/// A machine with a server, and a directory for rbee on it. Processes that are left there are killed at the end.
pub(crate) struct Machine {
    pub(crate) sshd: Sshd,
}

impl Machine {
    pub(crate) fn start() -> Self {
        Self::with_lines(&[])
    }

    pub(crate) fn with_lines(lines: &[&str]) -> Self {
        Self { sshd: Sshd::with_lines(lines) }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.sshd.path("rbee")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root().join("hives/box")
    }

    /// Writes the configuration of a person who calls this machine `box`, and returns the file.
    pub(crate) fn config(&self) -> PathBuf {
        self.config_with(&self.sshd.client_key.path)
    }

    /// The same, with another key of the person.
    pub(crate) fn config_with(&self, key: &Path) -> PathBuf {
        let text = format!(
            "Host box\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n \
             UserKnownHostsFile {}\n GlobalKnownHostsFile none\n",
            self.sshd.port,
            user(),
            key.display(),
            self.sshd.path("known_hosts").display()
        );
        let path = self.sshd.path("ssh_config");
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn record(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.state().join("hive.json")).ok()?).ok()
    }

    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.record().expect("the hive is recorded")).unwrap()
    }
}

pub(crate) fn pid_of(record: &serde_json::Value) -> Option<Pid> {
    Pid::from_raw(i32::try_from(record["process"]["pid"].as_i64()?).ok()?)
}

pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

impl Drop for Machine {
    fn drop(&mut self) {
        let workers = fs::read_dir(self.state().join("workers")).into_iter().flatten().flatten();
        let records = workers.map(|entry| entry.path()).chain([self.state().join("hive.json")]);
        for path in records.filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
            let record = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(pid) = record.as_ref().and_then(pid_of) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}
