//! Helpers for the tests of hives.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rbee_core::{HiveId, JobId, Run, WorkerId, WorkerSpec, hive::EngineSupport, worker::Resume};
use rbee_transport_http::{ProcessHive, Token, client::Endpoint, dial::Tcp, server::Server};
#[cfg(unix)]
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The token that every daemon of the tests accepts.
pub(crate) fn token() -> Token {
    "t".repeat(64).parse().unwrap()
}

/// A router on a port of its own, for as long as the test runs.
pub(crate) struct Daemon {
    pub(crate) port: u16,
    _stop: DropGuard,
}

impl Daemon {
    pub(crate) async fn serve(router: axum::Router) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (port, stop) = (server.address().port(), CancellationToken::new());
        tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
        Self { port, _stop: stop.drop_guard() }
    }

    pub(crate) fn endpoint(&self, token: Option<Token>) -> Endpoint {
        Endpoint::new(Arc::new(Tcp::loopback()), self.port, token)
    }
}

/// Sends these bytes for every request.
pub(crate) async fn always_answers(answer: String) -> Daemon {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
    let talk = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(talk));
    Daemon { port, _stop: stop.drop_guard() }
}

/// The program of a worker without a model, which cargo has built for the tests.
pub(crate) fn echo_worker() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let deps = std::env::current_exe().unwrap();
            let target = deps.parent().unwrap().parent().unwrap();
            let program = target.join("examples/echo-worker");
            // `cargo test` builds examples too; a selection of tests alone does not.
            if !program.is_file() {
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--package", "rbee-transport-http", "--example"]);
                assert!(cargo.arg("echo-worker").status().unwrap().success());
            }
            program
        })
        .clone()
}

/// A hive of echo workers. Workers that a failed test leaves behind end soon.
pub(crate) fn hive(dir: &TempDir) -> ProcessHive {
    ProcessHive::new(HiveId::local(), dir.path().join("state"))
        .with_program(echo_worker())
        .with_support(EngineSupport::new("echo"))
        .with_lease(Duration::from_secs(10))
}

pub(crate) fn spec(model: &str) -> WorkerSpec {
    let mut spec = WorkerSpec::new(model.parse().unwrap());
    (spec.slots, spec.devices) = (2, vec![0]);
    spec
}

/// A run with this limit of tokens.
pub(crate) fn run(max_tokens: u32) -> Run {
    let job = serde_json::json!({
        "id": JobId::random(), "model": "echo", "priority": "interactive", "seed": 7, "prefix": [],
        "task": {"generate": {"prompt": {"text": "hi"}, "sampling": {
            "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
            "stop": [], "max_tokens": max_tokens,
        }}},
        "timeout": {"secs": 60, "nanos": 0}, "deadline": null, "detached": false, "tenant": null,
        "correlation_id": "test",
    });
    let job = Arc::new(serde_json::from_value(job).unwrap());
    Run { job, attempt: 1, resume: Resume::default() }
}

/// The process of a worker, from its hive's record.
#[cfg(unix)]
pub(crate) fn pid_of(dir: &TempDir, id: WorkerId) -> Pid {
    let path = dir.path().join("state").join(format!("{id}.json"));
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[cfg(unix)]
pub(crate) fn signal(pid: Pid, signal: Signal) {
    rustix::process::kill_process(pid, signal).unwrap();
}

#[cfg(unix)]
pub(crate) fn kill(pid: Pid) {
    signal(pid, Signal::KILL);
}

/// Waits until a process has ended.
#[cfg(unix)]
pub(crate) async fn until_gone(pid: Pid) {
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let wait = async {
        while !gone() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the process ends");
}
