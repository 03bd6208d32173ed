//! File systems of the tests, in a namespace of their own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A namespace with mounted file systems. It ends when this is dropped.
pub(super) struct Mounts(Child);

impl Mounts {
    /// Runs these commands in a new namespace; `$1` is the path.
    pub(super) fn new(path: &Path, commands: &str) -> Self {
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("set -e; {commands}; echo ready; read -r _"))
            .arg("sh")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `unshare` (util-linux)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let why = "this test mounts file systems in a user namespace, and this system does not allow it \
                   (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor)";
        assert_eq!(line.trim(), "ready", "{why}");
        Self(child)
    }

    /// The command that runs another one in the namespace.
    pub(super) fn enter(&self) -> Vec<String> {
        let target = self.0.id().to_string();
        ["nsenter", "--target", &target, "--user", "--mount", "--preserve-credentials", "--"]
            .map(String::from)
            .into()
    }

    /// Runs commands in the namespace; `$1` is the path.
    pub(super) fn run(&self, path: &Path, commands: &str) -> String {
        let enter = self.enter();
        let output = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["sh", "-c", commands, "sh"])
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
