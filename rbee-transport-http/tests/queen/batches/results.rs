//! What a batch answers.

use super::{Post, begin, chat_line, ended, ids, limits, line, lines_of, until};
use crate::common::{echo, request};
use http::{Method, StatusCode};
use rbee_core::{
    Priority,
    registry::JobFilter,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::server::BatchLimits;
use serde_json::{Value, json};
use std::time::Duration;

/// A body without what differs between two jobs for the same request.
fn comparable(mut body: Value) -> Value {
    for field in ["id", "created", "created_at", "completed_at"] {
        body.as_object_mut().unwrap().remove(field);
    }
    // The API has no seed, so the texts differ.
    for item in body["output"].as_array_mut().into_iter().flatten() {
        *item = json!({"type": item["type"], "status": item["status"], "role": item["role"]});
    }
    body
}

#[tokio::test]
async fn results_are_what_the_routes_answer() {
    let post = Post::new().await;
    let chat = "/v1/chat/completions";
    for (path, bodies) in [
        (
            chat,
            [
                crate::common::chat(json!({})),
                crate::common::chat(json!({"n": 3, "logprobs": true, "top_logprobs": 2})),
                crate::common::chat(json!({"temperature": 9})),
                crate::common::chat(json!({"model": "nobody"})),
            ],
        ),
        (
            "/v1/completions",
            [
                json!({"model": "bee", "prompt": "a", "seed": 7}),
                json!({"model": "bee", "prompt": ["a", "b"], "n": 2, "seed": 7, "max_tokens": 3}),
                json!({"model": "bee"}),
                json!({"model": "bee", "prompt": "a", "color": "red"}),
            ],
        ),
        (
            "/v1/embeddings",
            [
                json!({"model": "bee", "input": ["a", "b"]}),
                json!({"model": "bee", "input": "a", "encoding_format": "base64"}),
                json!({"model": "bee", "input": []}),
                json!({"input": "a"}),
            ],
        ),
        (
            "/v1/responses",
            [
                json!({"model": "bee", "input": "a", "max_output_tokens": 3, "top_logprobs": 1, "temperature": 0}),
                json!({"model": "bee", "input": [{"role": "user", "content": "a"}], "max_output_tokens": 2,
                       "instructions": "Be brief.", "store": false, "temperature": 0}),
                json!({"model": "bee", "input": "a", "temperature": 9}),
                json!({"model": "bee", "input": "a", "previous_response_id": "resp_0bf4b36403614a59ab06248d5cee99a0"}),
            ],
        ),
    ] {
        let lines: String = bodies
            .iter()
            .enumerate()
            .map(|(at, body)| line(&at.to_string(), path, body.clone()))
            .collect();
        let batch = post.run(path, &lines).await;
        assert_eq!(batch["status"], "completed", "{batch}");
        assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 2, "failed": 2}));
        let good = lines_of(&post.hall, &batch["output_file_id"]).await;
        let bad = lines_of(&post.hall, &batch["error_file_id"]).await;
        assert_eq!((ids(&good), ids(&bad)), (vec!["0", "1"], vec!["2", "3"]));
        for result in good.iter().chain(&bad) {
            let at: usize = result["custom_id"].as_str().unwrap().parse().unwrap();
            let reply = post.hall.post(path, bodies[at].clone()).await;
            assert_eq!(result["response"]["status_code"], reply.status.as_u16(), "{result}");
            let (told, direct) = (result["response"]["body"].clone(), reply.json());
            match reply.status {
                StatusCode::OK => {
                    let fields = |body: &Value| -> Vec<String> {
                        body.as_object().unwrap().keys().cloned().collect()
                    };
                    assert_eq!(fields(&told), fields(&direct));
                    assert_eq!(comparable(told), comparable(direct));
                }
                _ => assert_eq!(told, direct),
            }
            assert_eq!(result["error"], Value::Null);
            assert!(result["id"].as_str().unwrap().starts_with("batch_req_"), "{result}");
            assert!(!result["response"]["request_id"].as_str().unwrap().is_empty(), "{result}");
        }
    }
    post.hall.quiet().await;
}

#[tokio::test]
async fn the_lines_of_a_batch_are_jobs_that_nobody_waits_for() {
    let post = Post::new().await;
    let lines = [
        chat_line("a", json!({"priority": "batch", "deadline_ms": 60_000})),
        chat_line("b", json!({"priority": "interactive"})),
        chat_line("c", json!({"stream": true})),
    ]
    .concat();
    let batch = post.run("/v1/chat/completions", &lines).await;
    let jobs = post.hall.queen.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(jobs[0].priority, Priority::Batch);
    let key = jobs[0].idempotency.as_ref().unwrap().key.to_string();
    assert_eq!(key, format!("{}/1", batch["id"].as_str().unwrap()));
    let output = lines_of(&post.hall, &batch["output_file_id"]).await;
    assert_eq!(output[0]["response"]["request_id"], jobs[0].correlation_id.as_str());
    let bad = lines_of(&post.hall, &batch["error_file_id"]).await;
    let params: Vec<_> = bad.iter().map(|it| &it["response"]["body"]["error"]["param"]).collect();
    assert_eq!(params, ["priority", "stream"]);
}

#[tokio::test]
async fn a_file_that_is_not_valid_fails_the_batch_with_the_lines_and_runs_nothing() {
    let post = Post::new().await;
    let lines = [
        chat_line("a", json!({})),
        "{\n".into(),
        chat_line("a", json!({})),
        line("b", "/v1/embeddings", json!({})),
        chat_line("c", json!({})).replace("POST", "GET"),
        chat_line("another model is allowed", json!({"model": "other"})),
    ]
    .concat();
    let batch = post.run("/v1/chat/completions", &lines).await;
    assert_eq!((&batch["status"], &batch["errors"]["object"]), (&json!("failed"), &json!("list")));
    let errors = batch["errors"]["data"].as_array().unwrap();
    let told: Vec<_> = errors.iter().map(|it| (&it["code"], &it["line"], &it["param"])).collect();
    assert_eq!(
        told,
        [
            (&json!("invalid_json_line"), &json!(2), &Value::Null),
            (&json!("duplicate_custom_id"), &json!(3), &json!("custom_id")),
            (&json!("invalid_url"), &json!(4), &json!("url")),
            (&json!("invalid_method"), &json!(5), &json!("method")),
        ]
    );
    assert!(errors.iter().all(|it| !it["message"].as_str().unwrap().is_empty()));
    assert!(batch["failed_at"].is_u64() && batch["output_file_id"].is_null(), "{batch}");
    assert_eq!(post.hall.echo.started(), 0);
    // Its file is no longer in use.
    let file = batch["input_file_id"].as_str().unwrap();
    let deleted = post.hall.delete(&format!("/v1/files/{file}")).await;
    assert_eq!(deleted.json(), json!({"id": file, "object": "file", "deleted": true}));
}

#[tokio::test]
async fn a_request_for_a_batch_is_refused_by_the_field_that_is_wrong() {
    let post = Post::new().await;
    let file = super::file(&post.hall, &chat_line("a", json!({})), None).await;
    let good = json!({
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600},
    });
    for (field, value, status) in [
        ("input_file_id", Value::Null, 400),
        ("input_file_id", json!("file-0"), 404),
        ("input_file_id", json!("../../etc/passwd"), 404),
        ("endpoint", json!("/v1/images"), 400),
        ("completion_window", json!("1h"), 400),
        ("completion_window", Value::Null, 400),
        ("metadata", json!({"a": 1}), 400),
        ("metadata", json!({"a": "x".repeat(513)}), 400),
        ("output_expires_after", json!({"anchor": "now", "seconds": 3600}), 400),
        ("output_expires_after", json!({"anchor": "created_at", "seconds": 1}), 400),
        ("color", json!("red"), 400),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let reply = post.hall.post("/v1/batches", body).await;
        assert_eq!(reply.status.as_u16(), status, "{field}: {}", reply.text());
        let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
        assert!(param.starts_with(field), "{field}: {param}");
    }
    let reply = post.hall.post("/v1/batches", good).await;
    assert_eq!(reply.json()["metadata"], json!({"a": "b"}), "{}", reply.text());
    let batch = ended(&post.hall, reply.json()["id"].as_str().unwrap()).await;
    // An output file cannot be the input of another batch.
    let output = batch["output_file_id"].as_str().unwrap();
    let view = post.hall.get(&format!("/v1/files/{output}")).await.json();
    assert_eq!(view["purpose"], "batch_output");
    let life = view["expires_at"].as_u64().unwrap() - view["created_at"].as_u64().unwrap();
    assert_eq!(life, 3_600);
    let reply = super::create(&post.hall, "/v1/chat/completions", output, None).await;
    assert_eq!(reply.json()["error"]["param"], "input_file_id", "{}", reply.text());
}

#[tokio::test]
async fn a_cancelled_batch_keeps_the_results_that_it_has() {
    let gate = EchoGate::new();
    let post = Post::with(echo().slots(2).gate(&gate), limits()).await;
    let lines: String = (0..4).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let id = post.begin("/v1/chat/completions", &lines).await;
    post.hall.echo.until_active(2).await;
    // The answer of one of the two.
    gate.release(7);
    until(&post.hall, &id, |batch| batch["request_counts"]["completed"] == 1).await;
    let file = post.hall.get(&format!("/v1/batches/{id}")).await.json()["input_file_id"].clone();
    let used = post.hall.delete(&format!("/v1/files/{}", file.as_str().unwrap())).await;
    assert_eq!(used.status, StatusCode::CONFLICT, "{}", used.text());
    // OpenAI's client for JavaScript sends no content type.
    let mut cancel = request(Method::POST, &format!("/v1/batches/{id}/cancel"), None);
    cancel.headers_mut().clear();
    let told = post.hall.send(cancel).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.text());
    assert!(["cancelling", "cancelled"].contains(&told.json()["status"].as_str().unwrap()));
    let batch = ended(&post.hall, &id).await;
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 1, "failed": 0}));
    assert_eq!(lines_of(&post.hall, &batch["output_file_id"]).await.len(), 1);
    assert!(batch["error_file_id"].is_null() && batch["cancelled_at"].is_u64(), "{batch}");
    post.hall.quiet().await;
    let again = post.hall.post(&format!("/v1/batches/{id}/cancel"), json!({})).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text());
    assert!(again.text().contains("is cancelled"), "{}", again.text());
}

#[tokio::test]
async fn a_batch_that_is_not_done_in_time_keeps_its_results_and_names_the_rest() {
    let gate = EchoGate::new();
    let limits = BatchLimits { window: Duration::from_millis(700), ..limits() };
    let post = Post::with(echo().slots(1).gate(&gate), limits).await;
    let lines: String = (0..3).map(|at| chat_line(&at.to_string(), json!({}))).collect();
    let id = begin(&post.hall, "/v1/chat/completions", &lines).await;
    gate.release(4);
    let batch = ended(&post.hall, &id).await;
    assert_eq!(batch["status"], "expired", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 1, "failed": 2}));
    let output = lines_of(&post.hall, &batch["output_file_id"]).await;
    let text = &output[0]["response"]["body"]["choices"][0]["message"]["content"];
    assert_eq!(*text, EchoWorker::text(7, 4));
    let errors = lines_of(&post.hall, &batch["error_file_id"]).await;
    assert_eq!(ids(&errors), ["1", "2"]);
    for error in errors {
        assert_eq!(
            (&error["response"], &error["error"]["code"]),
            (&Value::Null, &json!("batch_expired"))
        );
    }
    post.hall.quiet().await;
}

#[tokio::test]
async fn batches_are_listed_in_pages_the_newest_first() {
    let post = Post::new().await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let batch = post.run("/v1/chat/completions", &chat_line("a", json!({}))).await;
        all.insert(0, batch["id"].as_str().unwrap().to_owned());
        // The next one is made in another millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let page = post.hall.get("/v1/batches?limit=2").await.json();
    assert_eq!((&page["object"], &page["has_more"]), (&json!("list"), &json!(true)));
    assert_eq!((&page["first_id"], &page["last_id"]), (&json!(all[0]), &json!(all[1])));
    let rest = post.hall.get(&format!("/v1/batches?limit=2&after={}", all[1])).await.json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (&json!(all[2]), &json!(false)));
    for query in ["limit=0", "limit=101", "after=batch_0", "before=x"] {
        let refused = post.hall.get(&format!("/v1/batches?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}: {}", refused.text());
    }
}
