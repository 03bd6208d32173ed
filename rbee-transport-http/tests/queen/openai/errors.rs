//! Errors of chats, completions and vectors.

use crate::common::{self, Hall};
use http::StatusCode;
use rbee_core::{
    ErrorKind, Queen, Settings,
    worker::{EchoFault, EchoGate},
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_error_before_the_first_word_has_its_status_also_where_a_stream_was_asked_for() {
    for stream in [false, true] {
        let worker = common::echo()
            .context_tokens(100)
            .fault_times(EchoFault::Refuse(ErrorKind::ModelIncompatible), 1);
        let hall = Hall::with(worker).await;
        let refused = hall.chat(json!({"stream": stream})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["error"]["code"], "model_incompatible");
        let late = hall.chat(json!({"stream": stream, "deadline_ms": 0})).await;
        assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
        hall.quiet().await;
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_has_openais_code_sentence_and_numbers_on_every_route() {
    let hall = Hall::with(common::echo().embed(4).context_tokens(100)).await;
    let text = "x".repeat(1_000);
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"model": "bee", "messages": messages, "max_tokens": 20});
    let open = json!({"model": "bee", "messages": messages});
    let prompt = json!({"model": "bee", "prompt": text, "max_tokens": 20});
    let tokens = json!({"model": "bee", "input": [vec![7; 250]]});
    for (path, body, param, says) in [
        (
            "chat/completions",
            &chat,
            "messages",
            "100 tokens. However, you requested 270 tokens (250 in the messages, 20 in the completion)",
        ),
        (
            "chat/completions",
            &open,
            "messages",
            "100 tokens. However, you requested 251 tokens (250 in the messages, 1 in the completion)",
        ),
        (
            "completions",
            &prompt,
            "prompt",
            "100 tokens, however you requested 270 tokens (250 in your prompt; 20 for the completion)",
        ),
        (
            "embeddings",
            &json!({"model": "bee", "input": text}),
            "input",
            "100 tokens, however you requested 250 tokens (250 in your prompt; 0 for the completion)",
        ),
        (
            "embeddings",
            &tokens,
            "input",
            "100 tokens, however you requested 250 tokens (250 in your prompt; 0 for the completion)",
        ),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            if stream && path != "embeddings" {
                body["stream"] = json!(true);
            }
            let reply = hall.post(&format!("/v1/{path}"), body).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
            let error = &reply.json()["error"];
            let (code, kind) = (&error["code"], &error["type"]);
            assert_eq!(
                (code, kind),
                (&json!("context_length_exceeded"), &json!("invalid_request_error"))
            );
            assert_eq!(error["param"], param);
            let begin = format!("This model's maximum context length is {says}");
            assert!(error["message"].as_str().unwrap().starts_with(&begin), "{error}");
        }
    }
    // Longer than any context: no worker is asked.
    let huge = json!([{"role": "user", "content": "x".repeat(2 << 20)}]);
    let error = hall.chat(json!({"messages": huge})).await.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("messages"))
    );
    // The queen's own routes keep its own code.
    let job = hall.post("/v1/jobs", chat).await.json()["id"].as_str().unwrap().to_owned();
    let ended = hall.until(&job, |view| view["state"] == "failed").await;
    assert_eq!(ended["error"]["code"], "CONTEXT_EXCEEDED");
    hall.quiet().await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_is_its_last_event() {
    let fault = EchoFault::Fail { at: 2, kind: ErrorKind::ModelIncompatible };
    let hall = Hall::with(common::echo().fault(fault)).await;
    for n in [1, 3] {
        let reply = hall.chat(json!({"stream": true, "n": n})).await;
        assert_eq!(reply.status, StatusCode::OK);
        let last = reply.events().pop().unwrap();
        let error: Value = serde_json::from_slice(&last.data).unwrap();
        assert_eq!(error["error"]["code"], "model_incompatible", "{}", reply.text());
        assert!(!reply.text().contains("[DONE]"));
        assert_eq!(reply.text().matches("\"error\"").count(), 1);
        hall.quiet().await;
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again_also_while_no_job_has_ended() {
    let gate = EchoGate::new();
    let settings = Settings { queue_capacity: 1, ..Settings::default() };
    let hall = Hall::of(
        common::echo().slots(1).gate(&gate),
        Queen::builder().settings(settings),
        |server| server,
    )
    .await;
    let mut jobs = Vec::new();
    let refused = loop {
        let reply = hall.post("/v1/jobs", common::job(json!({}))).await;
        if reply.status != StatusCode::ACCEPTED {
            break reply;
        }
        jobs.push(reply.json()["id"].as_str().unwrap().to_owned());
        assert!(jobs.len() < 10, "the queue is never full");
    };
    let chat = hall.chat(json!({"stream": true})).await;
    for reply in [&refused, &chat] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("retry-after"), Some("1"), "its oldest job has just come");
    }
    assert_eq!(refused.json()["error"]["code"], "SYSTEM_AT_CAPACITY");
    assert_eq!(chat.json()["error"]["code"], "system_at_capacity");
    gate.open();
    for job in jobs {
        hall.until(&job, |view| view["state"] == "complete").await;
    }
    hall.quiet().await;
}
