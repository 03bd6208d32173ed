//! The events of a response.

use http::{Method, StatusCode};
use rbee_core::{
    Error, ErrorKind, Finish, Output, Queen,
    worker::{EchoFault, EchoGate},
};
use serde_json::{Value, json};

use super::{ANSWER, events, hall, hall_of, items_of_answer, request, with_tools};
use crate::common::{self, Hall, next};

/// The type of each event, without its common beginning.
fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["type"].as_str().unwrap());
    names.map(|name| name.strip_prefix("response.").unwrap_or(name)).collect()
}

#[tokio::test]
async fn a_stream_has_the_events_of_every_item_in_order_with_their_numbers() {
    let (hall, _) = hall(&[&ANSWER]).await;
    let reply = hall.respond(with_tools(json!({"stream": true}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = events(&reply);
    assert_eq!(
        names(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let id = events[0]["response"]["id"].as_str().unwrap();
    let items = items_of_answer(id);
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    for (index, event) in done.enumerate() {
        assert_eq!((&event["output_index"], &event["item"]), (&json!(index), &items[index]));
    }
    let added = events.iter().filter(|event| event["type"] == "response.output_item.added");
    for (index, event) in added.enumerate() {
        assert_eq!(event["item"]["status"], "in_progress");
        assert_eq!(event["item"]["id"], items[index]["id"]);
    }
    let text = &events[11];
    assert_eq!(
        (&text["item_id"], &text["output_index"], &text["content_index"], &text["logprobs"]),
        (&items[1]["id"], &json!(1), &json!(0), &json!([]))
    );
    assert_eq!(text["delta"], "Let me look.");
    assert_eq!(events[18]["arguments"], "{\"where\": \"Bern\"}");
    assert_eq!(
        (&events[21]["delta"], &events[22]["input"]),
        (&json!("+ \"1\""), &json!("+ \"1\""))
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[28]["response"]["output"], items);
    // The same request without a stream has the same response.
    let whole = hall.get(&format!("/v1/responses/{id}")).await.json();
    let mut streamed = events[28]["response"].clone();
    streamed["completed_at"] = whole["completed_at"].clone();
    assert_eq!(streamed, whole);
    hall.quiet().await;
}

#[tokio::test]
async fn reasoning_is_streamed_as_a_summary_if_one_is_requested() {
    let (hall, _) = hall(&[&["<think>Hm</think>", "So"]]).await;
    let fields = json!({"stream": true, "reasoning": {"summary": "auto"}});
    let events = events(&hall.respond(request(fields)).await);
    assert_eq!(
        names(&events)[2..8],
        [
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
        ]
    );
    assert_eq!((&events[4]["summary_index"], &events[4]["delta"]), (&json!(0), &json!("Hm")));
    assert_eq!(events[7]["item"]["summary"], json!([{"type": "summary_text", "text": "Hm"}]));
}

#[tokio::test]
async fn a_call_that_is_cut_off_ends_incomplete() {
    let text: &[&str] = &["<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    let (hall, _) = hall_of(Queen::builder(), &[(text, Finish::Length)]).await;
    let events = events(&hall.respond(with_tools(json!({"stream": true}))).await);
    let [.., done, end] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&done["item"]["status"], &end["type"]),
        (&json!("incomplete"), &json!("response.incomplete"))
    );
    assert_eq!(done["item"]["arguments"], "{\"where\": \"B");
    assert_eq!(end["response"]["incomplete_details"]["reason"], "max_output_tokens");
}

#[tokio::test]
async fn an_error_in_the_middle_is_an_event_with_the_failed_response() {
    let token = |text: &str| Ok(Output::Token { id: None, text: text.into(), logprobs: None });
    let error = Error::for_client(ErrorKind::ContextExceeded, "the context is full");
    let echo = common::echo().script([token("So"), token(" far"), Err(error)]);
    let hall = Hall::with(echo).await;
    let body = request(json!({"model": "bee", "stream": true}));
    let events = events(&hall.respond(body).await);
    let [.., done, end] = &events[..] else { panic!("{events:?}") };
    assert_eq!(done["item"]["status"], "incomplete");
    assert_eq!(end["type"], "response.failed");
    let response = &end["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(response["error"]["code"], "context_length_exceeded");
    assert_eq!(response["output"][0]["content"][0]["text"], "So far");
    let id = response["id"].as_str().unwrap();
    let stored = hall.get(&format!("/v1/responses/{id}")).await.json();
    assert_eq!((&stored["status"], &stored["error"]), (&json!("failed"), &response["error"]));
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_response() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let body = request(json!({"model": "bee", "stream": true, "max_output_tokens": 64}));
    gate.release(2);
    let response = hall.begin(common::request(Method::POST, "/v1/responses", Some(body))).await;
    let job = response.headers()["x-rbee-job-id"].to_str().unwrap().to_owned();
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().contains("response.created"));
    drop(body);
    hall.until(&job, |view| view["state"] == "cancelled").await;
    hall.quiet().await;
}

#[tokio::test]
async fn a_stream_can_be_read_again_after_any_of_its_events() {
    let (hall, _) = hall(&[&ANSWER]).await;
    let first = hall.respond(with_tools(json!({"stream": true}))).await;
    let all = events(&first);
    let id = all[0]["response"]["id"].as_str().unwrap();
    for after in [None, Some(0), Some(5), Some(27), Some(28), Some(99)] {
        let query = after.map_or(String::new(), |after| format!("&starting_after={after}"));
        let reply = hall.get(&format!("/v1/responses/{id}?stream=true{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let mut again = events(&reply);
        // The time at which this stream has ended.
        for event in &mut again {
            if event["type"] == "response.completed" {
                event["response"]["completed_at"] =
                    all.last().unwrap()["response"]["completed_at"].clone();
            }
        }
        let from = after.map_or(0, |after| (after + 1).min(all.len()));
        assert_eq!(again, all[from..], "after {after:?}");
    }
}

#[tokio::test]
async fn a_response_in_the_background_is_followed_while_it_runs() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let body = request(
        json!({"model": "bee", "background": true, "stream": true, "max_output_tokens": 4}),
    );
    let response = hall.begin(common::request(Method::POST, "/v1/responses", Some(body))).await;
    let mut stream = response.into_body();
    let first = next(&mut stream).await.unwrap();
    assert!(first.contains("response.created") && first.contains("response.queued"), "{first}");
    let at = first.find("resp_").unwrap();
    let id = first[at..at + 37].to_owned();
    // It goes on without a reader.
    drop(stream);
    let path = format!("/v1/responses/{id}?stream=true&starting_after=1");
    let follower = hall.begin(common::request(Method::GET, &path, None)).await;
    let mut body = follower.into_body();
    gate.open();
    let mut text = String::new();
    while let Some(part) = next(&mut body).await {
        text.push_str(&part);
    }
    assert!(!text.contains("response.created"), "{text}");
    let mut parser = rbee_transport_http::wire::sse::Parser::default();
    parser.push(text.as_bytes());
    let first = parser.next_event().unwrap().unwrap();
    let first: Value = serde_json::from_slice(&first.data).unwrap();
    assert_eq!(
        (&first["type"], &first["sequence_number"]),
        (&json!("response.in_progress"), &json!(2))
    );
    assert!(text.contains("response.incomplete"), "{text}");
    hall.quiet().await;
}

#[tokio::test]
async fn the_failure_of_a_response_in_the_background_is_an_event_wherever_a_reader_begins() {
    let fault = EchoFault::Refuse(ErrorKind::ContextExceeded);
    let hall = Hall::with(common::echo().fault(fault)).await;
    let response = hall.response(request(json!({"model": "bee", "background": true}))).await;
    assert_eq!(response["status"], "queued");
    let id = response["id"].as_str().unwrap();
    for after in ["", "&starting_after=0", "&starting_after=1"] {
        let reply = hall.get(&format!("/v1/responses/{id}?stream=true{after}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(events(&reply).last().unwrap()["type"], "response.failed");
    }
}

#[tokio::test]
async fn a_queen_that_shuts_down_breaks_the_stream_off_without_a_number_of_its_own() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let body = request(json!({"model": "bee", "background": true, "stream": true}));
    let response = hall.begin(common::request(Method::POST, "/v1/responses", Some(body))).await;
    let mut stream = response.into_body();
    let mut text = String::new();
    while !text.contains("response.in_progress") {
        text.push_str(&next(&mut stream).await.unwrap());
    }
    hall.queen.shutdown(std::time::Duration::ZERO).await.unwrap();
    let mut last = String::new();
    while let Some(part) = next(&mut stream).await {
        last.push_str(&part);
    }
    let mut parser = rbee_transport_http::wire::sse::Parser::default();
    parser.push(last.as_bytes());
    let event = parser.next_event().unwrap().unwrap();
    let data: Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!((&*event.name, &data["type"]), ("error", &json!("error")));
    assert_eq!((&data["code"], &data["sequence_number"]), (&json!("job_interrupted"), &json!(2)));
    assert!(!data["message"].as_str().unwrap().is_empty());
}
