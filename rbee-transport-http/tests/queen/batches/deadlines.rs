//! The deadline of batches.

use super::{Post, chat_line, ended, limits, lines_of};
use crate::common::echo;
use rbee_core::{registry::JobFilter, worker::EchoGate};
use rbee_transport_http::server::BatchLimits;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn the_jobs_of_a_batch_have_what_is_left_of_its_window_as_their_deadline() {
    let gate = EchoGate::new();
    let window = Duration::from_secs(3_600);
    let limits = BatchLimits { window, lines_in_flight: 1, ..limits() };
    let post = Post::with(echo().gate(&gate), limits).await;
    let lines = [
        chat_line("a", json!({"max_tokens": 1})),
        chat_line("b", json!({"max_tokens": 1, "deadline_ms": 60_000})),
    ]
    .concat();
    let id = post.begin("/v1/chat/completions", &lines).await;
    let deadline = async |started: u64| {
        post.hall.echo.until_started(started).await;
        let jobs = post.hall.queen.jobs(&JobFilter::default()).await.unwrap();
        let live = jobs.iter().find(|job| job.status.state().is_live()).unwrap();
        Duration::from_millis(live.outline.as_ref().unwrap().deadline_ms.unwrap())
    };
    let first = deadline(1).await;
    assert!(first < window && first > window - Duration::from_secs(60), "{first:?}");
    gate.release(1);
    assert_eq!(deadline(2).await, Duration::from_secs(60), "a shorter one of the request counts");
    gate.open();
    assert_eq!(ended(&post.hall, &id).await["request_counts"]["completed"], 2);
}

#[tokio::test]
async fn a_batch_that_expires_says_so_for_each_request_without_an_answer() {
    let gate = EchoGate::new();
    let limits = BatchLimits { window: Duration::from_millis(300), ..limits() };
    let post = Post::with(echo().gate(&gate), limits).await;
    let lines: String = (0..3).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let id = post.begin("/v1/chat/completions", &lines).await;
    let batch = ended(&post.hall, &id).await;
    assert_eq!(batch["status"], "expired", "{batch}");
    let errors = lines_of(&post.hall, &batch["error_file_id"]).await;
    assert_eq!(errors.len(), 3);
    for error in &errors {
        assert_eq!(error["error"]["code"], "batch_expired", "{error}");
        assert!(
            error["error"]["message"]
                .as_str()
                .unwrap()
                .contains("before this request was answered")
        );
    }
    post.hall.quiet().await;
}
