//! A worker behind HTTP passes the tests of a worker.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use rbee_core::{
    Error, ErrorKind, Output, Worker, WorkerId,
    conformance::{self, worker::Subject},
    request::Prompt,
    worker::EchoWorker,
};
use rbee_transport_http::{
    Token,
    client::{Endpoint, HttpWorker},
    dial::Tcp,
    server::{self, Limits, Server, WorkerServer},
    wire::worker::Start,
};
use tokio_util::sync::{CancellationToken, DropGuard};

fn token() -> Token {
    "t".repeat(64).parse().unwrap()
}

/// A router on a port of its own, for as long as the test runs.
struct Daemon {
    port: u16,
    _stop: DropGuard,
}

async fn serve(router: axum::Router) -> Daemon {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (port, stop) = (server.address().port(), CancellationToken::new());
    let run = server.with_limits(Limits::default()).run(router, stop.clone(), Duration::ZERO);
    tokio::spawn(run);
    Daemon { port, _stop: stop.drop_guard() }
}

impl Daemon {
    fn endpoint(&self, token: Option<Token>) -> Endpoint {
        Endpoint::new(Arc::new(Tcp::loopback()), self.port, token)
    }

    async fn worker(&self) -> HttpWorker {
        HttpWorker::connect(self.endpoint(Some(token()))).await.unwrap()
    }
}

#[tokio::test]
async fn a_worker_behind_http_keeps_the_contract_of_a_worker() {
    let echo = EchoWorker::builder("echo".parse().unwrap())
        .slots(4)
        .token_delay(Duration::from_millis(2))
        .build();
    let daemon = serve(server::worker(echo, token())).await;
    let worker = Arc::new(daemon.worker().await);
    let prompt = Prompt::Text("one two three four five six seven eight".repeat(8));
    conformance::worker::check(&Subject::new(worker, prompt)).await;
}

async fn begin(
    worker: &HttpWorker,
    id: rbee_core::JobId,
) -> rbee_core::Result<rbee_core::OutputStream> {
    worker.execute(run(id)).await
}

fn run(id: rbee_core::JobId) -> rbee_core::Run {
    let text = r#"{"model":"echo","priority":"interactive","task":{"generate":{"prompt":{"text":"hi"},
        "sampling":{"temperature":1.0,"top_p":1.0,"top_k":0,"min_p":0.0,"repetition_penalty":1.0,"stop":[],
        "max_tokens":null}}},"seed":7,"prefix":[],"timeout":{"secs":60,"nanos":0},"deadline":null,"detached":false,
        "tenant":null,"correlation_id":"test"}"#;
    let mut job: serde_json::Value = serde_json::from_str(text).unwrap();
    job["id"] = id.to_string().into();
    let job = Arc::new(serde_json::from_value(job).unwrap());
    rbee_core::Run { job, attempt: 1, resume: rbee_core::worker::Resume::default() }
}

/// Waits until nothing runs on the worker.
async fn idle(echo: &EchoWorker) {
    let idle = async {
        while echo.active() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), idle).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_its_run_also_before_the_first_token() {
    let gate = rbee_core::worker::EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(server::worker(echo.clone(), token())).await;
    let stream = begin(&daemon.worker().await, rbee_core::JobId::random()).await.unwrap();
    assert_eq!(echo.active(), 1);
    drop(stream);
    idle(&echo).await;
}

#[tokio::test]
async fn cancelling_ends_the_run_of_a_job_once_and_for_all() {
    let gate = rbee_core::worker::EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(server::worker(echo.clone(), token())).await;
    let worker = daemon.worker().await;
    let job = rbee_core::JobId::random();
    let mut stream = begin(&worker, job).await.unwrap();
    assert!(!worker.cancel(rbee_core::JobId::random()).await.unwrap());
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(echo.active(), 0, "it is over when that is answered");
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(stream.next().await.is_none());
    assert!(!worker.cancel(job).await.unwrap());
}

#[tokio::test]
async fn log_probabilities_arrive_as_the_worker_sends_them() {
    let echo = EchoWorker::builder("echo".parse().unwrap()).build();
    let daemon = serve(server::worker(echo.clone(), token())).await;
    let mut run = run(rbee_core::JobId::random());
    let mut job = rbee_core::Job::clone(&run.job);
    let rbee_core::request::Task::Generate { sampling, .. } = &mut job.task else { panic!("text") };
    sampling.logprobs = Some(2);
    run.job = Arc::new(job);
    let worker = daemon.worker().await;
    assert!(worker.info().capabilities.logprobs);
    let sent: Vec<_> = echo.execute(run.clone()).await.unwrap().collect().await;
    let received: Vec<_> = worker.execute(run).await.unwrap().collect().await;
    let of = |outputs: Vec<rbee_core::Result<Output>>| -> Vec<_> {
        outputs.into_iter().map(Result::unwrap).collect()
    };
    let received = of(received);
    assert_eq!(received, of(sent));
    assert!(
        matches!(&received[0], Output::Token { logprobs: Some(found), .. } if found.top.len() == 2)
    );
}

#[tokio::test]
async fn a_run_whose_reader_does_not_read_can_be_cancelled() {
    let chatter = (0..1_000_000)
        .map(|_| Ok(Output::Token { id: None, text: "x".repeat(1_000).into(), logprobs: None }));
    let echo = EchoWorker::builder("echo".parse().unwrap()).script(chatter.take(20_000)).build();
    let daemon = serve(server::worker(echo.clone(), token())).await;
    let worker = daemon.worker().await;
    let job = rbee_core::JobId::random();
    let _unread = begin(&worker, job).await.unwrap();
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(echo.active(), 0);
}

#[tokio::test]
async fn a_worker_answers_while_it_loads_and_says_why_it_cannot() {
    let id = WorkerId::random();
    let token = Token::random().unwrap();
    let host = WorkerServer::new(id);
    let daemon = serve(host.router(token.clone())).await;
    let endpoint = daemon.endpoint(Some(token));
    let loading = HttpWorker::connect(endpoint.clone()).await.unwrap_err();
    assert_eq!(loading.kind(), ErrorKind::WorkerBusy);
    host.failed(Error::new(ErrorKind::ModelIncompatible, "no such architecture"));
    let failed = HttpWorker::connect(endpoint.clone()).await.unwrap_err();
    assert_eq!(
        (failed.kind(), failed.message()),
        (ErrorKind::ModelIncompatible, "no such architecture")
    );
    host.ready(EchoWorker::builder("echo".parse().unwrap()).id(id).build());
    assert_eq!(HttpWorker::connect(endpoint).await.unwrap().info().id, id);
}

#[tokio::test]
async fn a_client_without_the_token_does_not_get_a_worker() {
    let daemon = serve(server::worker(EchoWorker::new("echo".parse().unwrap()), token())).await;
    for wrong in [None, Some(Token::random().unwrap())] {
        let error = HttpWorker::connect(daemon.endpoint(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerUnreachable);
        assert!(error.message().contains("token"), "{error}");
    }
}

#[test]
fn an_order_without_a_token_starts_no_worker() {
    let order = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","hive":"local","spec":{"model":"echo","slots":1,
        "devices":[0],"need_bytes":0},"devices":[0],"host":"127.0.0.1","port":1"#;
    let order = order.replace('\n', " ");
    let read = |rest: &str| Start::read(format!("{order}{rest}}}\n").as_bytes());
    let token = "t".repeat(64);
    read(&format!(r#","token":"{token}","lease_ms":0"#)).unwrap();
    for bad in [r#","lease_ms":0"#, r#","token":null,"lease_ms":0"#, r#","token":"","lease_ms":0"#]
    {
        assert_eq!(read(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
    }
}

#[tokio::test]
async fn what_a_worker_says_to_the_client_and_to_the_operator_stays_apart_on_the_way() {
    let small = EchoWorker::builder("echo".parse().unwrap()).context_tokens(1).build();
    let worker = serve(server::worker(small, token())).await;
    let error = begin(&worker.worker().await, rbee_core::JobId::random()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ContextExceeded);
    assert_eq!(error.redacted().message(), error.message());
    let loading = WorkerServer::new(WorkerId::random());
    let daemon = serve(loading.router(token())).await;
    let secret = Error::new(ErrorKind::ModelIncompatible, "/srv/models/bee is not JSON");
    loading.failed(secret.with_client_message("the model is broken"));
    let error = HttpWorker::connect(daemon.endpoint(Some(token()))).await.unwrap_err();
    assert!(error.message().contains("/srv/models/bee"), "{error}");
    assert_eq!(error.redacted().message(), "the model is broken");
}

#[tokio::test]
async fn a_worker_that_breaks_off_is_lost_and_one_that_is_gone_cannot_be_reached() {
    let gate = rbee_core::worker::EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(server::worker(echo, token())).await;
    let worker = daemon.worker().await;
    let mut stream = begin(&worker, rbee_core::JobId::random()).await.unwrap();
    drop(daemon);
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
    let error = begin(&worker, rbee_core::JobId::random()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable, "nothing has begun: {error}");
}

/// Sends these bytes for every request.
async fn garbage(answer: &'static [u8]) -> Daemon {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
    let talk = async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(talk));
    Daemon { port, _stop: stop.drop_guard() }
}

#[tokio::test]
async fn a_worker_that_talks_nonsense_gives_an_error_that_may_be_tried_elsewhere() {
    let answers: [&'static [u8]; 7] = [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nboom",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p/>",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: token\ndata: {\"text\":1}\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: token\ndata: {\"text\":\"a\"}\n\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\xff\xfe\n\nevent: \xff\ndata: x\n\n",
    ];
    for answer in answers {
        let daemon = garbage(answer).await;
        let worker = HttpWorker::new(
            daemon.endpoint(None),
            EchoWorker::new("echo".parse().unwrap()).info().clone(),
        );
        let error = match begin(&worker, rbee_core::JobId::random()).await {
            Err(error) => error,
            Ok(stream) => stream.collect::<Vec<_>>().await.pop().unwrap().unwrap_err(),
        };
        assert!(error.kind().is_retryable(), "{error:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_begins_has_begun_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        loop {
            // It reads the request, and ends.
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64 << 10]).await;
        }
    });
    let info = EchoWorker::new("echo".parse().unwrap()).info().clone();
    let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), port, None);
    let worker = HttpWorker::new(endpoint, info);
    let error = begin(&worker, rbee_core::JobId::random()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable, "{error}");
    assert!(!error.kind().costs_a_try());
}

#[tokio::test]
async fn heartbeats_of_the_engine_come_through_and_stop_when_it_hangs() {
    let every = Duration::from_millis(20);
    let echo = EchoWorker::builder("echo".parse().unwrap())
        .heartbeats(every)
        .first_delay(Duration::from_millis(200))
        .fault(rbee_core::worker::EchoFault::Stall { at: 1 })
        .build();
    let daemon = serve(server::worker(echo, token())).await;
    let worker = daemon.worker().await;
    assert!(worker.info().capabilities.heartbeats);
    let mut stream = begin(&worker, rbee_core::JobId::random()).await.unwrap();
    let mut beats = 0;
    loop {
        match stream.next().await.unwrap().unwrap() {
            Output::Heartbeat => beats += 1,
            Output::Token { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(beats > 1, "{beats}");
    // The server continues, and the engine does not.
    let after = tokio::time::timeout(Duration::from_millis(300), async {
        let mut beats = 0;
        while let Some(Ok(Output::Heartbeat)) = stream.next().await {
            beats += 1;
            assert!(beats < 3, "a heartbeat of an engine that hangs");
        }
    });
    assert!(after.await.is_err(), "the stream ended");
    worker.health().await.unwrap();
}
