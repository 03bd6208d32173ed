//! Tool calls: what the model is given, and what it answers.

use http::StatusCode;
use rbee_core::{
    Finish, Message, Role,
    request::{Chat, Prompt, Task, Tool, ToolCall, ToolChoice},
};
use serde_json::json;

use super::{hall, request};
use rbee_transport_http::wire::messages::MESSAGES;

pub(super) const ANSWER: [&str; 7] = [
    "<think>Hm",
    ".</think>",
    "Let me look.",
    "<tool_",
    "call>{\"name\": \"weather\", \"arguments\": {\"where\":",
    " \"Bern\"}}</tool_call>",
    "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>",
];

#[tokio::test]
async fn the_worker_gets_tools_calls_and_results_as_they_were_sent() {
    let (hall, actor) = hall(&["ok"], Finish::Stop).await;
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let reply = hall
        .post(
            MESSAGES,
            request(json!({
                "system": "Be brief.",
                "tools": [{"name": "f", "input_schema": schema}],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
                "thinking": {"type": "disabled"},
                "messages": [
                    {"role": "user", "content": "Go"},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_9", "name": "f", "input": {"z": 1}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "done"}]},
                ],
            })),
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let job = actor.asked.lock().unwrap().take().unwrap();
    let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!("a chat") };
    let call = ToolCall { id: "toolu_9".into(), name: "f".into(), arguments: "{\"z\":1}".into() };
    let parameters = Some(schema.to_string());
    assert_eq!(
        *chat,
        Chat {
            messages: vec![
                Message::new(Role::System, "Be brief."),
                Message::new(Role::User, "Go"),
                Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
                Message::tool_result("toolu_9", "done"),
            ],
            tools: vec![Tool { name: "f".into(), description: None, parameters }],
            tool_choice: ToolChoice::Required,
            parallel_tool_calls: false,
            thinking: Some(false),
        }
    );
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_off_is_no_call_of_a_whole_answer() {
    let tokens = ["One.", "<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    let (hall, _) = hall(&tokens, Finish::Length).await;
    let json = hall.message(json!({})).await.json();
    assert_eq!(json["content"], json!([{"type": "text", "text": "One."}]));
    assert_eq!(json["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn a_malformed_call_is_no_end_by_calls() {
    let whole = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let broken = "<tool_call>{\"name\": \"weather\", \"arguments\": {]}</tool_call>";
    let (hall, _) = hall(&[whole, broken], Finish::Stop).await;
    let json = hall.message(json!({})).await.json();
    let types: Vec<&str> =
        json["content"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|kind| **kind == "tool_use").count(), 1, "{json}");
    assert_eq!(json["stop_reason"], "end_turn");
}

#[tokio::test]
async fn without_tools_markup_is_text() {
    let text = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    for fields in [json!({"tools": null}), json!({"tool_choice": {"type": "none"}})] {
        let (hall, _) = hall(&[text], Finish::Stop).await;
        let json = hall.message(fields).await.json();
        assert_eq!(json["content"], json!([{"type": "text", "text": text}]));
        assert_eq!(json["stop_reason"], "end_turn");
    }
}

#[tokio::test]
async fn a_call_whose_arguments_are_no_json_is_no_call_of_a_whole_answer() {
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": NaN}}</tool_call>";
    let (hall, _) = hall(&["One.", call], Finish::Stop).await;
    let json = hall.message(json!({})).await.json();
    assert_eq!(json["content"], json!([{"type": "text", "text": "One."}]));
    assert_eq!(json["stop_reason"], "end_turn");
}
