//! Another engine on a hive: llama.cpp's server, with the bundled model as GGUF.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, Message, Queen, Request, Role, Worker, WorkerId, WorkerSpec,
    conformance,
    hive::{HiveEvent, Progress},
    id::Epoch,
    request::{Grammar, Prompt, Sampling, Task, Tool, ToolCall},
};
use rbee_end_to_end::{Environment, are_clients_skipped, built};
use rbee_transport_http::{LocalHive, ProcessHive, wire::engine::EngineCommand};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// llama.cpp, and the packages that make its files.
const PACKAGES: [&str; 4] =
    ["gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0", "xllamacpp==2026.10.11549"];
const TIMEOUT: Duration = Duration::from_secs(120);

/// The Python of the other engine, and the bundled model as a file for it.
struct Other {
    environment: Environment,
    model: PathBuf,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engines").join(name)
}

fn bee_tiny() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    path.canonicalize().unwrap()
}

impl Other {
    async fn prepare() -> Option<Self> {
        if are_clients_skipped() {
            return None;
        }
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let environment = Environment::prepare(cache, "llama.cpp", &PACKAGES, &[]).await;
        // Each test has its own file, because each removes it at its end.
        static FILES: AtomicU32 = AtomicU32::new(0);
        let (process, file) = (std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let model = environment.directory().join(format!("bee-tiny-{process}-{file}.gguf"));
        let convert = environment.python().arg(script("to_gguf.py")).arg(bee_tiny()).arg(&model);
        convert.succeed(TIMEOUT).await;
        Some(Self { environment, model })
    }

    fn engine(&self) -> EngineCommand {
        let python = self.environment.directory().join("venv/bin/python");
        let words = [
            python.to_str().unwrap(),
            script("llama_server.py").to_str().unwrap(),
            "-m",
            "{model_path}",
            "--port",
            "{port}",
            "-np",
            "{slots}",
            "-c",
            "{total_context}",
            "--chat-template-file",
            script("tools.jinja").to_str().unwrap(),
        ]
        .map(str::to_owned);
        let engine = serde_json::json!({
            "name": "llama.cpp", "models": ["*.gguf"], "command": words, "context": 512,
            "tools": true, "json_schema": true,
        });
        serde_json::from_value(engine).unwrap()
    }

    fn hive(&self, dir: &TempDir) -> ProcessHive {
        ProcessHive::new(HiveId::local(), dir.path().into())
            .with_program(built("llm-worker-rbee"))
            .with_engines(vec![self.engine()])
            // What a failing test leaves behind ends soon.
            .with_lease(Duration::from_secs(10))
            .with_threads(1.try_into().unwrap())
    }

    fn spec(&self) -> WorkerSpec {
        let model = format!("file:{}", self.model.display()).parse().unwrap();
        let mut spec = WorkerSpec::new(model);
        (spec.slots, spec.devices) = (2, vec![0]);
        spec
    }

    async fn worker(&self, hive: &ProcessHive) -> Arc<dyn Worker> {
        hive.start().await.unwrap();
        hive.spawn(WorkerId::random(), &self.spec(), Progress::ignore()).await.unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.model);
    }
}

fn pid_of(dir: &TempDir, id: WorkerId) -> Pid {
    pid_in(&dir.path().join(format!("{id}.json")))
}

/// A process that must not outlive the test.
struct KillOnDrop(Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if !is_gone(self.0) {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

fn is_gone(pid: Pid) -> bool {
    stat(&pid.to_string()).is_none_or(|fields| fields[0] == "Z")
}

/// The process that is recorded in this file.
fn pid_in(path: &Path) -> Pid {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// The fields of a process's state after its name; the second is its parent.
fn stat(pid: &str) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The engine's process, a child of the worker.
fn engine_of(worker: Pid) -> Pid {
    let entries = std::fs::read_dir("/proc").unwrap();
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let is_child = |pid: &String| stat(pid).is_some_and(|fields| fields[1] == worker.to_string());
    let child = names.filter(|name| name.parse::<u32>().is_ok()).find(is_child);
    Pid::from_raw(child.expect("the worker has an engine").parse().unwrap()).unwrap()
}

async fn until_gone(pid: Pid) {
    let wait = async {
        while !is_gone(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the process ends");
}

async fn ask(queen: &Queen, request: Request) -> String {
    let mut answer = queen.submit(request).await.unwrap();
    let mut text = String::new();
    while let Some(more) = answer.next_text().await.unwrap() {
        text.push_str(&more);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_is_a_worker_like_any_other() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let hive = other.hive(&dir);
    let worker = other.worker(&hive).await;
    let info = worker.info();
    assert_eq!((&*info.backend, info.slots, info.capabilities.resume), ("llama.cpp", 2, false));
    let mut subject =
        conformance::worker::Subject::new(worker.clone(), Prompt::Text("The bees".into()));
    subject.promptness = Duration::from_secs(20);
    conformance::worker::check(&subject).await;
    // Also those of a conversation, which it counts with its template.
    subject.prompt = Prompt::Chat(vec![Message::new(Role::User, "Tell me about a flower.")].into());
    let task = Task::Generate { prompt: subject.prompt.clone(), sampling: Sampling::default() };
    assert!(worker.count_tokens(task.into()).await.unwrap() > 8);
    conformance::worker::a_counted_prompt_has_the_tokens_of_its_usage(&subject).await;
    let (guard, engine) = (pid_of(&dir, info.id), engine_of(pid_of(&dir, info.id)));
    hive.stop(info.id, Duration::from_secs(10)).await.unwrap();
    until_gone(guard).await;
    until_gone(engine).await;
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_is_served_by_both_engines_and_both_say_the_same() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let queen = Queen::builder()
        .hive(other.hive(&dir))
        .alias("gguf", other.spec().model.as_str())
        .alias("safetensors", format!("file:{}", bee_tiny().display()))
        .build()
        .await
        .unwrap();
    let lily = |model: &str| {
        Request::chat(model).user("Tell me about a lily.").temperature(0.0).max_tokens(40)
    };
    let text = ask(&queen, lily("gguf")).await;
    assert_eq!(text, ask(&queen, lily("safetensors")).await);
    assert!(text.starts_with("The lily is a tall white flower."), "{text}");
    assert_eq!(ask(&queen, lily("gguf").stop(" white")).await, "The lily is a tall");
    assert_eq!(
        ask(&queen, Request::completion("gguf", "The bees").temperature(0.0).max_tokens(12)).await,
        ask(&queen, Request::completion("safetensors", "The bees").temperature(0.0).max_tokens(12))
            .await
    );
    let cluster = queen.cluster().await.unwrap();
    let mut backends: Vec<_> =
        cluster.workers().map(|worker| worker.info.backend.clone()).collect();
    backends.sort();
    assert_eq!(backends.iter().map(|name| &**name).collect::<Vec<_>>(), ["candle", "llama.cpp"]);
    let endless = Request::completion("gguf", "bees ".repeat(2_000));
    let mut answer = queen.submit(endless).await.unwrap();
    let error = answer.next_text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextExceeded, "{error}");
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_reads_tools_and_follows_a_schema() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let queen = Queen::builder().hive(other.hive(&dir)).build().await.unwrap();
    let model = other.spec().model.to_string();
    let schema = r#"{"type": "object", "properties": {"flower": {"enum": ["rose", "lily"]}}, "required": ["flower"], "additionalProperties": false}"#;
    let call = ToolCall {
        id: "call_1".into(),
        name: "pick".into(),
        arguments: r#"{"flower": "rose"}"#.into(),
    };
    let plain = Request::chat(&model).user("Pick a flower.").temperature(0.0).max_tokens(8);
    let with_tool = plain.clone().tool(Tool::new("pick", "Picks a flower.", schema));
    let asked = Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") };
    let with_result = with_tool.clone().turn(asked).turn(Message::tool_result("call_1", "done"));
    let mut prompts = Vec::new();
    for request in [plain, with_tool, with_result] {
        let answer = queen.submit(request).await.unwrap().answer().await.unwrap();
        prompts.push(answer.usage.prompt_tokens);
    }
    assert!(prompts[1] > prompts[0] + 50, "the model reads the tool: {prompts:?}");
    assert!(prompts[2] > prompts[1] + 20, "the model reads the call and its result: {prompts:?}");
    let json = Request::chat(&model)
        .user("Name a flower.")
        .sampling(|sampling| sampling.grammar = Some(Grammar::JsonSchema(schema.into())))
        .max_tokens(100);
    let json: serde_json::Value = serde_json::from_str(&ask(&queen, json).await).unwrap();
    assert!(["rose", "lily"].contains(&json["flower"].as_str().unwrap()), "{json}");
    let regex = Request::chat(&model)
        .user("Hi")
        .sampling(|sampling| sampling.grammar = Some(Grammar::Regex("a+".into())));
    let error = queen.submit(regex).await.unwrap().answer().await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("response_format")));
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_dies_with_its_worker_even_where_both_worker_and_hive_are_killed() {
    let Some(other) = Other::prepare().await else { return };
    let dir = rbee_end_to_end::private_tempdir();
    let engines = dir.path().join("engines.json");
    std::fs::write(&engines, serde_json::to_vec(&[other.engine()]).unwrap()).unwrap();
    let arguments = [
        "--worker".to_owned(),
        built("llm-worker-rbee").display().to_string(),
        "--engines".to_owned(),
        engines.display().to_string(),
    ];
    let hive = LocalHive::new(HiveId::local(), dir.path().into())
        .with_program(built("rbee-hive"))
        .with_arguments(arguments);
    hive.start().await.unwrap();
    let spec = other.spec();
    let worker = hive.spawn(WorkerId::random(), &spec, Progress::ignore()).await.unwrap();
    let guard = pid_in(&dir.path().join(format!("workers/{}.json", worker.info().id)));
    let engine = engine_of(guard);
    let daemon = pid_in(&dir.path().join("hive.json"));
    let _left_by_a_failure = [KillOnDrop(engine), KillOnDrop(guard), KillOnDrop(daemon)];
    // No other process is left that could end the engine.
    kill_process(daemon, Signal::KILL).unwrap();
    until_gone(daemon).await;
    kill_process(guard, Signal::KILL).unwrap();
    until_gone(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_with_its_engine_and_tells_its_last_words() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let hive = other.hive(&dir);
    let worker = other.worker(&hive).await;
    let id = worker.info().id;
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    let guard = pid_of(&dir, id);
    kill_process(engine_of(guard), Signal::KILL).unwrap();
    let why = loop {
        match events.next().await.unwrap() {
            HiveEvent::Exited { worker, why } if worker == id => break why,
            _ => {}
        }
    };
    assert!(why.message().contains("engine llama.cpp ended (signal: 9 (SIGKILL))"), "{why}");
    until_gone(guard).await;
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_start_is_an_error_with_its_own_words() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let engine = |program: &str| {
        let engine = serde_json::json!({
            "name": "broken", "models": ["*"], "command": format!("{program} --port {{port}}"),
        });
        vec![serde_json::from_value::<EngineCommand>(engine).unwrap()]
    };
    let refused = async |hive: ProcessHive| {
        hive.start().await.unwrap();
        let spec = other.spec();
        let error = hive.spawn(WorkerId::random(), &spec, Progress::ignore()).await.unwrap_err();
        hive.shutdown(Duration::from_secs(5)).await.unwrap();
        error
    };
    let error = refused(other.hive(&dir).with_engines(engine("/no/such/engine"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("/no/such/engine"), "{error}");
    let error = refused(other.hive(&dir).with_engines(engine("ls"))).await;
    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
    assert!(error.message().contains("unrecognized option"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_frees_the_engines_slot() {
    let Some(other) = Other::prepare().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let hive = other.hive(&dir);
    let worker = other.worker(&hive).await;
    let queen = Queen::builder().worker(worker).build().await.unwrap();
    let model = other.spec().model.to_string();
    for _ in 0..6 {
        let story = Request::completion(&model, "The bees").temperature(1.5).max_tokens(400);
        let mut answer = queen.submit(story).await.unwrap();
        answer.next_text().await.unwrap();
        drop(answer);
    }
    let short = Request::completion(&model, "The bees").max_tokens(1);
    ask(&queen, short).await;
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}
