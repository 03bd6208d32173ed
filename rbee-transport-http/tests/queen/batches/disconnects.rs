//! Clients that disconnect while their request is handled.

use std::sync::mpsc;

use super::{Post, chat_line, file, limits, upload};
use crate::common::{TIMEOUT, echo, request, with_host};
use axum::body::Body;
use futures_util::FutureExt;
use http::{Method, Request, StatusCode};
use rbee_transport_http::server::BatchLimits;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tower::ServiceExt;

/// More than a request is polled until it is answered.
const MOST_POLLS: usize = 100;

/// Runs a test with one thread for work on the disk.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// Polls a request this often, and drops it if it is not answered then. Returns true if it is. The disk does nothing
/// while the request is polled, so each of its steps needs one more.
async fn polled(post: &Post, request: Request<Body>, polls: usize) -> bool {
    let mut answer = Box::pin(post.hall.router.clone().oneshot(with_host(request)));
    for left in (0..polls).rev() {
        let (free, busy) = mpsc::channel::<()>();
        let disk = spawn_blocking(move || busy.recv());
        let is_answered = (&mut answer).now_or_never().is_some();
        if is_answered || left == 0 {
            return is_answered;
        }
        drop(free);
        assert!(disk.await.unwrap().is_err());
        spawn_blocking(|| ()).await.unwrap();
    }
    false
}

async fn listed(post: &Post, path: &str) -> Vec<String> {
    let list = post.hall.get(path).await.json();
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    list["data"].as_array().unwrap().iter().map(id).collect()
}

/// Waits until the directory has what is listed, and nothing else.
async fn consistent(post: &Post, after: usize) {
    let wait = async {
        loop {
            let mut expected = vec!["batches.lock".to_owned()];
            for id in listed(post, "/v1/files").await {
                expected.extend([format!("{id}.json"), format!("{id}.jsonl")]);
            }
            let batches = listed(post, "/v1/batches?limit=100").await;
            expected.extend(batches.iter().map(|id| format!("{id}.json")));
            expected.sort_unstable();
            if post.names() == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(TIMEOUT / 6, wait).await;
    assert!(waited.is_ok(), "after {after} polls there is what is not listed: {:?}", post.names());
}

#[test]
fn an_upload_leaves_a_file_that_is_listed_or_nothing() {
    run(upload_that_breaks_off());
}

async fn upload_that_breaks_off() {
    let post = Post::with(echo(), BatchLimits { tenant_uploads: 1, ..limits() }).await;
    let mut polls = 1;
    while !polled(&post, upload("{}"), polls).await {
        consistent(&post, polls).await;
        polls += 1;
        assert!(polls < MOST_POLLS);
    }
    assert!(polls > 3, "the file is written in several steps");
    // Nothing came later, and the room for an upload is free again.
    consistent(&post, polls).await;
    file(&post.hall, "{}", None).await;
}

#[test]
fn a_new_batch_is_listed_or_leaves_nothing_and_frees_its_file() {
    run(creation_that_breaks_off());
}

async fn creation_that_breaks_off() {
    let post = Post::new().await;
    let mut polls = 1;
    loop {
        let input = file(&post.hall, &chat_line("a", json!({})), None).await;
        let body = json!({
            "input_file_id": input, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        });
        let create = request(Method::POST, "/v1/batches", Some(body));
        let is_answered = polled(&post, create, polls).await;
        // The file is free as soon as the batch has ended, if there is one.
        let free = async {
            let path = format!("/v1/files/{input}");
            while post.hall.delete(&path).await.status != StatusCode::OK {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let freed = tokio::time::timeout(TIMEOUT / 6, free).await;
        assert!(freed.is_ok(), "after {polls} polls the file is still in use");
        consistent(&post, polls).await;
        if is_answered {
            break;
        }
        polls += 1;
        assert!(polls < MOST_POLLS);
    }
    assert!(polls > 1, "the batch is stored in a step of its own");
}
