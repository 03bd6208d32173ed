//! The first request of the Codex CLI, shortened.

use serde_json::Value;

use super::{events, hall};
use http::StatusCode;

#[tokio::test]
async fn the_first_request_of_codex_is_answered() {
    let call =
        "<tool_call>{\"name\": \"exec_command\", \"arguments\": {\"cmd\": \"ls\"}}</tool_call>";
    let (hall, worker) = hall(&[&[call]]).await;
    let mut request: Value = serde_json::from_str(include_str!("codex.json")).unwrap();
    request["model"] = "script".into();
    let reply = hall.respond(request).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let events = events(&reply);
    let done = events.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"]["name"], "exec_command");
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert_eq!(events.last().unwrap()["response"]["store"], false);
    let chat = worker.chat(0);
    let names: Vec<&str> = chat.tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["exec_command", "multi_agent_v1__close_agent"]);
    let roles: Vec<&str> = chat.messages.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "user"]);
}
