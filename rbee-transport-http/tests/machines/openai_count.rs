//! Counting the tokens of a prompt with the routes of llama.cpp's server and of vLLM.

use std::sync::Arc;

use rbee_core::{
    ErrorKind, Message, Role, Worker, WorkerInfo,
    request::{Chat, EmbedInput, Prompt, Sampling, Task, Tool},
};
use rbee_transport_http::client::OpenAiWorker;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server with these routes: a path, and the status and the body of its response.
struct Server {
    worker: OpenAiWorker,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _stop: DropGuard,
}

impl Server {
    async fn start(routes: &'static [(&'static str, u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, stop) = (Arc::<Mutex<Vec<_>>>::default(), CancellationToken::new());
        let keep = asked.clone();
        let talk = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let (path, body) = loop {
                    let mut more = [0; 4096];
                    let count = stream.read(&mut more).await.unwrap();
                    bytes.extend(&more[..count]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    if let Ok(body) = serde_json::from_str::<Value>(body) {
                        break (head.split(' ').nth(1).unwrap().to_owned(), body);
                    }
                };
                let route = routes.iter().find(|(route, ..)| *route == path);
                let (status, answer) =
                    route.map_or((404, "{}"), |(_, status, body)| (*status, *body));
                keep.lock().await.push((path, body));
                let length = answer.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close");
                let _ = stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(talk));
        let info = WorkerInfo::new("model".parse().unwrap(), "engine");
        let worker = OpenAiWorker::new(&format!("http://127.0.0.1:{port}/v1"), info).unwrap();
        Self { worker, asked, _stop: stop.drop_guard() }
    }

    async fn paths(&self) -> Vec<String> {
        self.asked.lock().await.drain(..).map(|(path, _)| path).collect()
    }
}

fn chat() -> Arc<Task> {
    let chat = Chat {
        messages: vec![Message::new(Role::User, "Hi")],
        tools: vec![Tool { name: "f".into(), description: None, parameters: None }],
        ..Chat::default()
    };
    generate(Prompt::Chat(chat))
}

fn generate(prompt: Prompt) -> Arc<Task> {
    Arc::new(Task::Generate { prompt, sampling: Sampling::default() })
}

#[tokio::test]
async fn llama_cpp_applies_the_template_and_counts_the_text() {
    let server = Server::start(&[
        ("/apply-template", 200, r#"{"prompt": "<user>Hi<assistant>"}"#),
        ("/tokenize", 200, r#"{"tokens": [1, 2, {"id": 3, "piece": "x"}]}"#),
    ])
    .await;
    assert_eq!(server.worker.count_tokens(chat()).await.unwrap(), 3);
    let asked = std::mem::take(&mut *server.asked.lock().await);
    assert_eq!(asked[0].1["messages"], json!([{"role": "user", "content": "Hi"}]));
    assert_eq!(asked[0].1["tools"][0]["function"]["name"], "f");
    let text =
        json!({"content": "<user>Hi<assistant>", "add_special": true, "parse_special": true});
    assert_eq!(asked[1], ("/tokenize".to_owned(), text));
    assert_eq!(server.worker.count_tokens(generate(Prompt::Text("Hi".into()))).await.unwrap(), 3);
    assert_eq!(server.paths().await, ["/tokenize"], "it is known by then");
}

#[tokio::test]
async fn vllm_counts_messages_and_text_itself() {
    let server = Server::start(&[(
        "/tokenize",
        200,
        r#"{"count": 9, "max_model_len": 512, "tokens": [1]}"#,
    )])
    .await;
    assert_eq!(server.worker.count_tokens(chat()).await.unwrap(), 9);
    assert_eq!(server.paths().await, ["/apply-template", "/tokenize"]);
    assert_eq!(server.worker.count_tokens(generate(Prompt::Text("Hi".into()))).await.unwrap(), 9);
    let asked = server.asked.lock().await;
    let text = json!({"model": "model", "prompt": "Hi", "add_special_tokens": true});
    assert_eq!(asked[..], [("/tokenize".to_owned(), text)]);
}

#[tokio::test]
async fn another_server_is_asked_once_and_counts_nothing() {
    let server = Server::start(&[]).await;
    for _ in 0..2 {
        let error = server.worker.count_tokens(chat()).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, None));
    }
    assert_eq!(server.paths().await, ["/apply-template", "/tokenize"]);
    let vectors = Task::Embed { inputs: vec![EmbedInput::Text("x".into())], dimensions: None };
    assert!(server.worker.count_tokens(vectors.into()).await.is_err());
}

#[tokio::test]
async fn an_error_of_the_server_is_told_and_it_is_asked_again() {
    let server = Server::start(&[("/apply-template", 500, "{}"), ("/tokenize", 200, "[]")]).await;
    for _ in 0..2 {
        assert!(server.worker.count_tokens(chat()).await.is_err());
    }
    assert_eq!(server.paths().await, ["/apply-template", "/apply-template"]);
}
