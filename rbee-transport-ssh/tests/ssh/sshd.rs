//! A real SSH server for a test: [`Sshd`], with keys made for it.
//!
//! It runs as the current user, on a loopback port, with a configuration in a temporary directory, and touches nothing
//! else. It ends with the test.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use rbee_transport_ssh::{ConnectOptions, Connection, HostConfig, SshError};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::keys::{INSTALL, Key, user};

const PROGRAM: &str = "/usr/sbin/sshd";
const LIMIT: Duration = Duration::from_secs(20);

/// A running server. It has the host keys `ed25519`, `ecdsa` and `rsa` (if asked for), and lets one key in.
pub(crate) struct Sshd {
    listener: Listener,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    pub(crate) host_keys: Vec<Key>,
    pub(crate) client_key: Key,
}

/// How to start it.
pub(crate) struct SshdOptions<'a> {
    /// The types of its host keys.
    pub(crate) host_keys: &'a [&'a str],
    /// More lines of its configuration. They win over those of this helper.
    pub(crate) lines: &'a [&'a str],
}

impl Default for SshdOptions<'_> {
    fn default() -> Self {
        Self { host_keys: &["ed25519"], lines: &[] }
    }
}

impl Sshd {
    /// A server with one host key, an ed25519 one, that lets [`client_key`](Self::client_key) in.
    pub(crate) fn start() -> Self {
        Self::start_with(&SshdOptions::default())
    }

    /// A server with more lines in its configuration.
    pub(crate) fn with_lines(lines: &[&str]) -> Self {
        Self::start_with(&SshdOptions { lines, ..SshdOptions::default() })
    }

    pub(crate) fn start_with(options: &SshdOptions<'_>) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let host_keys: Vec<Key> = options
            .host_keys
            .iter()
            .map(|kind| Key::new(path, &format!("host_{kind}"), kind))
            .collect();
        let client_key = Key::new(path, "id_client", "ed25519");
        fs::write(path.join("authorized_keys"), client_key.public() + "\n").unwrap();
        let (listener, port) = listen(path, &host_keys, options.lines);
        let sshd = Self { listener, port, directory, host_keys, client_key };
        fs::write(sshd.path("known_hosts"), sshd.known_hosts_line(&sshd.host_keys[0])).unwrap();
        sshd
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lets another key in.
    pub(crate) fn authorize(&self, line: &str) {
        let path = self.path("authorized_keys");
        let lines = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{lines}{line}\n")).unwrap();
    }

    /// The name of this server in files with host keys.
    pub(crate) fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    /// A line for files with host keys.
    pub(crate) fn known_hosts_line(&self, key: &Key) -> String {
        format!("{} {}\n", self.name(), key.public())
    }

    /// Replaces the client's file with host keys.
    pub(crate) fn set_known_hosts(&self, lines: &str) {
        fs::write(self.path("known_hosts"), lines).unwrap();
    }

    pub(crate) fn known_hosts(&self) -> String {
        fs::read_to_string(self.path("known_hosts")).unwrap_or_default()
    }

    /// How to reach it: with the right key, its host key in `known_hosts`, and no agent.
    pub(crate) fn config(&self) -> HostConfig {
        let mut config = HostConfig::new("127.0.0.1", self.port, user());
        config.identity_files = vec![self.client_key.path.clone()];
        config.user_known_hosts = vec![self.path("known_hosts")];
        config
    }

    /// Connects with [`config`](Self::config).
    pub(crate) async fn connect(&self) -> Result<Connection, SshError> {
        Connection::open(&self.config(), &ConnectOptions::default()).await
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        self.listener.log.lock().unwrap().clone()
    }

    /// Stops the server and its sessions, as a machine that hangs.
    pub(crate) fn freeze(&self) {
        for pid in self.listener.processes() {
            let _ = kill_process(pid, Signal::STOP);
        }
    }
}

/// The process that listens.
struct Listener {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Listener {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// This process and all below it: each session has processes of its own.
    fn processes(&self) -> Vec<Pid> {
        let mut all: Vec<(i32, i32)> = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            // PID (NAME) STATE PARENT …, and the name may contain blanks.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let (start, rest) = (stat.split(' ').next(), stat.rsplit(") ").next().unwrap());
            let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse().ok());
            all.extend(start.and_then(|pid| pid.parse().ok()).zip(parent));
        }
        let mut found = vec![self.pid().as_raw_nonzero().get()];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(all.iter().filter(|(_, above)| *above == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found.into_iter().filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A stopped process takes no other signal.
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Starts the server on a free port. Another process may take the port in between, so this is tried a few times.
fn listen(directory: &Path, host_keys: &[Key], lines: &[&str]) -> (Listener, u16) {
    assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing; {INSTALL}");
    // The directory for unprivileged children, which a package's service makes. Only root needs it.
    if rustix::process::getuid().is_root() {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = directory.join("sshd_config");
        fs::write(&config, configuration(directory, host_keys, lines, port)).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let (said, heard) = mpsc::channel();
        let kept = log.clone();
        // It ends with the server.
        thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                *kept.lock().unwrap() += &format!("{line}\n");
                let _ = said.send(line);
            }
        });
        let listener = Listener { child, log };
        while let Ok(line) = heard.recv_timeout(LIMIT) {
            if line.starts_with("Server listening on 127.0.0.1") {
                return (listener, port);
            }
        }
        let log = listener.log.lock().unwrap().clone();
        assert!(log.contains("Address already in use"), "sshd does not start:\n{log}");
    }
    panic!("no free port was found");
}

fn configuration(directory: &Path, host_keys: &[Key], lines: &[&str], port: u16) -> String {
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for key in host_keys {
        text += &format!("HostKey {}\n", key.path.display());
    }
    let directory = directory.display();
    text += &format!(
        "ListenAddress 127.0.0.1:{port}\nAuthorizedKeysFile {directory}/authorized_keys\nPidFile none\nUsePAM no\n\
         StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nUseDNS no\nLogLevel VERBOSE\nMaxStartups 100\n"
    );
    text
}
