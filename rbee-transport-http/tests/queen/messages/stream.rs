//! Streamed answers: the exact sequence of their events.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use rbee_core::{Error, ErrorKind, Finish, Output, Queen, worker::EchoGate};
use rbee_transport_http::wire::messages::{MESSAGES, SIGNATURE, StreamEvent};
use serde_json::{Value, json};

use super::{Actor, hall, hall_of, recited, tools::ANSWER};
use crate::common::{self, Hall, Reply};

/// The events, each with its name in its data.
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = reply.events().into_iter().map(|event| {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!(data["type"], &*event.name);
        data
    });
    events.collect()
}

/// The types of the events, with the type of what they are about.
fn outline(events: &[Value]) -> Vec<String> {
    let about = |event: &Value| match event["type"].as_str().unwrap() {
        "content_block_start" => event["content_block"]["type"].as_str().unwrap().to_owned(),
        "content_block_delta" => event["delta"]["type"].as_str().unwrap().to_owned(),
        "content_block_stop" => format!("stop {}", event["index"]),
        other => other.to_owned(),
    };
    events.iter().map(about).collect()
}

async fn streamed(hall: &Hall, fields: Value) -> Vec<Value> {
    events(&hall.message(common::over(json!({"stream": true}), fields)).await)
}

#[tokio::test]
async fn a_stream_has_the_same_blocks_one_after_the_other() {
    let (hall, _) = hall(&ANSWER, Finish::Stop).await;
    let events = streamed(&hall, json!({})).await;
    assert_eq!(
        outline(&events),
        [
            "message_start",
            "thinking",
            "thinking_delta",
            "thinking_delta",
            "signature_delta",
            "stop 0",
            "text",
            "text_delta",
            "stop 1",
            "tool_use",
            "input_json_delta",
            "input_json_delta",
            "stop 2",
            "tool_use",
            "input_json_delta",
            "stop 3",
            "message_delta",
            "message_stop",
        ]
    );
    for event in &events {
        let parsed: StreamEvent = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), *event);
    }
    let first = &events[0]["message"];
    assert!(first["id"].as_str().unwrap().starts_with("msg_"), "{first}");
    assert_eq!((&first["content"], &first["stop_reason"]), (&json!([]), &Value::Null));
    let usage = |output: u32| json!({"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": output});
    assert_eq!(first["usage"], usage(0));
    let text = |kind: &str, field: &str| -> String {
        let deltas = events.iter().filter(|event| event["delta"]["type"] == kind);
        deltas.map(|event| event["delta"][field].as_str().unwrap()).collect()
    };
    assert_eq!(text("thinking_delta", "thinking"), "Hm.");
    assert_eq!(text("signature_delta", "signature"), SIGNATURE);
    assert_eq!(text("text_delta", "text"), "Let me look.");
    assert_eq!(text("input_json_delta", "partial_json"), "{\"where\": \"Bern\"}{}");
    let call = &events[9]["content_block"];
    assert_eq!((&call["name"], &call["input"]), (&json!("weather"), &json!({})));
    assert!(call["id"].as_str().unwrap().starts_with("toolu_"), "{call}");
    let end = &events[16];
    assert_eq!(end["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!(end["usage"], usage(ANSWER.len() as u32));
}

#[tokio::test]
async fn an_answer_may_begin_with_a_call_or_be_empty() {
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let (only_call, _) = hall(&[call], Finish::Stop).await;
    assert_eq!(
        outline(&streamed(&only_call, json!({})).await),
        [
            "message_start",
            "tool_use",
            "input_json_delta",
            "stop 0",
            "message_delta",
            "message_stop"
        ]
    );
    let (empty, _) = hall(&[], Finish::Stop).await;
    let events = streamed(&empty, json!({})).await;
    assert_eq!(outline(&events), ["message_start", "message_delta", "message_stop"]);
    assert_eq!(events[1]["delta"]["stop_reason"], "end_turn");
}

#[tokio::test]
async fn the_stop_text_that_ended_an_answer_is_named_whole_and_streamed() {
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    for (text, finish, reason) in [
        ("One.", Finish::Stop, "stop_sequence"),
        (call, Finish::Stop, "tool_use"),
        ("One.", Finish::Length, "max_tokens"),
    ] {
        let mut outputs = recited(&[text], finish);
        if let Some(Ok(Output::End { stop_text, .. })) = outputs.last_mut() {
            *stop_text = Some("END".into());
        }
        let (hall, _) = hall_of(Actor::new(outputs), Queen::builder()).await;
        let sequence = (reason == "stop_sequence").then_some("END");
        let expected = json!({"stop_reason": reason, "stop_sequence": sequence});
        let whole = hall.message(json!({"stop_sequences": ["END"]})).await.json();
        assert_eq!(whole["stop_reason"], expected["stop_reason"]);
        assert_eq!(whole["stop_sequence"], expected["stop_sequence"]);
        let events = streamed(&hall, json!({"stop_sequences": ["END"]})).await;
        let end = events.iter().find(|event| event["type"] == "message_delta").unwrap();
        assert_eq!(end["delta"], expected);
    }
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_off_ends_with_the_limit() {
    let tokens = ["<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    let (hall, _) = hall(&tokens, Finish::Length).await;
    let events = streamed(&hall, json!({})).await;
    assert_eq!(
        outline(&events),
        [
            "message_start",
            "tool_use",
            "input_json_delta",
            "stop 0",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(events[2]["delta"]["partial_json"], "{\"where\": \"B");
    assert_eq!(events[4]["delta"]["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn an_error_before_the_first_event_has_its_status_and_a_later_one_is_an_event() {
    let refused = Error::for_client(ErrorKind::ContextExceeded, "it has 9 tokens");
    let (hall, _) = hall_of(Actor::new(vec![Err(refused.clone())]), Queen::builder()).await;
    let reply = hall.message(json!({"stream": true})).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        reply.json()["error"],
        json!({"type": "invalid_request_error", "message": "prompt is too long: it has 9 tokens"})
    );
    let mut outputs = recited(&["One."], Finish::Stop);
    outputs.pop();
    outputs.push(Err(refused));
    let (hall, _) = hall_of(Actor::new(outputs), Queen::builder()).await;
    let events = streamed(&hall, json!({})).await;
    assert_eq!(outline(&events), ["message_start", "text", "text_delta", "error"]);
    let error = &events[3];
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert!(error["request_id"].is_string(), "{error}");
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_job() {
    let hall = Hall::with(common::echo().token_delay(Duration::from_millis(10))).await;
    let body = json!({
        "model": "bee", "max_tokens": 100_000, "stream": true,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let asked = common::request(http::Method::POST, MESSAGES, Some(body));
    let response = hall.begin(asked).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    hall.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_pings_that_say_why() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().slots(1).gate(&gate)).await;
    let ask = || {
        let body = json!({
            "model": "bee", "max_tokens": 2, "stream": true,
            "messages": [{"role": "user", "content": "Hi"}],
        });
        hall.begin(common::request(http::Method::POST, MESSAGES, Some(body)))
    };
    let first = ask().await;
    let mut second = ask().await.into_body();
    let frame = second.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = std::str::from_utf8(&frame).unwrap();
    assert_eq!(text, ": queued, next in line\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
    drop((first, second));
    gate.open();
}
