//! Servers with OpenAI's API as workers, including faulty ones.

use std::{sync::Arc, time::Duration};

use crate::support::run;
use futures_util::StreamExt;
use rbee_core::{
    Error, ErrorKind, Finish, JobId, Message, Output, Result, Role, Run, Usage, Worker, WorkerInfo,
    answer::ParsedAnswer,
    request::{Chat, Prompt, Sampling, Task, Tool, ToolChoice},
    worker::{Capabilities, Resume},
};
use rbee_transport_http::client::OpenAiWorker;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Sends the same bytes for every request, and keeps the last request.
struct Server {
    port: u16,
    asked: Arc<Mutex<String>>,
    _stop: DropGuard,
}

impl Server {
    async fn answers(answer: impl Into<Vec<u8>>) -> Self {
        let (answer, stop) = (answer.into(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) =
            (listener.local_addr().unwrap().port(), Arc::<Mutex<String>>::default());
        let keep = asked.clone();
        let talk = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 64 << 10];
                let count = stream.read(&mut request).await.unwrap_or(0);
                *keep.lock().await = String::from_utf8_lossy(&request[..count]).into_owned();
                let _ = stream.write_all(&answer).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(talk));
        Self { port, asked, _stop: stop.drop_guard() }
    }

    /// A stream of these events.
    async fn streams(events: &[&str]) -> Self {
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        Self::answers(format!("{head}{body}")).await
    }

    async fn refuses(status: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json");
        Self::answers(format!(
            "{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await
    }

    fn worker(&self) -> OpenAiWorker {
        worker(self.port)
    }
}

fn worker(port: u16) -> OpenAiWorker {
    let info = WorkerInfo::new("model".parse().unwrap(), "engine");
    OpenAiWorker::new(&format!("http://127.0.0.1:{port}/v1"), info).unwrap()
}

async fn outputs(worker: &OpenAiWorker) -> Result<Vec<Output>> {
    let stream = worker.execute(run(8)).await?;
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

async fn error(worker: &OpenAiWorker) -> Error {
    tokio::time::timeout(Duration::from_secs(20), outputs(worker)).await.unwrap().unwrap_err()
}

fn token(text: &str) -> Output {
    Output::Token { id: None, text: text.into(), logprobs: None }
}

#[tokio::test]
async fn a_streamed_answer_becomes_outputs_and_every_token_counts() {
    let server = Server::streams(&[
        r#"{"choices":[{"index":0,"text":"The","finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"text":"","finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"text":" bées","finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        "[DONE]",
    ])
    .await;
    let worker = server.worker().with_model("their-name").with_key("sk-secret").unwrap();
    let usage = rbee_core::Usage { prompt_tokens: 3, completion_tokens: 4, cached_tokens: None };
    assert_eq!(
        outputs(&worker).await.unwrap(),
        [
            token("The"),
            token(" bées"),
            token(""),
            token(""),
            Output::End { finish: Finish::Stop, usage, stop_text: None }
        ]
    );
    let asked = server.asked.lock().await.clone();
    assert!(asked.starts_with("POST /v1/completions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer sk-secret\r\n"), "{asked}");
    assert!(asked.contains("x-correlation-id: test\r\n"), "{asked}");
    assert!(asked.contains(r#""model":"their-name""#), "{asked}");
    assert!(!format!("{worker:?}").contains("sk-secret"));
    assert_eq!(worker.health().await.unwrap().busy, 0);
}

#[tokio::test]
async fn the_cached_tokens_of_a_prompt_are_read_in_every_form_that_servers_have() {
    let usage = |more: &str| {
        format!(r#"{{"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":1{more}}}}}"#)
    };
    let plain = usage("");
    let timed = |timings: &str| plain.replace("[],", &format!(r#"[],"timings":{timings},"#));
    for (last, cached) in [
        (plain.clone(), None),
        (usage(r#","prompt_tokens_details":{"cached_tokens":8}"#), Some(8)),
        (usage(r#","prompt_tokens_details":{"cached_tokens":0,"audio_tokens":1}"#), Some(0)),
        (usage(r#","prompt_tokens_details":{"cached_tokens":10}"#), Some(9)),
        (usage(r#","prompt_tokens_details":null"#), None),
        (usage(r#","prompt_tokens_details":{"cached_tokens":-1}"#), None),
        (usage(r#","prompt_tokens_details":"none""#), None),
        (timed(r#"{"cache_n":7,"prompt_n":2,"prompt_ms":1.5}"#), Some(7)),
        (timed(r#"{"prompt_n":2}"#), None),
        (timed("[1.5]"), None),
    ] {
        let text = r#"{"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]}"#;
        let server = Server::streams(&[text, &last, "[DONE]"]).await;
        let usage =
            rbee_core::Usage { prompt_tokens: 9, completion_tokens: 1, cached_tokens: cached };
        let end = Output::End { finish: Finish::Stop, usage, stop_text: None };
        assert_eq!(outputs(&server.worker()).await.unwrap(), [token("Hi"), end], "{last}");
    }
}

#[tokio::test]
async fn the_stop_text_that_a_server_reports_is_known_if_the_request_has_it() {
    for (reason, stop_text) in [
        (r#","stop_reason":"\n\n""#, Some("\n\n")),
        (r#","stop_reason":"END""#, None),
        (r#","stop_reason":128001"#, None),
        (r#","stop_reason":null"#, None),
        ("", None),
    ] {
        let end =
            format!(r#"{{"choices":[{{"index":0,"text":"Hi","finish_reason":"stop"{reason}}}]}}"#);
        let server = Server::streams(&[&end, "[DONE]"]).await;
        let mut run = run(8);
        if let Task::Generate { sampling, .. } = &mut Arc::make_mut(&mut run.job).task {
            sampling.stop = vec!["###".into(), "\n\n".into()];
        }
        let all: Vec<_> = server.worker().execute(run).await.unwrap().collect().await;
        let Some(Ok(Output::End { stop_text: found, .. })) = all.last() else { panic!("{all:?}") };
        assert_eq!(found.as_deref(), stop_text, "{reason}");
    }
}

#[tokio::test]
async fn reasoning_and_calls_of_a_server_are_found_again_in_the_output() {
    let server = Server::streams(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"It asks"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning":" for rain."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"I look."}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"rain","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"in\":"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ])
    .await;
    let worker = server.worker().with_tools();
    let capabilities = worker.info().capabilities.clone();
    let mut all = outputs(&worker).await.unwrap();
    let Some(Output::End { finish: Finish::Stop, .. }) = all.pop() else { panic!("{all:?}") };
    let text: String = all
        .iter()
        .map(|output| match output {
            Output::Token { text, .. } => &**text,
            other => panic!("{other:?}"),
        })
        .collect();
    let options = capabilities.answer.options(vec!["rain".into()]);
    let answer = ParsedAnswer::of(&text, options, JobId::random(), false);
    assert_eq!((&*answer.reasoning, &*answer.content), ("It asks for rain.", "I look."));
    let call = &answer.tool_calls[0];
    assert_eq!((&*call.name, &*call.arguments), ("rain", r#"{"in":"Oslo"}"#));
    assert!(answer.is_complete);
}

#[tokio::test]
async fn a_server_that_ignores_a_required_call_does_not_support_it() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    let server = Server::streams(&[text, "[DONE]"]).await;
    let worker = server.worker().with_tools().with_json_schema();
    let mut run = run(8);
    let chat = Chat {
        messages: vec![Message::new(Role::User, "Go")],
        tools: vec![Tool { name: "f".into(), description: None, parameters: None }],
        tool_choice: ToolChoice::Required,
        ..Chat::default()
    };
    let prompt = Prompt::Chat(chat);
    Arc::make_mut(&mut run.job).task = Task::Generate { prompt, sampling: Sampling::default() };
    let outputs: Vec<_> = worker.execute(run).await.unwrap().collect().await;
    assert_eq!(outputs[0].as_ref().unwrap(), &token("Hi"));
    let error = outputs[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("tool_choice")));
}

#[tokio::test]
async fn a_server_that_ends_without_saying_so_has_ended() {
    let server = Server::streams(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
    ])
    .await;
    let usage = rbee_core::Usage { completion_tokens: 1, ..rbee_core::Usage::default() };
    assert_eq!(
        outputs(&server.worker()).await.unwrap(),
        [token("Hi"), Output::End { finish: Finish::Length, usage, stop_text: None }]
    );
}

#[tokio::test]
async fn refusals_are_told_by_their_kind_and_in_the_servers_words() {
    let cases = [
        ("400 Bad Request", r#"{"error":{"message":"no such role"}}"#, ErrorKind::InvalidRequest),
        (
            "400 Bad Request",
            r#"{"error":{"message":"too long","type":"exceed_context_size_error"}}"#,
            ErrorKind::ContextExceeded,
        ),
        ("422 Unprocessable", r#"{"detail":"bad"}"#, ErrorKind::InvalidRequest),
        ("401 Unauthorized", r#"{"error":{"message":"bad key"}}"#, ErrorKind::WorkerFault),
        ("404 Not Found", r#"{"object":"error","message":"no model"}"#, ErrorKind::ModelNotFound),
        ("429 Too Many", r#"{"error":"slow down"}"#, ErrorKind::WorkerBusy),
        ("500 Oops", "<html>", ErrorKind::WorkerFault),
        ("302 Found", "", ErrorKind::WorkerFault),
    ];
    for (status, body, kind) in cases {
        let server = Server::refuses(status, body).await;
        let error = error(&server.worker()).await;
        assert_eq!(error.kind(), kind, "{status} {body}: {error}");
    }
    let server = Server::refuses("429 Too Many", r#"{"error":{"message":"slow down"}}"#).await;
    let error = error(&server.worker()).await;
    assert_eq!(error.message(), "engine: slow down (429 Too Many Requests)");
}

#[tokio::test]
async fn a_prompt_that_is_too_long_for_the_server_is_told_with_its_numbers_in_openais_sentence() {
    let sentence = "This model's maximum context length is 512 tokens, however you requested ";
    let body = r#"{"error":{"message":"request (601 tokens) exceeds it","type":"exceed_context_size_error","n_prompt_tokens":601,"n_ctx":512}}"#;
    let server = Server::refuses("400 Bad Request", body).await;
    let told = error(&server.worker()).await;
    assert_eq!((told.kind(), told.param()), (ErrorKind::ContextExceeded, Some("prompt")));
    assert!(told.message().starts_with(sentence), "{told}");
    assert!(told.message().contains("(601 in your prompt; "), "{told}");
    assert!(told.message().ends_with(" (engine: request (601 tokens) exceeds it)"), "{told}");
    let client = told.redacted();
    assert!(client.message().starts_with(sentence) && !client.message().contains("engine"));
    assert_eq!(client.param(), Some("prompt"));

    let body = r#"{"error":{"message":"/models/x: context size exceeded","type":"exceed_context_size_error"}}"#;
    let server = Server::refuses("400 Bad Request", body).await;
    let told = error(&server.worker()).await;
    assert_eq!((told.kind(), told.param()), (ErrorKind::ContextExceeded, Some("prompt")));
    assert_eq!(told.redacted().message(), ErrorKind::ContextExceeded.summary());
}

#[tokio::test]
async fn a_server_whose_model_has_no_chat_template_refuses_messages_as_rbees_own_engine_does() {
    let body = r#"{"error":{"message":"/models/x: you must provide a chat template if the tokenizer does not define one","code":400}}"#;
    let server = Server::refuses("400 Bad Request", body).await;
    let mut chat = run(1);
    let mut job = rbee_core::Job::clone(&chat.job);
    let prompt = Prompt::Chat(vec![Message::new(Role::User, "hello")].into());
    job.task = Task::Generate { prompt, sampling: Sampling::default() };
    chat.job = Arc::new(job);
    let Err(told) = server.worker().execute(chat).await else { panic!("it must be refused") };
    assert_eq!((told.kind(), told.param()), (ErrorKind::Unsupported, Some("messages")));
    assert!(told.message().starts_with("engine: /models/x: you must provide"), "{told}");
    let client = told.redacted();
    assert_eq!(client.param(), Some("messages"));
    assert!(client.message().contains("send bare text"), "{client}");
    // Bare text has no template: there the same words mean something else.
    assert_eq!(error(&server.worker()).await.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_server_that_ignores_the_length_of_vectors_is_found_out() {
    let body = r#"{"data":[{"index":0,"embedding":[1.0,2.0,3.0]}],"usage":{"prompt_tokens":2}}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for (dimensions, fits) in [(3, true), (2, false)] {
        let server = Server::answers(head.clone()).await;
        let mut run = run(1);
        let mut job = rbee_core::Job::clone(&run.job);
        job.task = Task::Embed { inputs: vec![vec![5, 7].into()], dimensions: Some(dimensions) };
        run.job = Arc::new(job);
        let mut info = WorkerInfo::new("model".parse().unwrap(), "engine");
        info.capabilities.embed = true;
        let base = format!("http://127.0.0.1:{}/v1", server.port);
        let made = OpenAiWorker::new(&base, info).unwrap().execute(run).await;
        let asked = server.asked.lock().await.clone();
        assert!(asked.contains(r#""input":[[5,7]]"#), "{asked}");
        assert!(asked.contains(&format!(r#""dimensions":{dimensions}"#)), "{asked}");
        match made {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits, "{error}");
                let found = (error.kind(), error.param());
                assert_eq!(found, (ErrorKind::InvalidRequest, Some("dimensions")));
                assert_eq!(error.message(), "dimensions is 2; allowed for this model is 3");
            }
        }
    }
}

/// A worker for the server on this port that reranks, and a run for it.
fn reranker(port: u16) -> (OpenAiWorker, Run) {
    let mut info = WorkerInfo::new("model".parse().unwrap(), "engine");
    info.capabilities = Capabilities::default();
    info.capabilities.rerank = true;
    let mut run = run(1);
    let mut job = rbee_core::Job::clone(&run.job);
    job.task = Task::rerank("bee", ["a", "b", "c"]);
    run.job = Arc::new(job);
    (OpenAiWorker::new(&format!("http://127.0.0.1:{port}/v1"), info).unwrap(), run)
}

#[tokio::test]
async fn scores_come_in_the_order_of_the_documents_however_the_server_sorts_them() {
    let body = r#"{"object":"list","model":"m","results":[
        {"index":2,"relevance_score":0.75,"document":{"text":"c"}},{"index":0,"relevance_score":-1},
        {"index":1,"relevance_score":0.5}],"usage":{"total_tokens":12}}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = Server::answers(head).await;
    let (worker, run) = reranker(server.port);
    let outputs: Vec<_> = worker.execute(run).await.unwrap().collect().await;
    let usage = Usage { prompt_tokens: 12, ..Usage::default() };
    let expected = [
        Ok(Output::Vectors(vec![vec![-1.0, 0.5, 0.75]])),
        Ok(Output::End { finish: Finish::Stop, usage, stop_text: None }),
    ];
    assert_eq!(outputs, expected);
    let asked = server.asked.lock().await.clone();
    assert!(asked.starts_with("POST /v1/rerank HTTP/1.1"), "{asked}");
    assert!(asked.contains(r#""query":"bee","documents":["a","b","c"]"#), "{asked}");

    let mut cannot = WorkerInfo::new("model".parse().unwrap(), "engine");
    cannot.capabilities.embed = true;
    let base = format!("http://127.0.0.1:{}/v1", server.port);
    let (_, run) = reranker(server.port);
    let refused = OpenAiWorker::new(&base, cannot).unwrap().execute(run).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().contains("does not rerank documents"), "{refused}");
}

#[tokio::test]
async fn a_server_that_forgets_or_invents_a_document_is_at_fault() {
    let result = |index: u32| format!(r#"{{"index":{index},"relevance_score":0.5}}"#);
    for (indexes, said) in [
        (vec![0, 1], "2 scores for 3 documents"),
        (vec![0, 1, 1], "two scores for document 1"),
        (vec![0, 1, 3], "a score for document 3 of 3"),
    ] {
        let results: Vec<String> = indexes.into_iter().map(result).collect();
        let body = format!(r#"{{"results":[{}]}}"#, results.join(","));
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let server = Server::answers(head).await;
        let (worker, run) = reranker(server.port);
        let error = worker.execute(run).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WorkerFault);
        assert!(error.message().contains(said), "{error}");
    }
    let server = Server::answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await;
    let (worker, run) = reranker(server.port);
    let error = worker.execute(run).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    assert!(error.message().contains("no scores"), "{error}");
}

#[tokio::test]
async fn nonsense_is_an_error_that_may_be_tried_elsewhere() {
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let answers: [(String, ErrorKind); 9] = [
        (String::new(), ErrorKind::WorkerLost),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), ErrorKind::WorkerLost),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>".into(),
            ErrorKind::WorkerFault,
        ),
        (format!("{stream}data: <p/>\n\n"), ErrorKind::WorkerFault),
        (format!("{stream}data: {{\"choices\":7}}\n\n"), ErrorKind::WorkerFault),
        (format!("{stream}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n"), ErrorKind::WorkerFault),
        (format!("{stream}data: {{\"choices\":[]}}\n\n"), ErrorKind::WorkerLost),
        (format!("{stream}data: [DONE]\n\n"), ErrorKind::WorkerLost),
        (format!("{stream}data: {}", "x".repeat(2 << 20)), ErrorKind::WorkerFault),
    ];
    for (answer, kind) in answers {
        let shown: String = answer.chars().take(120).collect();
        let server = Server::answers(answer).await;
        let error = error(&server.worker()).await;
        assert_eq!(error.kind(), kind, "{shown:?}: {error}");
        assert!(error.kind().is_retryable());
    }
    let nobody = { Server::answers("").await.port };
    let late = worker(nobody);
    let error = tokio::time::timeout(Duration::from_secs(10), late.execute(run(1))).await.unwrap();
    assert_eq!(error.err().unwrap().kind(), ErrorKind::WorkerUnreachable);
}

#[tokio::test]
async fn no_more_runs_than_slots_are_begun_and_a_dropped_one_frees_its_slot() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
    let server = Server::answers(format!(
        "{head}data: {{\"choices\":[{{\"index\":0,\"text\":\"a\"}}]}}\n\n"
    ))
    .await;
    let worker = server.worker();
    let mut first = worker.execute(run(8)).await.unwrap();
    assert!(matches!(first.next().await, Some(Ok(Output::Token { .. }))));
    let error = worker.execute(run(8)).await.err().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::WorkerBusy, "1 of 1 slots are taken"));
    drop(first);
    drop(worker.execute(run(8)).await.unwrap());
}

#[test]
fn an_address_that_is_none_is_refused_and_a_password_is_not_repeated() {
    let info = || WorkerInfo::new("model".parse().unwrap(), "engine");
    for bad in ["", "localhost:1", "ftp://x/v1", "http://x/v1?key=1", "http://x/v1#x", "http://a b"]
    {
        let error = OpenAiWorker::new(bad, info()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        assert!(error.message().contains("http://HOST:PORT/v1"), "{error}");
    }
    let error = OpenAiWorker::new("http://me:hunter2@x/v1", info()).unwrap_err();
    assert!(!error.message().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirection() {
    let elsewhere = Server::refuses("200 OK", "{}").await;
    let location = format!("http://127.0.0.1:{}/v1/completions", elsewhere.port);
    let head = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}");
    let server = Server::answers(format!("{head}\r\ncontent-length: 0\r\n\r\n")).await;
    let worker = server.worker().with_key("sk-secret").unwrap();
    assert_eq!(error(&worker).await.kind(), ErrorKind::WorkerFault);
    assert!(server.asked.lock().await.contains("sk-secret"));
    assert_eq!(*elsewhere.asked.lock().await, "");
}

#[tokio::test]
async fn an_answer_that_is_announced_as_too_large_is_not_waited_for() {
    let huge = "content-length: 99999999999\r\n\r\n";
    let server = Server::answers(format!("HTTP/1.1 500 Oops\r\n{huge}")).await;
    let message = error(&server.worker()).await.message().to_owned();
    assert_eq!(message, "engine: the server did not say why (500 Internal Server Error)");

    let server = Server::answers(format!("HTTP/1.1 200 OK\r\n{huge}")).await;
    let mut info = WorkerInfo::new("model".parse().unwrap(), "engine");
    info.capabilities.embed = true;
    let base = format!("http://127.0.0.1:{}/v1", server.port);
    let worker = OpenAiWorker::new(&base, info).unwrap();
    let mut vectors = run(1);
    let mut job = rbee_core::Job::clone(&vectors.job);
    job.task = Task::embed(["honey"]);
    vectors.job = Arc::new(job);
    let error = worker.execute(vectors).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    assert!(error.message().contains("more than 268435456 bytes of vectors"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_says_nothing_fails_its_health_check_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = worker(silent.local_addr().unwrap().port()).health().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    assert!(error.message().contains("did not answer within 4s"), "{error}");
}

/// A server whose responses have a length, so that its connections can be used again.
#[tokio::test]
async fn runs_one_after_the_other_use_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = worker(listener.local_addr().unwrap().port());
    let body = "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\n\
                data: [DONE]\n\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let talk = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let mut request = vec![0; 64 << 10];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let runs = async {
        for _ in 0..2 {
            assert_eq!(outputs(&worker).await.unwrap().len(), 2);
        }
    };
    let both = futures_util::future::join(talk, runs);
    tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_begun_again() {
    let server = Server::answers("").await;
    let mut begun = run(8);
    // The tokens have no ids, so only their text says that there are any.
    begun.resume = Resume { tokens: Vec::new(), text_bytes: 50 };
    let error = server.worker().execute(begun).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("cannot continue another worker's answer"), "{error}");
}

/// A run that asks for everything that OpenAI's API has.
fn demanding(logprobs: Option<u8>) -> rbee_core::Run {
    let mut run = run(8);
    let mut job = rbee_core::Job::clone(&run.job);
    let Task::Generate { sampling, .. } = &mut job.task else { panic!("a run for text") };
    sampling.logprobs = logprobs;
    (sampling.presence_penalty, sampling.frequency_penalty) = (0.5, -0.25);
    sampling.logit_bias = [(7, -100.0), (50_256, 1.5)].into();
    run.job = Arc::new(job);
    run
}

async fn outputs_of(worker: &OpenAiWorker, run: rbee_core::Run) -> Result<Vec<Output>> {
    let stream = worker.execute(run).await?;
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

/// The text of the output, the text of the token, its log probability, and those of the likeliest tokens.
type Found = (String, String, f32, Vec<(String, f32)>);

fn found(outputs: &[Output]) -> Vec<Found> {
    let token = |output: &Output| match output {
        Output::Token { text, logprobs: Some(found), .. } => {
            let top = found.top.iter().map(|token| (token.text.to_string(), token.logprob));
            let chosen = &found.chosen;
            Some((text.to_string(), chosen.text.to_string(), chosen.logprob, top.collect()))
        }
        _ => None,
    };
    outputs.iter().filter_map(token).collect()
}

#[tokio::test]
async fn log_probabilities_are_read_in_the_form_of_a_completion() {
    let server = Server::streams(&[
        r#"{"choices":[{"text":"The","logprobs":{"tokens":["The"],"token_logprobs":[-0.5],"top_logprobs":[{"A":-2.0,"The":-0.5,"An":-1.5}],"text_offset":[0]},"finish_reason":null}]}"#,
        // Two tokens that make one character.
        r#"{"choices":[{"text":" é!","logprobs":{"tokens":[" ","é!"],"token_logprobs":[-1.0,null],"top_logprobs":[null,{}]},"finish_reason":null}]}"#,
        r#"{"choices":[{"text":"","logprobs":null,"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        "[DONE]",
    ])
    .await;
    let outputs = outputs_of(&server.worker(), demanding(Some(2))).await.unwrap();
    let top = vec![("The".to_owned(), -0.5), ("An".to_owned(), -1.5)];
    let expected: [Found; 3] = [
        ("The".into(), "The".into(), -0.5, top),
        ("".into(), " ".into(), -1.0, vec![]),
        (" é!".into(), "é!".into(), f32::MIN, vec![]),
    ];
    assert_eq!(found(&outputs), expected);
    assert_eq!(outputs.len(), 5, "three tokens, one without text, an end: {outputs:?}");
    let asked = server.asked.lock().await.clone();
    let body: serde_json::Value =
        serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["logprobs"], 2, "{asked}");
    assert_eq!(body["logit_bias"], serde_json::json!({"7": -100.0, "50256": 1.5}));
    let penalties = (&body["presence_penalty"], &body["frequency_penalty"]);
    assert_eq!(penalties, (&serde_json::json!(0.5), &serde_json::json!(-0.25)));
    assert!(body.get("top_logprobs").is_none() && body.get("min_tokens").is_none(), "{asked}");
}

/// llama.cpp has this form for completions too.
#[tokio::test]
async fn log_probabilities_are_read_in_the_form_of_a_chat() {
    let server = Server::streams(&[
        r#"{"choices":[{"text":"Hi","logprobs":{"content":[{"id":7,"token":"Hi","bytes":[72,105],"logprob":-0.5,"top_logprobs":[{"id":7,"token":"Hi","bytes":[72,105],"logprob":-0.5}]}]},"finish_reason":null}]}"#,
        r#"{"choices":[{"text":"","logprobs":{"content":[{"id":8,"token":"�","bytes":[240,159],"logprob":-1.0,"top_logprobs":[]}]},"finish_reason":null}]}"#,
        r#"{"choices":[{"text":"","finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
        "[DONE]",
    ])
    .await;
    // What was not asked for is left out: llama.cpp sends none at all for 0.
    let outputs = outputs_of(&server.worker(), demanding(Some(0))).await.unwrap();
    let expected: [Found; 2] =
        [("Hi".into(), "Hi".into(), -0.5, vec![]), ("".into(), "\u{fffd}".into(), -1.0, vec![])];
    assert_eq!(found(&outputs), expected);
    let Output::Token { logprobs: Some(second), .. } = &outputs[1] else { panic!("{outputs:?}") };
    assert_eq!(second.chosen.as_bytes(), [240, 159]);
    assert!(server.asked.lock().await.contains(r#""logprobs":1"#));
}

#[tokio::test]
async fn a_server_that_ignores_what_it_does_not_know_is_found_out_or_not_asked() {
    let server = Server::streams(&[
        r#"{"choices":[{"text":"The","finish_reason":null}]}"#,
        r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#,
        "[DONE]",
    ])
    .await;
    let error = outputs_of(&server.worker(), demanding(Some(2))).await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("logprobs")));
    assert!(outputs_of(&server.worker(), demanding(None)).await.is_ok());

    let mut run = demanding(None);
    let mut job = rbee_core::Job::clone(&run.job);
    let Task::Generate { sampling, .. } = &mut job.task else { panic!("a run for text") };
    sampling.min_tokens = 3;
    run.job = Arc::new(job);
    let error = outputs_of(&server.worker(), run.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("min_tokens")));
    assert!(outputs_of(&server.worker().with_min_tokens(), run).await.is_ok());
    assert!(server.asked.lock().await.contains(r#""min_tokens":3"#));
}
