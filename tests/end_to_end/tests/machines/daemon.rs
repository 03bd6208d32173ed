//! Daemons of a user with a home of its own, which end with the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rbee_end_to_end::built;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The home of a user.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where the hive `attic` keeps its state by default.
    pub(crate) fn attic(&self) -> PathBuf {
        self.path("data/rbee/hives/attic")
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.attic().join("token")).unwrap().trim().to_owned()
    }

    /// A program of this user, without the settings of the user who runs the tests.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(built(program));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RBEE_")) {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path("home")).env("XDG_CONFIG_HOME", self.path("config"));
        command.env("XDG_DATA_HOME", self.path("data"));
        command.args(["--log-format", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn hive(&self, port: u16) -> Daemon {
        let mut command = self.command("rbee-hive");
        command.args(["--id", "attic", "--port", &port.to_string()]);
        Daemon::start(command)
    }

    /// A queen, in a data directory that is not the default one.
    pub(crate) fn queen(&self, more: &[&str]) -> Daemon {
        let mut command = self.command("queen-rbee");
        command.arg("--data-dir").arg(self.path("queen"));
        command.args(["--port", "0", "--local-hive", "off"]).args(more);
        Daemon::start(command)
    }
}

/// A running daemon; it is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) said: Vec<Value>,
}

impl Daemon {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let Some(line) = lines.next() else {
                let status = child.wait().unwrap();
                panic!("it ended with {status}: {said:#?}");
            };
            let line = line.unwrap();
            let parsed: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            let address = match parsed["message"].as_str() {
                Some("ready") => parsed["address"].as_str().map(ToOwned::to_owned),
                Some("serving") => parsed["url"].as_str().map(|url| url.replace("http://", "")),
                _ => None,
            };
            said.push(parsed);
            if let Some(address) = address {
                break address.parse().unwrap();
            }
        };
        // Its later output is read, so that it does not block.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address, said }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            self.address,
            body.len()
        );
        if let Some(token) = token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    pub(crate) fn add(&self, order: &Value) -> (u16, Value) {
        self.ask("POST", "/v1/hives", None, order)
    }

    /// Waits until the hive `attic` of this queen has this status.
    pub(crate) fn until(&self, status: &str) {
        let began = Instant::now();
        loop {
            let (_, hives) = self.ask("GET", "/v1/hives", None, &Value::Null);
            if hives["data"][0]["status"] == status {
                return;
            }
            assert!(began.elapsed() < TIMEOUT, "not {status} within {TIMEOUT:?}: {hives}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
