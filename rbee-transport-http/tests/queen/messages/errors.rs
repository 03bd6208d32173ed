//! Errors, in the shape of Anthropic's API.

use http::{Method, StatusCode};
use rbee_core::{
    Finish,
    request::{Prompt, Task},
};
use rbee_transport_http::wire::messages::{COUNT_TOKENS, MESSAGES};
use serde_json::{Value, json};

use super::{hall, request};

#[tokio::test]
async fn an_error_names_the_place_in_anthropics_shape() {
    let (hall, _) = hall(&["ok"], Finish::Stop).await;
    let image = json!([{"role": "user", "content": [{"type": "image", "source": {}}]}]);
    for path in [MESSAGES, COUNT_TOKENS] {
        let reply = hall.post(path, request(json!({"messages": image}))).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        let body = reply.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("messages[0].content[0].type is \"image\""), "{message}");
        assert_eq!(body["request_id"].as_str(), reply.header("request-id"));
    }
}

#[tokio::test]
async fn a_format_and_tools_go_to_the_worker_together() {
    let (hall, actor) = hall(&["{}"], Finish::Stop).await;
    let format = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    let reply = hall.message(json!({"output_config": format})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["content"], json!([{"type": "text", "text": "{}"}]));
    let job = actor.asked.lock().unwrap().take().unwrap();
    let Task::Generate { prompt: Prompt::Chat(chat), sampling } = &job.task else {
        panic!("a chat")
    };
    assert!(chat.can_call() && sampling.grammar.is_some());
}

#[tokio::test]
async fn other_methods_and_unknown_models_are_refused_in_the_same_shape() {
    let (hall, _) = hall(&["ok"], Finish::Stop).await;
    let refused = [
        (hall.ask(Method::GET, MESSAGES, None).await, 405, "invalid_request_error"),
        (hall.message(json!({"model": "no-such-model"})).await, 404, "not_found_error"),
        (hall.post("/v1/messages/batches", json!({})).await, 404, "not_found_error"),
        (hall.message(json!({"model": Value::Null})).await, 400, "invalid_request_error"),
    ];
    for (reply, status, kind) in refused {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(reply.json()["error"]["type"], kind);
    }
}

#[tokio::test]
async fn a_client_that_wants_the_server_to_keep_its_conversation_learns_that_it_must_do_so_itself()
{
    let (hall, _) = hall(&["ok"], Finish::Stop).await;
    let reply = hall.message(json!({"thread": {"type": "create"}})).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        reply.json()["error"]["details"],
        json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]})
    );
    let reply = hall.message(json!({"container": "c"})).await;
    assert!(!reply.text().contains("details"), "{}", reply.text());
}
