//! Tool calls and structured output through the official clients, by the bundled model in a real worker.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{HiveId, ModelRef, Queen};
use rbee_end_to_end::{Environment, Program, are_clients_skipped, built};
use rbee_transport_http::{
    ProcessHive,
    server::{QueenServer, Server},
};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(180);

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Runs a script against a queen with the bundled model.
async fn run(program: Program) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    let data = tempfile::tempdir().unwrap();
    let hive = ProcessHive::new(HiveId::local(), data.path().into())
        .with_program(built("llm-worker-rbee"))
        // What a failing test leaves behind ends soon.
        .with_lease(Duration::from_secs(10));
    let reference = ModelRef::file(model.canonicalize().unwrap()).unwrap();
    let queen =
        Queen::builder().hive(hive).alias("bee-tiny", reference.as_str()).build().await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/v1", server.address());
    let router = QueenServer::new(queen.clone()).router();
    tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
    let program = program
        .env("OPENAI_BASE_URL", url)
        .env("OPENAI_API_KEY", "none")
        // No client may connect to any other server.
        .env("NO_PROXY", "*");
    eprintln!("{}", program.succeed(TIMEOUT).await);
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_python_client_calls_tools_and_parses_answers() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "openai", &["openai==3.54.0"], &[]).await;
    run(environment.python().arg(script("openai_tools.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchain_calls_tools_and_gives_structured_output() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let packages = ["langchain-openai==1.7.3"];
    let environment = Environment::prepare(cache, "langchain", &packages, &[]).await;
    run(environment.python().arg(script("langchain_tools.py"))).await;
}
