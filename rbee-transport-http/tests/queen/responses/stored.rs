//! Stored responses: read, continued, cancelled and deleted.

use http::{Method, StatusCode};
use rbee_core::{
    Message, Queen, Role, Settings, registry::SqliteRegistry, request::ToolCall,
    settings::KeepRequests, worker::EchoGate,
};
use serde_json::{Value, json};

use super::{ANSWER, Scripted, hall, hall_of, request, with_tools};
use crate::{
    common::{self, Hall},
    tenants::House,
};

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

fn path(response: &Value) -> String {
    format!("/v1/responses/{}", id(response))
}

#[tokio::test]
async fn a_stored_response_is_read_as_it_was_answered() {
    let (hall, _) = hall(&[&ANSWER]).await;
    let fields = json!({
        "instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5,
        "reasoning": {"effort": "high", "summary": "auto"},
    });
    let response = hall.response(with_tools(fields)).await;
    let mut stored = hall.get(&path(&response)).await.json();
    stored["completed_at"] = response["completed_at"].clone();
    assert_eq!(stored, response);
}

#[tokio::test]
async fn what_is_not_stored_and_what_never_was_is_not_found() {
    let (hall, _) = hall(&[&["ok"]]).await;
    let response = hall.response(request(json!({"store": false}))).await;
    assert_eq!(response["store"], false);
    let chat = hall.chat(json!({"model": "script"})).await.json();
    let chat = chat["id"].as_str().unwrap().trim_start_matches("chatcmpl-").replace('-', "");
    for id in [id(&response), &format!("resp_{chat}"), "resp_1", "x"] {
        let path = format!("/v1/responses/{id}");
        let cancelled = hall.post(&format!("{path}/cancel"), json!({})).await;
        let items = hall.get(&format!("{path}/input_items")).await;
        for reply in [hall.get(&path).await, hall.delete(&path).await, cancelled, items] {
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
            let message = format!("Response with id '{id}' not found.");
            assert_eq!(reply.json()["error"]["message"], message);
        }
    }
}

#[tokio::test]
async fn a_conversation_goes_on_with_the_answer_and_without_the_instructions() {
    let (hall, worker) = hall(&[&ANSWER, &["<think>x</think>It rains."], &["Bye."]]).await;
    let first = hall.response(with_tools(json!({"instructions": "Be brief."}))).await;
    let calls: Vec<String> =
        [2, 3, 4].map(|at| first["output"][at]["call_id"].as_str().unwrap().to_owned()).into();
    let result =
        |kind: &str, id: &str, text: &str| json!({"type": kind, "call_id": id, "output": text});
    let second = with_tools(json!({
        "previous_response_id": id(&first),
        "input": [
            result("function_call_output", &calls[0], "rain"),
            result("custom_tool_call_output", &calls[1], "done"),
            result("function_call_output", &calls[2], "yes"),
        ],
    }));
    let second = hall.response(second).await;
    assert_eq!(second["previous_response_id"], id(&first));
    let third = request(json!({"previous_response_id": id(&second), "input": "Thanks"}));
    hall.response(third).await;
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let answer = Message {
        tool_calls: vec![
            call(&calls[0], "weather", "{\"where\": \"Bern\"}"),
            call(&calls[1], "patch", "{\"input\": \"+ \\\"1\\\"\"}"),
            call(&calls[2], "agents__ask", "{}"),
        ],
        ..Message::new(Role::Assistant, "Let me look.")
    };
    let expected = [
        Message::new(Role::User, "Rain?"),
        answer,
        Message::tool_result(&*calls[0], "rain"),
        Message::tool_result(&*calls[1], "done"),
        Message::tool_result(&*calls[2], "yes"),
        Message::new(Role::Assistant, "It rains."),
        Message::new(Role::User, "Thanks"),
    ];
    assert_eq!(worker.chat(1).messages, expected[..5]);
    assert_eq!(worker.chat(2).messages, expected);
    let keys = |run: usize| worker.asked.lock().unwrap()[run].prefix.clone();
    let listed = hall.get(&format!("{}/input_items?order=asc&limit=100", path(&second))).await;
    let items = listed.json()["data"].clone();
    let kinds: Vec<&str> =
        items.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "message",
            "message",
            "function_call",
            "custom_tool_call",
            "function_call",
            "function_call_output",
            "custom_tool_call_output",
            "function_call_output",
        ]
    );
    assert_eq!(items[4]["namespace"], "agents");
    // The prompt of the third begins as that of the second, but for the tools, which were not sent again.
    assert_eq!(keys(1).len(), 5);
}

#[tokio::test]
async fn the_prompt_of_a_continued_conversation_begins_like_the_one_before() {
    let (hall, worker) = hall(&[&["It rains."]]).await;
    let first = hall.response(request(json!({"instructions": "Be brief."}))).await;
    let fields = json!({
        "instructions": "Be brief.", "input": "Thanks", "previous_response_id": id(&first),
    });
    hall.response(request(fields)).await;
    // A client that keeps the conversation itself has the same prompt.
    let mut input = vec![json!({"role": "user", "content": "Rain?"})];
    input.extend(first["output"].as_array().unwrap().clone());
    input.push(json!({"role": "user", "content": "Thanks"}));
    hall.response(request(json!({"instructions": "Be brief.", "input": input}))).await;
    let asked = worker.asked.lock().unwrap();
    assert_eq!(asked[1].prefix[..2], asked[0].prefix[..]);
    assert_eq!(asked[1].prefix, asked[2].prefix);
}

#[tokio::test]
async fn an_item_is_named_instead_of_sent_again() {
    let (hall, worker) = hall(&[&ANSWER]).await;
    let first = hall.response(with_tools(json!({}))).await;
    let reference = |at: usize| json!({"type": "item_reference", "id": first["output"][at]["id"]});
    let call = first["output"][2]["call_id"].clone();
    let input = json!([
        {"role": "user", "content": "Rain?"}, reference(0), reference(1), reference(2),
        {"type": "function_call_output", "call_id": call, "output": "rain"},
    ]);
    hall.response(with_tools(json!({"input": input}))).await;
    let messages = worker.chat(1).messages;
    assert_eq!(messages.len(), 3);
    assert_eq!((&*messages[1].content, messages[1].tool_calls.len()), ("Let me look.", 1));
    let missing = first["output"][1]["id"].as_str().unwrap().replace("_1", "_9");
    let input = json!([{"type": "item_reference", "id": missing}]);
    let reply = hall.respond(request(json!({"input": input}))).await;
    assert_eq!(reply.json()["error"]["param"], "input[0].id", "{}", reply.text());
    // Otherwise a short request could stand for a text of any length.
    let reply = hall.respond(request(json!({"input": [reference(1), reference(1)]}))).await;
    assert_eq!(reply.json()["error"]["param"], "input[1].id", "{}", reply.text());
}

#[tokio::test]
async fn more_tools_than_are_read_are_refused() {
    let (hall, _) = hall(&[&ANSWER]).await;
    let tool = |at: usize| json!({"type": "function", "name": format!("f{at}"), "parameters": {}});
    let tools: Vec<_> = (0..1_025).map(tool).collect();
    let reply = hall.respond(request(json!({"input": "Go", "tools": tools}))).await;
    assert_eq!(reply.json()["error"]["param"], "tools", "{}", reply.text());
}

#[tokio::test]
async fn only_a_completed_response_is_continued() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let running = hall.response(request(json!({"model": "bee", "background": true}))).await;
    let never = format!("resp_{}", "0".repeat(32));
    for id in [id(&running), &never] {
        let body = request(json!({"model": "bee", "previous_response_id": id}));
        let reply = hall.respond(body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], "previous_response_id");
        assert!(error["message"].as_str().unwrap().contains(id), "{error}");
    }
}

#[tokio::test]
async fn a_response_in_the_background_is_read_until_it_is_completed() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let fields = json!({"model": "bee", "background": true, "max_output_tokens": 4});
    let response = hall.response(request(fields)).await;
    assert_eq!((&response["status"], &response["background"]), (&json!("queued"), &json!(true)));
    let job = id(&response)[5..].parse::<rbee_core::JobId>().unwrap().to_string();
    hall.until(&job, |view| view["state"] == "running").await;
    let running = hall.get(&path(&response)).await.json();
    assert_eq!((&running["status"], &running["output"]), (&json!("in_progress"), &json!([])));
    gate.open();
    hall.until(&job, |view| view["state"] == "complete").await;
    let ended = hall.get(&path(&response)).await.json();
    assert_eq!(ended["status"], "incomplete", "its limit is 4 tokens");
    assert!(!ended["output"][0]["content"][0]["text"].as_str().unwrap().is_empty());
    hall.quiet().await;
}

#[tokio::test]
async fn only_a_response_in_the_background_is_cancelled() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let response = hall.response(request(json!({"model": "bee", "background": true}))).await;
    for _ in 0..2 {
        let cancelled = hall.post(&format!("{}/cancel", path(&response)), json!({})).await;
        assert_eq!(cancelled.json()["status"], "cancelled", "{}", cancelled.text());
    }
    // OpenAI's client for JavaScript sends no content type, because there is no body. A page may still send nothing.
    for (origin, status) in
        [(None, StatusCode::OK), (Some("http://page.example"), StatusCode::FORBIDDEN)]
    {
        let mut sent = http::Request::post(format!("{}/cancel", path(&response)));
        if let Some(origin) = origin {
            sent = sent.header("origin", origin);
        }
        let reply = hall.send(sent.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    gate.open();
    let whole = hall.response(request(json!({"model": "bee", "max_output_tokens": 2}))).await;
    let reply = hall.post(&format!("{}/cancel", path(&whole)), json!({})).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    hall.quiet().await;
}

#[tokio::test]
async fn a_deleted_response_is_gone_with_its_texts_and_cannot_be_continued() {
    let gate = EchoGate::new();
    let hall = Hall::with(common::echo().gate(&gate)).await;
    let running = hall.response(request(json!({"model": "bee", "background": true}))).await;
    let deleted = hall.delete(&path(&running)).await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.text());
    gate.open();
    let ended = hall.response(request(json!({"model": "bee", "max_output_tokens": 2}))).await;
    let deleted = hall.delete(&path(&ended)).await.json();
    assert_eq!(deleted, json!({"id": id(&ended), "object": "response", "deleted": true}));
    for response in [&running, &ended] {
        assert_eq!(hall.get(&path(response)).await.status, StatusCode::NOT_FOUND);
        let next = request(json!({"model": "bee", "previous_response_id": id(response)}));
        assert_eq!(hall.respond(next).await.status, StatusCode::BAD_REQUEST);
        let job = id(response)[5..].parse::<rbee_core::JobId>().unwrap();
        let record = hall.queen.job(job).await.unwrap();
        assert!(record.request.is_none() && record.chunks.is_empty());
        let events = hall.get(&format!("/v1/jobs/{job}/events")).await;
        assert!(!events.text().contains("event: token"), "{}", events.text());
    }
}

#[tokio::test]
async fn a_tenant_sees_only_its_own_responses() {
    let house = House::new(Settings::default()).await;
    let (one, two) = (house.tenant("one", json!({})).await, house.tenant("two", json!({})).await);
    let body = request(json!({"model": "bee", "max_output_tokens": 2, "background": true}));
    let made = house.ask(&one, Method::POST, "/v1/responses", Some(body)).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let response = made.json();
    let path = path(&response);
    let stream = house.ask(&one, Method::GET, &format!("{path}?stream=true"), None).await;
    assert!(stream.text().contains("response.incomplete"), "{}", stream.text());
    let own = house.ask(&one, Method::GET, &path, None).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text());
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}?stream=true")),
        (Method::GET, format!("{path}/input_items")),
        (Method::POST, format!("{path}/cancel")),
        (Method::DELETE, path.clone()),
    ] {
        let body = (method == Method::POST).then(|| json!({}));
        let reply = house.ask(&two, method, &path, body).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}: {}", reply.text());
        assert_eq!(
            reply.json()["error"]["message"],
            format!("Response with id '{}' not found.", id(&response))
        );
    }
    let item = own.json()["output"][0]["id"].clone();
    for fields in [
        json!({"previous_response_id": id(&response)}),
        json!({"input": [{"type": "item_reference", "id": item}]}),
    ] {
        let body = common::over(request(json!({"model": "bee"})), fields);
        let reply = house.ask(&two, Method::POST, "/v1/responses", Some(body.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        let reply = house.ask(&one, Method::POST, "/v1/responses", Some(body)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    }
}

#[tokio::test]
async fn a_queen_that_keeps_no_requests_stores_no_responses() {
    let settings = Settings { keep_requests: KeepRequests::Never, ..Settings::default() };
    let text: &[&str] = &["ok"];
    let answers = [(text, rbee_core::Finish::Stop)];
    let (hall, _) = hall_of(Queen::builder().settings(settings), &answers).await;
    let response = hall.response(request(json!({}))).await;
    assert_eq!(response["store"], false);
    assert_eq!(hall.get(&path(&response)).await.status, StatusCode::NOT_FOUND);
    let reply = hall.respond(request(json!({"background": true}))).await;
    assert_eq!(reply.json()["error"]["param"], "background", "{}", reply.text());
}

#[tokio::test]
async fn responses_survive_a_restart_of_the_queen() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queen.db");
    let open = || Queen::builder().registry(SqliteRegistry::open(&file).unwrap());
    let script = Scripted::new(&[(&ANSWER, rbee_core::Finish::Stop)]);
    let gate = EchoGate::new();
    let hall =
        Hall::of(common::echo().gate(&gate), open().worker(script.clone()), |server| server).await;
    let answered = hall.response(with_tools(json!({"metadata": {"a": "b"}}))).await;
    let fields = json!({"model": "bee", "background": true, "max_output_tokens": 4});
    let waiting = hall.response(request(fields)).await;
    hall.queen.shutdown(std::time::Duration::ZERO).await.unwrap();
    drop(hall);
    let hall = Hall::of(common::echo(), open().worker(script.clone()), |server| server).await;
    let mut again = hall.get(&path(&answered)).await.json();
    again["completed_at"] = answered["completed_at"].clone();
    assert_eq!(again, answered);
    let stream = hall.get(&format!("{}?stream=true", path(&waiting))).await;
    assert!(stream.text().contains("response.incomplete"), "{}", stream.text());
    let ended = hall.get(&path(&waiting)).await.json();
    assert_eq!(ended["usage"]["output_tokens"], 4);
    assert!(!ended["output"][0]["content"][0]["text"].as_str().unwrap().is_empty());
    assert_eq!(hall.delete(&path(&answered)).await.status, StatusCode::OK);
    assert_eq!(hall.get(&path(&answered)).await.status, StatusCode::NOT_FOUND);
}
