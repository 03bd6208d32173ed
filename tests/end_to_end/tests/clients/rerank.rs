//! Reranking: clients of other services against a real cross-encoder in a real worker behind a real queen.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{HiveId, ModelRef, Queen, Request};
use rbee_end_to_end::{Environment, Program, are_clients_skipped, built};
use rbee_transport_http::{
    ProcessHive, Token,
    server::{QueenServer, Server},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

const TIMEOUT: Duration = Duration::from_secs(120);

/// What the reference library computed with the model of random weights.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    query: String,
    document: String,
    logit: f32,
}

/// The scores that the clients expect.
#[derive(Serialize)]
struct Expected {
    cases: Vec<Scored>,
}

#[derive(Serialize)]
struct Scored {
    query: String,
    document: String,
    score: f32,
}

/// The cross-encoder of the tests of rbee-core.
fn model() -> PathBuf {
    let place = "../../rbee-core/tests/fixtures/xlm-roberta-reranker-tiny";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(place).canonicalize().unwrap()
}

fn expected() -> Vec<Scored> {
    let golden = std::fs::read(model().join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let score = |Case { query, document, logit }| {
        // The model's files name no other function.
        Scored { query, document, score: 1.0 / (1.0 + f32::exp(-logit)) }
    };
    golden.cases.into_iter().map(score).collect()
}

/// A queen with a worker process of the model, on a port of this machine.
struct Daemon {
    url: String,
    token: Token,
    queen: Queen,
    /// The file with the scores that the clients expect.
    golden: PathBuf,
    _stop: DropGuard,
    _data: tempfile::TempDir,
}

impl Daemon {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let hive = ProcessHive::new(HiveId::local(), data.path().into())
            .with_program(built("llm-worker-rbee"))
            // What a failing test leaves behind ends soon.
            .with_lease(Duration::from_secs(10));
        let reference = ModelRef::file(model()).unwrap();
        let queen = Queen::builder()
            .hive(hive)
            .alias("reranker", reference.as_str())
            .build()
            .await
            .unwrap();
        let golden = data.path().join("golden.json");
        let cases = serde_json::to_vec(&Expected { cases: expected() }).unwrap();
        std::fs::write(&golden, cases).unwrap();
        let (token, stop) = (Token::random().unwrap(), CancellationToken::new());
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/v1", server.address());
        let router = QueenServer::new(queen.clone()).with_token(token.clone()).router();
        tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
        Self { url, token, queen, golden, _stop: stop.drop_guard(), _data: data }
    }

    /// Runs a script against it, and ends its worker.
    async fn run(self, environment: &Environment, script: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script);
        let program: Program = environment
            .python()
            .arg(path)
            .arg(&self.golden)
            .env("OPENAI_BASE_URL", &self.url)
            .env("OPENAI_API_KEY", self.token.reveal())
            // No client may connect to any other server.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("NO_PROXY", "*");
        eprintln!("{}", program.succeed(TIMEOUT).await);
        self.queen.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellm_reranks_with_a_real_cross_encoder() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "litellm", &["litellm==1.106.2"], &[]).await;
    Daemon::new().await.run(&environment, "litellm_rerank.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coheres_python_client_reranks_with_a_real_cross_encoder() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "cohere", &["cohere==7.3.1"], &[]).await;
    Daemon::new().await.run(&environment, "cohere_sdk.py").await;
}

/// The scores pass from the process of the worker through its queen as the reference library has computed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_process_gives_the_scores_of_the_reference_library() {
    let daemon = Daemon::new().await;
    let cases = expected();
    for query in ["where is the bee?", "honey"] {
        let cases: Vec<&Scored> = cases.iter().filter(|case| case.query == query).collect();
        let documents = cases.iter().map(|case| case.document.as_str());
        let request = Request::rerank("reranker", query, documents);
        let answer = daemon.queen.submit(request).await.unwrap().answer().await.unwrap();
        assert_eq!(answer.scores().len(), cases.len());
        for (score, case) in answer.scores().iter().zip(&cases) {
            let off = (score - case.score).abs();
            assert!(off < 1e-5, "{:?} is off by {off}", case.document);
        }
    }
    daemon.queen.shutdown(Duration::from_secs(10)).await.unwrap();
}
