//! A real SSH server for a test: [`Sshd`], with keys made for it ([`Key`]).
//!
//! It runs as the current user, on a loopback port, with a configuration in a temporary directory, and touches nothing
//! else. It ends with the test.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rbee_transport_ssh::{
    ConnectOptions, Connection, HostConfig, Passphrase, Passphrases, SshError,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/sshd";
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a program to its end, which must be a good one, and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|cause| panic!("{program} cannot be run ({cause}); {INSTALL}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

const INSTALL: &str = "install it (Debian: apt-get install openssh-server openssh-client)";

/// The user that the tests run as, and log in as.
pub(crate) fn user() -> String {
    run("id", &["-un"]).trim().to_owned()
}

/// A pair of keys in files: `PATH` and `PATH.pub`.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) path: PathBuf,
}

impl Key {
    /// Makes a key of this type (`ed25519`, `ecdsa`, `rsa`) without a passphrase.
    pub(crate) fn new(directory: &Path, name: &str, kind: &str) -> Self {
        Self::with_passphrase(directory, name, kind, "")
    }

    /// Makes an encrypted key.
    pub(crate) fn with_passphrase(
        directory: &Path,
        name: &str,
        kind: &str,
        passphrase: &str,
    ) -> Self {
        let path = directory.join(name);
        let file = path.to_str().unwrap();
        // Few rounds, because the tests decrypt in debug builds.
        run("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-a", "1", "-C", name, "-f", file]);
        Self { path }
    }

    /// `TYPE BASE64`, without the comment.
    pub(crate) fn public(&self) -> String {
        let line = fs::read_to_string(with_suffix(&self.path, ".pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// `SHA256:…`
    pub(crate) fn fingerprint(&self) -> String {
        let line = run("ssh-keygen", &["-lf", with_suffix(&self.path, ".pub").to_str().unwrap()]);
        line.split(' ').nth(1).unwrap().to_owned()
    }

    /// Signs a certificate for another key, with the given arguments of `ssh-keygen`, and returns its file.
    pub(crate) fn certify(&self, key: &Key, arguments: &[&str]) -> PathBuf {
        let public = with_suffix(&key.path, ".pub");
        let mut all = vec!["-q", "-s", self.path.to_str().unwrap()];
        all.extend(arguments);
        all.push(public.to_str().unwrap());
        run("ssh-keygen", &all);
        with_suffix(&key.path, "-cert.pub")
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

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

/// A server of another kind. It lets in whom the files of the user let in, so the tests have no key for it.
pub(crate) struct Dropbear {
    child: Child,
    pub(crate) port: u16,
}

impl Dropbear {
    pub(crate) fn start(directory: &Path) -> Self {
        const INSTALL: &str = "install it (Debian: apt-get install dropbear-bin)";
        let key = directory.join("dropbear_key");
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f", key.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|cause| panic!("dropbearkey cannot be run ({cause}); {INSTALL}"));
        assert!(made.success());
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("/usr/sbin/dropbear")
                .args(["-F", "-E", "-s", "-r", key.to_str().unwrap()])
                .args(["-p", &format!("127.0.0.1:{port}"), "-P", "/dev/null"])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|cause| panic!("dropbear cannot be run ({cause}); {INSTALL}"));
            // It says nothing when it listens.
            let begin = Instant::now();
            while begin.elapsed() < LIMIT && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port };
                }
                thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("dropbear does not start");
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A real agent.
pub(crate) struct Agent {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Agent {
    /// Starts an agent with these keys.
    pub(crate) fn start(directory: &Path, keys: &[&Key]) -> Self {
        let socket = directory.join("agent.socket");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a", socket.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|cause| panic!("ssh-agent cannot be run ({cause}); {INSTALL}"));
        // It prints its variables once it listens.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let agent = Self { child, socket };
        for key in keys {
            let added = Command::new("ssh-add")
                .arg("-q")
                .arg(&key.path)
                .env("SSH_AUTH_SOCK", &agent.socket)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Knows the passphrases to give, one after the other, and counts how often it was asked.
pub(crate) struct Given(Mutex<Vec<&'static str>>, pub(crate) Mutex<Vec<PathBuf>>);

impl Given {
    pub(crate) fn new(passphrases: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(passphrases.to_vec()), Mutex::default()))
    }

    pub(crate) fn asked(&self) -> usize {
        self.1.lock().unwrap().len()
    }
}

#[async_trait::async_trait]
impl Passphrases for Given {
    async fn passphrase(&self, key_file: &Path, _attempt: u32) -> Option<Passphrase> {
        self.1.lock().unwrap().push(key_file.into());
        let mut left = self.0.lock().unwrap();
        (!left.is_empty()).then(|| Passphrase::new(left.remove(0).into()))
    }
}

/// Sets the mode of a file.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The modes of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
