//! Keys for a test ([`Key`]), a real agent ([`Agent`]), and a person who knows passphrases ([`Given`]).

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rbee_transport_ssh::{Passphrase, Passphrases};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const INSTALL: &str =
    "install it (Debian: apt-get install openssh-server openssh-client)";

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
