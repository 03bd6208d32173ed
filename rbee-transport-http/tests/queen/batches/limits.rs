//! What a tenant may see and hold.

use super::{Post, chat_line, create, file, limits, lines_of, multipart, upload, with_key};
use crate::common::{Hall, Reply, TIMEOUT, chat, echo, request};
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, StatusCode};
use rbee_core::{
    Queen, Settings, TenantId,
    worker::{EchoBuilder, EchoGate},
};
use rbee_transport_http::{Token, server::BatchLimits};
use serde_json::{Value, json};
use std::convert::Infallible;
use tower::ServiceExt;

/// A queen with a token, and a directory for batches.
struct House {
    hall: Hall,
    token: String,
    _directory: tempfile::TempDir,
}

impl House {
    async fn new(echo: EchoBuilder, limits: BatchLimits) -> Self {
        let (token, directory) = (Token::random().unwrap(), tempfile::tempdir().unwrap());
        let (text, path) = (token.reveal().to_owned(), directory.path().join("batches"));
        let hall = Hall::of(echo, Queen::builder(), |server| {
            server.with_token(token).with_batches(path, limits).unwrap()
        })
        .await;
        Self { hall, token: text, _directory: directory }
    }

    async fn ask(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.hall.send(with_key(request(method, path, body), Some(key))).await
    }

    async fn tenant(&self, name: &str, limits: Value) -> String {
        let path = format!("/v1/tenants/{name}");
        let put = self.ask(&self.token, Method::PUT, &path, Some(limits)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text());
        let path = format!("{path}/keys");
        let issued = self.ask(&self.token, Method::POST, &path, Some(json!({}))).await;
        issued.json()["key"].as_str().unwrap().to_owned()
    }

    /// An upload that waits for its body, as long as the result lives. At most one is allowed at once.
    async fn endless_upload(&self, key: &str) -> impl Future + use<> {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
        let request = crate::common::with_host(with_key(multipart(never), Some(key)));
        let mut upload = Box::pin(self.hall.router.clone().oneshot(request));
        while (&mut upload).now_or_never().is_none() {
            let again = self.hall.send(with_key(self::upload("{}"), Some(key))).await;
            if again.status == StatusCode::TOO_MANY_REQUESTS {
                break;
            }
        }
        upload
    }

    async fn batch(&self, key: &str, lines: &str) -> String {
        let file = file(&self.hall, lines, Some(key)).await;
        let reply = create(&self.hall, "/v1/chat/completions", &file, Some(key)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    async fn until(&self, key: &str, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let path = format!("/v1/batches/{id}");
                let batch = self.ask(key, Method::GET, &path, None).await.json();
                if holds(&batch) {
                    return batch;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await.unwrap()
    }
}

/// Waits until exactly this many runs are active.
async fn active(hall: &Hall, runs: u32) {
    tokio::time::timeout(TIMEOUT, hall.echo.until_active(runs)).await.unwrap();
}

#[tokio::test]
async fn a_tenant_has_files_and_batches_of_its_own_and_sees_no_others() {
    let house = House::new(echo(), limits()).await;
    let ours = house.tenant("acme", json!({"models": ["bee"]})).await;
    let theirs = house.tenant("other", json!({})).await;
    let lines = [chat_line("a", json!({})), chat_line("b", json!({"model": "echo2"}))].concat();
    let id = house.batch(&ours, &lines).await;
    let batch = house.until(&ours, &id, |batch| batch["status"] == "completed").await;
    let [input, output, errors] = ["input_file_id", "output_file_id", "error_file_id"]
        .map(|name| batch[name].as_str().unwrap().to_owned());
    let jobs = house.ask(&ours, Method::GET, "/v1/jobs", None).await.json();
    assert_eq!(jobs["data"][0]["tenant"], "acme");

    let foreign = create(&house.hall, "/v1/chat/completions", &input, Some(&theirs)).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{}", foreign.text());
    for (method, path) in [
        (Method::GET, format!("/v1/batches/{id}")),
        (Method::POST, format!("/v1/batches/{id}/cancel")),
        (Method::GET, format!("/v1/files/{input}")),
        (Method::GET, format!("/v1/files/{output}/content")),
        (Method::DELETE, format!("/v1/files/{input}")),
    ] {
        let made_up =
            path.replace(&id, "batch_0").replace(&input, "file-0").replace(&output, "file-0");
        let foreign = house.ask(&theirs, method.clone(), &path, None).await;
        let missing = house.ask(&theirs, method.clone(), &made_up, None).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{path}: {}", foreign.text());
        let name = |text: String| text.replace(&id, "X").replace(&input, "X").replace(&output, "X");
        let same = missing.text().replace("batch_0", "X").replace("file-0", "X");
        assert_eq!(name(foreign.text()), same, "it looks like one that does not exist");
    }
    let count = |reply: Reply| reply.json()["data"].as_array().unwrap().len();
    for (key, files, batches) in [(&ours, 3, 1), (&theirs, 0, 0), (&house.token, 3, 1)] {
        assert_eq!(count(house.ask(key, Method::GET, "/v1/files", None).await), files);
        assert_eq!(count(house.ask(key, Method::GET, "/v1/batches", None).await), batches);
    }
    // The rules for its models are those of the route.
    let told = house.ask(&ours, Method::GET, &format!("/v1/files/{errors}/content"), None).await;
    let told: Value = serde_json::from_str(told.text().trim()).unwrap();
    let body = crate::common::chat(json!({"model": "echo2"}));
    let direct = house.ask(&ours, Method::POST, "/v1/chat/completions", Some(body)).await;
    assert_eq!(told["response"]["status_code"], direct.status.as_u16());
    assert_eq!(told["response"]["body"], direct.json());
    // A key that says nothing of itself, and no key.
    let nobody = house.hall.send(upload("{}")).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn files_and_batches_of_a_removed_tenant_are_removed_and_a_new_one_of_its_name_has_none() {
    let gate = EchoGate::new();
    let house = House::new(echo().gate(&gate), limits()).await;
    let (first, other) =
        (house.tenant("acme", json!({})).await, house.tenant("other", json!({})).await);
    file(&house.hall, "{}", Some(&other)).await;
    let id = house.batch(&first, &chat_line("a", json!({}))).await;
    active(&house.hall, 1).await;
    let remove = async || house.ask(&house.token, Method::DELETE, "/v1/tenants/acme", None).await;
    let refused = remove().await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(refused.text().contains("1 batches that have not ended"), "{}", refused.text());
    gate.open();
    house.until(&first, &id, |batch| batch["status"] == "completed").await;
    let removed = remove().await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text());
    let again = house.tenant("acme", json!({})).await;
    let count = |reply: Reply| reply.json()["data"].as_array().unwrap().len();
    for path in ["/v1/files", "/v1/batches"] {
        assert_eq!(count(house.ask(&again, Method::GET, path, None).await), 0, "{path}");
    }
    let gone = house.ask(&house.token, Method::GET, &format!("/v1/batches/{id}"), None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text());
    assert_eq!(count(house.ask(&house.token, Method::GET, "/v1/files", None).await), 1);
}

#[tokio::test]
async fn what_a_tenant_left_that_was_removed_without_the_server_is_gone_before_the_name_is_used_again()
 {
    let house = House::new(echo(), limits()).await;
    let first = house.tenant("acme", json!({})).await;
    let id = house.batch(&first, &chat_line("a", json!({}))).await;
    house.until(&first, &id, |batch| batch["status"] == "completed").await;
    house.hall.queen.tenants().remove(&TenantId::new("acme").unwrap()).await.unwrap();
    let again = house.tenant("acme", json!({})).await;
    let count = |reply: Reply| reply.json()["data"].as_array().unwrap().len();
    for path in ["/v1/files", "/v1/batches"] {
        assert_eq!(count(house.ask(&again, Method::GET, path, None).await), 0, "{path}");
    }
}

#[tokio::test]
async fn a_name_is_not_used_again_while_a_removed_tenant_of_it_uploads_a_file() {
    let house = House::new(echo(), BatchLimits { tenant_uploads: 1, ..limits() }).await;
    let key = house.tenant("acme", json!({})).await;
    let upload = house.endless_upload(&key).await;
    let acme = "/v1/tenants/acme";
    let removed = house.ask(&house.token, Method::DELETE, acme, None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text());
    let put = async || house.ask(&house.token, Method::PUT, acme, Some(json!({}))).await;
    let refused = put().await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    drop(upload);
    let added = put().await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
}

#[tokio::test]
async fn batches_leave_half_of_the_concurrent_jobs_of_a_tenant_to_it_and_wait_for_each_other() {
    let gate = EchoGate::new();
    let limits = BatchLimits { tenant_active: 1, tenant_batches: 2, ..limits() };
    let house = House::new(echo().gate(&gate), limits).await;
    let key = house.tenant("acme", json!({"concurrent_jobs": 4})).await;
    let lines: String = (0..5).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let first = house.batch(&key, &lines).await;
    active(&house.hall, 2).await;
    let second = house.batch(&key, &lines).await;
    let unused = file(&house.hall, &lines, Some(&key)).await;
    let third = create(&house.hall, "/v1/chat/completions", &unused, Some(&key)).await;
    assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS, "{}", third.text());
    assert!(third.header("retry-after").is_some());
    let deleted = house.ask(&key, Method::DELETE, &format!("/v1/files/{unused}"), None).await;
    assert_eq!(deleted.status, StatusCode::OK, "no batch reads it: {}", deleted.text());
    let jobs = house.ask(&key, Method::GET, "/v1/jobs", None).await.json();
    assert_eq!(jobs["data"].as_array().unwrap().len(), 2, "{jobs}");
    let waiting = house.until(&key, &second, |_| true).await;
    assert_eq!(waiting["status"], "validating");
    // A batch that waits is cancelled at once.
    let path = format!("/v1/batches/{second}/cancel");
    house.ask(&key, Method::POST, &path, None).await;
    let cancelled = house.until(&key, &second, |batch| batch["status"] == "cancelled").await;
    assert_eq!(cancelled["request_counts"]["total"], 0);
    gate.open();
    let done = house.until(&key, &first, |batch| batch["status"] == "completed").await;
    assert_eq!(done["request_counts"]["completed"], 5);
}

#[tokio::test]
async fn lines_that_a_full_queue_refuses_wait_and_do_not_fail() {
    let (gate, directory) = (EchoGate::new(), tempfile::tempdir().unwrap());
    let settings = Settings { queue_capacity: 8, ..Settings::default() };
    let (queen, path) = (Queen::builder().settings(settings), directory.path().join("batches"));
    let echo = echo().slots(1).gate(&gate);
    let hall = Hall::of(echo, queen, |server| server.with_batches(path, limits()).unwrap()).await;
    while hall.post("/v1/jobs", chat(json!({}))).await.status == StatusCode::ACCEPTED {}
    let lines: String = (0..8).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let id = super::begin(&hall, "/v1/chat/completions", &lines).await;
    super::until(&hall, &id, |batch| batch["status"] == "in_progress").await;
    gate.open();
    let batch = super::ended(&hall, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 8, "completed": 8, "failed": 0}));
}

#[tokio::test]
async fn batches_leave_three_quarters_of_the_queue_to_others() {
    let (gate, directory) = (EchoGate::new(), tempfile::tempdir().unwrap());
    let settings = Settings { queue_capacity: 16, ..Settings::default() };
    let (queen, path) = (Queen::builder().settings(settings), directory.path().join("batches"));
    let echo = echo().slots(8).gate(&gate);
    let hall = Hall::of(echo, queen, |server| server.with_batches(path, limits()).unwrap()).await;
    let one = json!({"max_tokens": 1});
    let lines: String = (0..9).map(|at| chat_line(&at.to_string(), one.clone())).collect();
    let id = super::begin(&hall, "/v1/chat/completions", &lines).await;
    active(&hall, 4).await;
    // The end of one line lets the next one in, and no more.
    for done in 1..=5 {
        gate.release(1);
        super::until(&hall, &id, |batch| batch["request_counts"]["completed"] == done).await;
        active(&hall, 4).await;
    }
    gate.open();
    let batch = super::ended(&hall, &id).await;
    assert_eq!(batch["request_counts"], json!({"total": 9, "completed": 9, "failed": 0}));
}

#[tokio::test]
async fn each_answer_that_a_line_asks_for_counts_toward_the_share_of_its_batch() {
    // A quarter of the queue; a line with more jobs than that runs alone.
    for (queue_capacity, most) in [(64, 16), (16, 8)] {
        let (gate, directory) = (EchoGate::new(), tempfile::tempdir().unwrap());
        let settings = Settings { queue_capacity, ..Settings::default() };
        let (queen, path) = (Queen::builder().settings(settings), directory.path().join("batches"));
        let echo = echo().slots(32).gate(&gate);
        let hall =
            Hall::of(echo, queen, |server| server.with_batches(path, limits()).unwrap()).await;
        let eight = json!({"n": 8, "max_tokens": 1});
        let lines: String = (0..4).map(|at| chat_line(&at.to_string(), eight.clone())).collect();
        let id = super::begin(&hall, "/v1/chat/completions", &lines).await;
        active(&hall, most).await;
        let batch = super::until(&hall, &id, |batch| {
            assert!(hall.echo.active() <= most, "{} of {most}", hall.echo.active());
            gate.release(1);
            batch["status"] == "completed"
        });
        assert_eq!(batch.await["request_counts"]["completed"], 4);
    }
}

#[tokio::test]
async fn answers_beyond_the_bytes_of_a_tenant_fail_and_the_lines_after_them_are_not_executed() {
    let lines: String = (0..5).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let post = Post::new().await;
    let batch = post.run("/v1/chat/completions", &lines).await;
    let path = format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap());
    let five = post.hall.get(&path).await.json()["bytes"].as_u64().unwrap();

    // There is room for one answer, and a half.
    let tenant_bytes = lines.len() as u64 + five / 5 * 3 / 2;
    let limits = BatchLimits { tenant_bytes, lines_in_flight: 1, ..limits() };
    let post = Post::with(echo(), limits).await;
    let batch = post.run("/v1/chat/completions", &lines).await;
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 1, "failed": 4}));
    assert_eq!(post.hall.echo.started(), 2);
    let errors = lines_of(&post.hall, &batch["error_file_id"]).await;
    assert_eq!(super::ids(&errors), ["1", "2", "3", "4"]);
    for error in &errors {
        assert_eq!(error["response"]["status_code"], 403);
        let told = &error["response"]["body"]["error"];
        assert_eq!(told["code"], "quota_exceeded");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains(&format!("more than {tenant_bytes} bytes")), "{message}");
    }
    // All of the room is free again.
    for name in ["input_file_id", "output_file_id", "error_file_id"] {
        post.hall.delete(&format!("/v1/files/{}", batch[name].as_str().unwrap())).await;
    }
    file(&post.hall, &"x".repeat(tenant_bytes.try_into().unwrap()), None).await;
}

#[tokio::test]
async fn uploads_of_tenants_do_not_lock_out_the_operator() {
    let house = House::new(echo(), BatchLimits { tenant_uploads: 1, ..limits() }).await;
    let mut uploads = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let key = house.tenant(name, json!({})).await;
        uploads.push(house.endless_upload(&key).await);
    }
    let fifth = house.tenant("e", json!({})).await;
    let refused = house.hall.send(with_key(upload("{}"), Some(&fifth))).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    file(&house.hall, "{}", Some(&house.token)).await;
    drop(uploads);
    file(&house.hall, "{}", Some(&fifth)).await;
}

#[tokio::test]
async fn files_beyond_the_limit_of_a_tenant_are_refused_until_others_are_deleted() {
    let limits = BatchLimits { tenant_files: 2, ..limits() };
    let post = Post::with(echo(), limits).await;
    let first = file(&post.hall, "{}", None).await;
    file(&post.hall, "{}", None).await;
    let refused = post.hall.send(upload("{}")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert!(refused.text().contains("allowed are 2"), "{}", refused.text());
    post.hall.delete(&format!("/v1/files/{first}")).await;
    let third = file(&post.hall, &chat_line("a", json!({})), None).await;
    // The results of a batch are kept all the same.
    let reply = create(&post.hall, "/v1/chat/completions", &third, None).await;
    let batch = super::ended(&post.hall, reply.json()["id"].as_str().unwrap()).await;
    assert_eq!(lines_of(&post.hall, &batch["output_file_id"]).await.len(), 1);
}
