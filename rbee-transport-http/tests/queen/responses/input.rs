//! What a request may have, and what the model reads of it.

use http::StatusCode;
use rbee_core::{
    Message, Role,
    request::{ToolCall, ToolChoice},
};
use serde_json::{Value, json};

use super::{hall, request, with_tools};

#[tokio::test]
async fn the_model_reads_instructions_items_and_tools() {
    let (hall, worker) = hall(&[&["ok"]]).await;
    let input = json!([
        {"role": "user", "content": "Go"},
        {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
        {"type": "function_call", "call_id": "b", "name": "ask", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "yes"}]},
    ]);
    let fields = json!({
        "input": input, "instructions": "Be brief.", "parallel_tool_calls": false,
        "tool_choice": {"type": "custom", "name": "patch"}, "reasoning": {"effort": "none"},
        "temperature": 0.5, "top_p": 0.25, "max_output_tokens": 9,
    });
    let response = hall.response(with_tools(fields)).await;
    assert_eq!(response["instructions"], "Be brief.");
    assert_eq!(response["tool_choice"], json!({"type": "custom", "name": "patch"}));
    let chat = worker.chat(0);
    let call = |id: &str, name: &str, arguments: &str| Message {
        tool_calls: vec![ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        }],
        ..Message::new(Role::Assistant, "")
    };
    assert_eq!(
        chat.messages,
        [
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, "Go"),
            call("a", "patch", "{\"input\":\"x\"}"),
            Message::tool_result("a", "done"),
            call("b", "agents__ask", "{}"),
            Message::tool_result("b", "yes"),
        ]
    );
    assert_eq!(chat.tool_choice, ToolChoice::Named("patch".into()));
    assert_eq!((chat.parallel_tool_calls, chat.thinking), (false, Some(false)));
    let job = worker.asked.lock().unwrap()[0].clone();
    let rbee_core::request::Task::Generate { sampling, .. } = &job.task else { panic!("text") };
    assert_eq!((sampling.temperature, sampling.top_p), (0.5, 0.25));
    assert_eq!(sampling.max_tokens, Some(9));
}

#[tokio::test]
async fn fields_that_clients_send_and_that_change_nothing_are_accepted() {
    let (hall, _) = hall(&[&["ok"]]).await;
    let fields = json!({
        "store": false, "include": ["reasoning.encrypted_content"], "truncation": "disabled",
        "service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s", "user": "u",
        "client_metadata": {"turn": "1"}, "text": {"verbosity": "low"}, "max_tool_calls": 3,
        "reasoning": {"effort": "medium", "summary": "concise"}, "top_logprobs": 0,
        "tools": [{"type": "web_search", "external_web_access": true}, {"type": "image_generation"}],
        "stream": true, "stream_options": {"include_obfuscation": false},
    });
    let reply = hall.respond(request(fields)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_its_place() {
    let (hall, _) = hall(&[&["ok"]]).await;
    let long: String = "x".repeat(513);
    let many: Value =
        (0..17).map(|n| (n.to_string(), json!(""))).collect::<serde_json::Map<_, _>>().into();
    let call = |name: &str| json!([{"role": "user", "content": "x"}, {"type": "function_call", "call_id": "a", "name": name, "arguments": "{}"}]);
    let named = |name: &str| json!([{"type": "web_search"}, {"type": "function", "name": name}]);
    for (fields, param) in [
        (json!({"model": null}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [{"type": "computer_call"}]}), "input[0].type"),
        (json!({"input": call("no spaces")}), "input[1].name"),
        (json!({"tools": named("no spaces")}), "tools[1].name"),
        (
            json!({"tools": named("f"), "tool_choice": {"type": "function", "name": "g"}}),
            "tool_choice",
        ),
        (json!({"tools": [{"type": "web_search"}], "tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [{"type": "mcp"}]}), "tools[0].type"),
        (json!({"instructions": 7}), "instructions"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"include": ["message.output_text.sound"]}), "include[0]"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"top_logprobs": "all"}), "top_logprobs"),
        (json!({"background": true, "store": false}), "background"),
        (json!({"stream_options": {}}), "stream_options"),
        (json!({"metadata": {"a": long}}), "metadata"),
        (json!({"metadata": many}), "metadata"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (json!({"reasoning": {"summary": "long"}}), "reasoning.summary"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "text.format.schema"),
        (json!({"text": {"verbosity": "shy"}}), "text.verbosity"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"color": 1}), "color"),
    ] {
        let reply = hall.respond(request(fields.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {}", reply.text());
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}
