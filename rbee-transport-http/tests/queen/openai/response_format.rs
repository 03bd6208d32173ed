//! What an answer must look like: how it is read, and what is refused.

use http::StatusCode;
use rbee_core::request::Grammar;
use serde_json::{Value, json};

use super::tools::{hall, request};

#[tokio::test]
async fn the_worker_gets_the_format_as_it_was_sent() {
    let schema = json!({"type": "object"});
    for (format, grammar) in [
        (json!({"type": "text"}), None),
        (Value::Null, None),
        (json!({"type": "json_object"}), Some(Grammar::JsonObject)),
        (
            json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "description": "y", "schema": schema}}),
            Some(Grammar::JsonSchema(schema.to_string())),
        ),
        (json!({"type": "regex", "regex": "a+"}), Some(Grammar::Regex("a+".into()))),
        (
            json!({"type": "lark", "lark": "start: \"a\""}),
            Some(Grammar::Lark("start: \"a\"".into())),
        ),
    ] {
        let (hall, worker) = hall(&["ok"], rbee_core::Finish::Stop).await;
        let fields = json!({"tools": null, "response_format": format});
        let reply = hall.post("/v1/chat/completions", request(fields)).await;
        assert_eq!(reply.status, StatusCode::OK, "{format}: {}", reply.text());
        assert_eq!(worker.asked_grammar(), grammar, "{format}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_format_is_refused_by_its_place() {
    let (hall, _) = hall(&["ok"], rbee_core::Finish::Stop).await;
    for (format, param) in [
        (json!("json"), "response_format"),
        (json!({}), "response_format.type"),
        (json!({"type": "xml"}), "response_format.type"),
        (json!({"type": "json_object", "x": 1}), "response_format.x"),
        (json!({"type": "json_schema"}), "response_format.json_schema"),
        (
            json!({"type": "json_schema", "json_schema": {"name": "x"}}),
            "response_format.json_schema.schema",
        ),
        (json!({"type": "regex"}), "response_format.regex"),
        (json!({"type": "regex", "regex": ""}), "response_format"),
        (json!({"type": "lark", "lark": "x".repeat(70_000)}), "response_format"),
    ] {
        let fields = json!({"tools": null, "response_format": format});
        let reply = hall.post("/v1/chat/completions", request(fields)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    for format in
        [json!({"type": "regex", "regex": "a"}), json!({"type": "lark", "lark": "start: \"a\""})]
    {
        let both = request(json!({"response_format": format}));
        let reply = hall.post("/v1/chat/completions", both).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], "response_format", "{}", reply.text());
    }
}

#[tokio::test]
async fn with_tools_an_answer_is_either_calls_or_content_and_never_both() {
    let call = r#"<tool_call>{"name": "weather", "arguments": {"where": "Bern"}}</tool_call>"#;
    let text = json!({"note": call}).to_string();
    let format = json!({"type": "json_object"});
    for is_streamed in [false, true] {
        let (hall, worker) = hall(&[&*text.clone().leak()], rbee_core::Finish::Stop).await;
        let fields = json!({"response_format": format, "stream": is_streamed});
        let reply = hall.post("/v1/chat/completions", request(fields)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(worker.asked_grammar(), Some(Grammar::JsonObject));
        let (content, reason) = if is_streamed {
            let chunks = reply.chunks();
            let part =
                |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
            let mut reasons =
                chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
            let reason = reasons.next_back().unwrap().to_owned();
            (chunks.iter().filter_map(part).collect::<String>(), reason)
        } else {
            let choice = reply.json()["choices"][0].clone();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&choice["message"]["content"]), text(&choice["finish_reason"]))
        };
        assert_eq!((content, &*reason), (text.clone(), "stop"));
    }
    let (hall, _) = hall(&[call], rbee_core::Finish::Stop).await;
    let reply =
        hall.post("/v1/chat/completions", request(json!({"response_format": format}))).await;
    let message = &reply.json()["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["name"], "weather", "{message}");
    assert_eq!(message["content"], Value::Null);
}
