//! Tool calls and structured output through the official clients, by the bundled model in a real worker.

use std::path::Path;

use rbee_end_to_end::{Environment, are_clients_skipped};

use crate::bundled_model::{run, script};

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
