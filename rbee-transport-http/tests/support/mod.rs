//! What the tests of hives share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rbee_core::{HiveId, WorkerSpec};
use rbee_transport_http::{ProcessHive, Token, client::Endpoint, dial::Tcp, server::Server};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

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

/// The program of a worker without a model, which cargo has built beside the tests.
pub(crate) fn echo_worker() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let deps = std::env::current_exe().unwrap();
            let target = deps.parent().unwrap().parent().unwrap();
            let program = target.join("examples/echo-worker");
            // `cargo test` builds examples too; a choice of tests alone does not.
            if !program.is_file() {
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--package", "rbee-transport-http", "--example"]);
                assert!(cargo.arg("echo-worker").status().unwrap().success());
            }
            program
        })
        .clone()
}

/// A hive of echo workers.
pub(crate) fn hive(dir: &TempDir) -> ProcessHive {
    ProcessHive::new(HiveId::local(), dir.path().join("state")).with_program(echo_worker())
}

pub(crate) fn spec(model: &str) -> WorkerSpec {
    WorkerSpec { model: model.parse().unwrap(), slots: 2, devices: vec![0], need_bytes: 0 }
}
