//! Which queen a hive follows: leases, the allowed epochs, and how one queen takes over from another.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use rbee_core::{InProcessHive, Worker, worker::EchoWorker};
use rbee_transport_http::{Token, server, wire};
use serde_json::{Value, json};
use tower::ServiceExt;

struct Hive {
    router: Router,
    token: Token,
}

impl Hive {
    fn new() -> Self {
        Self::of(InProcessHive::new())
    }

    fn of(hive: InProcessHive) -> Self {
        let token = Token::random().unwrap();
        Self { router: server::hive(Arc::new(hive), token.clone()), token }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Body) {
        let bearer = format!("Bearer {}", self.token.reveal());
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::HOST, "localhost");
        let request = request.header(header::AUTHORIZATION, bearer);
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let answer = self.router.clone().oneshot(request.unwrap()).await.unwrap();
        (answer.status(), answer.into_body())
    }

    async fn claim(&self, epoch: u64) -> Result<Value, String> {
        let order = json!({"owner": epoch});
        let (status, body) = self.ask("POST", wire::LEASE, Some(order)).await;
        let body = json(body).await;
        match status {
            StatusCode::OK => Ok(body),
            status => Err(refusal(status, &body)),
        }
    }

    async fn follow(&self, epoch: u64) -> Result<Events, String> {
        let path = format!("{}?owner={epoch}", wire::hive::EVENTS);
        match self.ask("GET", &path, None).await {
            (StatusCode::OK, body) => Ok(Events(body)),
            (status, body) => Err(refusal(status, &json(body).await)),
        }
    }
}

async fn json(body: Body) -> Value {
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

fn refusal(status: StatusCode, body: &Value) -> String {
    assert_eq!((status, &body["error"]["code"]), (StatusCode::CONFLICT, &json!("FENCED")));
    body["error"]["message"].as_str().unwrap().to_owned()
}

struct Events(Body);

impl Events {
    /// What comes next within a second; `None` if nothing does and the stream continues.
    async fn next(&mut self) -> Option<Option<String>> {
        let frame = tokio::time::timeout(Duration::from_secs(1), self.0.frame()).await.ok()?;
        let bytes = frame.map(|frame| frame.unwrap().into_data().unwrap());
        Some(bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
    }

    async fn must_begin(&mut self) {
        let first = self.next().await.unwrap().unwrap();
        assert!(first.starts_with("event: report\n"), "{first}");
    }

    async fn must_go_on(&mut self) {
        assert_eq!(self.next().await, None);
    }

    async fn must_end(&mut self) {
        assert_eq!(self.next().await, Some(None));
    }
}

async fn after(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_epoch_takes_over_and_the_earlier_one_is_told() {
    let hive = Hive::new();
    assert_eq!(hive.claim(5).await.unwrap(), json!({"lease_ms": 90_000}));
    let mut first = hive.follow(5).await.unwrap();
    first.must_begin().await;
    hive.claim(5).await.unwrap();
    let mut second = hive.follow(5).await.unwrap();
    second.must_begin().await;
    first.must_go_on().await;
    hive.claim(6).await.unwrap();
    first.must_end().await;
    second.must_end().await;
    let message = hive.claim(5).await.unwrap_err();
    assert!(
        message.contains("epoch 6;") && message.contains("epoch 5, which is lower"),
        "{message}"
    );
    let message = hive.follow(5).await.map(drop).unwrap_err();
    assert!(message.contains("owned by a queen of epoch 6"), "{message}");
    hive.follow(6).await.unwrap().must_begin().await;
}

#[tokio::test(start_paused = true)]
async fn to_watch_claims_nothing_and_renews_nothing() {
    let hive = Hive::new();
    let message = hive.follow(u64::MAX).await.map(drop).unwrap_err();
    assert!(message.contains("has no owner") && message.contains("POST to /v1/lease"), "{message}");
    hive.claim(5).await.unwrap();
    let mut events = hive.follow(5).await.unwrap();
    events.must_begin().await;
    for other in [4, 6, u64::MAX] {
        hive.follow(other).await.map(drop).unwrap_err();
    }
    events.must_go_on().await;
    hive.claim(5).await.unwrap();
    after(60).await;
    hive.follow(5).await.unwrap().must_begin().await;
    after(30).await;
    // A queen that watches and does not renew has lost its lease anyway.
    hive.claim(4).await.unwrap();
    events.must_end().await;
}

#[tokio::test]
async fn to_ask_for_a_worker_opens_no_port() {
    let worker = EchoWorker::new("echo".parse().unwrap());
    let path = wire::hive::WORKER.replace("{id}", &worker.info().id.to_string());
    let hive = Hive::of(InProcessHive::new().with_worker(worker));
    let (status, body) = hive.ask("GET", &path, None).await;
    let error = json(body).await["error"].clone();
    assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("when a queen claims the hive"), "{error}");
    let mut ports = Vec::new();
    for _ in 0..2 {
        hive.claim(5).await.unwrap();
        let (status, body) = hive.ask("GET", &path, None).await;
        assert_eq!(status, StatusCode::OK);
        ports.push(json(body).await["port"].as_u64().unwrap());
    }
    assert_eq!(ports[0], ports[1]);
}

#[tokio::test]
async fn a_worker_that_appears_is_reachable_when_its_queen_hears_of_it() {
    let behind = Arc::new(InProcessHive::new());
    let token = Token::random().unwrap();
    let hive = Hive { router: server::hive(behind.clone(), token.clone()), token };
    hive.claim(5).await.unwrap();
    let mut events = hive.follow(5).await.unwrap();
    events.must_begin().await;
    let worker = EchoWorker::new("echo".parse().unwrap());
    let id = worker.info().id.to_string();
    behind.adopt(worker);
    let report = events.next().await.unwrap().unwrap();
    assert!(report.contains(&id), "{report}");
    let path = wire::hive::WORKER.replace("{id}", &id);
    assert_eq!(hive.ask("GET", &path, None).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_huge_epoch_is_refused_with_both_numbers_and_the_real_queen_goes_on() {
    let hive = Hive::new();
    hive.claim(5).await.unwrap();
    let mut events = hive.follow(5).await.unwrap();
    events.must_begin().await;
    for huge in [1_006, u64::MAX] {
        let message = hive.claim(huge).await.unwrap_err();
        for part in ["epoch 5;", &huge.to_string(), "up to 1000", "has expired, in 90 s"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    events.must_go_on().await;
    hive.claim(5).await.unwrap();
    hive.claim(6).await.unwrap();
    hive.follow(6).await.unwrap().must_begin().await;
}

#[tokio::test(start_paused = true)]
async fn a_queen_from_a_backup_gets_the_hive_when_the_lease_of_the_owner_has_run_out() {
    let hive = Hive::new();
    hive.claim(500).await.unwrap();
    let mut gone = hive.follow(500).await.unwrap();
    gone.must_begin().await;
    let message = hive.claim(7).await.unwrap_err();
    assert!(message.contains("backup") && message.contains("stop the other one"), "{message}");
    after(90).await;
    hive.claim(7).await.unwrap();
    gone.must_end().await;
    let mut events = hive.follow(7).await.unwrap();
    events.must_begin().await;
    // And the epochs continue from there.
    hive.claim(8).await.unwrap();
    events.must_end().await;
    hive.follow(8).await.unwrap().must_begin().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_epoch_that_came_first_is_forgotten_with_its_lease() {
    let hive = Hive::new();
    hive.claim(u64::MAX).await.unwrap();
    hive.claim(5).await.unwrap_err();
    after(90).await;
    hive.claim(5).await.unwrap();
    hive.follow(5).await.unwrap().must_begin().await;
    hive.claim(u64::MAX).await.unwrap_err();
}
