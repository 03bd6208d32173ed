//! Batches of responses.

use super::{Post, ids, line, lines_of};
use http::StatusCode;
use serde_json::json;

const PATH: &str = "/v1/responses";

#[tokio::test]
async fn a_response_of_a_batch_is_stored_and_can_be_continued_by_one_of_a_batch() {
    let post = Post::new().await;
    let first = json!({"model": "bee", "input": "One", "max_output_tokens": 2});
    let batch = post.run(PATH, &line("a", PATH, first)).await;
    assert_eq!(batch["request_counts"], json!({"total": 1, "completed": 1, "failed": 0}));
    let result = lines_of(&post.hall, &batch["output_file_id"]).await;
    let response = &result[0]["response"]["body"];
    let id = response["id"].as_str().unwrap();
    let stored = post.hall.get(&format!("{PATH}/{id}")).await;
    assert_eq!(stored.status, StatusCode::OK, "{}", stored.text());
    assert_eq!(stored.json()["output"], response["output"]);

    let next =
        json!({"model": "bee", "input": "Two", "previous_response_id": id, "max_output_tokens": 2});
    let batch = post.run(PATH, &line("b", PATH, next)).await;
    let result = lines_of(&post.hall, &batch["output_file_id"]).await;
    let next = result[0]["response"]["body"]["id"].as_str().unwrap();
    let items = post.hall.get(&format!("{PATH}/{next}/input_items?order=asc")).await.json();
    let texts: Vec<_> = items["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["content"][0]["text"].clone())
        .collect();
    assert_eq!(
        texts,
        [json!("One"), response["output"][0]["content"][0]["text"].clone(), json!("Two")]
    );
}

#[tokio::test]
async fn what_needs_a_client_is_refused_in_a_batch() {
    let post = Post::new().await;
    let of = |id: &str, field: &str, value: serde_json::Value| {
        line(id, PATH, json!({"model": "bee", "input": "a", field: value}))
    };
    let lines = [
        of("a", "stream", json!(true)),
        of("b", "background", json!(true)),
        of("c", "priority", json!("interactive")),
    ]
    .concat();
    let batch = post.run(PATH, &lines).await;
    let errors = lines_of(&post.hall, &batch["error_file_id"]).await;
    assert_eq!(ids(&errors), ["a", "b", "c"]);
    for (error, param) in errors.iter().zip(["stream", "background", "priority"]) {
        assert_eq!(error["response"]["status_code"], 400, "{error}");
        assert_eq!(error["response"]["body"]["error"]["param"], param, "{error}");
    }
}
