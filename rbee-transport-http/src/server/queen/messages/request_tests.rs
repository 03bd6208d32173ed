use rbee_core::{
    Message, Role,
    request::{Chat, Grammar, Sampling, ToolCall, ToolChoice},
};
use serde_json::{Value, json};

use super::*;

/// A request of Claude Code in its third turn, shortened.
const CLAUDE_CODE: &str = include_str!("requests/claude_code.json");

fn body(fields: Value) -> Value {
    let mut body = json!({
        "model": "bee", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}],
    });
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn read(body: &Value) -> Result<Ask> {
    Ask::read(&serde_json::to_vec(body).unwrap(), Purpose::Answer)
}

fn parts(ask: &Ask) -> (&Chat, &Sampling) {
    match ask.request.task() {
        Task::Generate { prompt: Prompt::Chat(chat), sampling } => (chat, sampling),
        _ => panic!("a chat"),
    }
}

fn messages(fields: Value) -> Vec<Message> {
    let ask = read(&body(fields)).unwrap_or_else(|error| panic!("{error}"));
    parts(&ask).0.messages.clone()
}

#[test]
fn a_request_of_claude_code_is_read() {
    let ask = Ask::read(CLAUDE_CODE.as_bytes(), Purpose::Answer)
        .unwrap_or_else(|error| panic!("{error}"));
    let (chat, sampling) = parts(&ask);
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let calls = vec![
        call("toolu_1", "Bash", r#"{"command": "echo bee > bee.txt", "description": "Write it"}"#),
        call("toolu_2", "Read", r#"{"file_path": "/tmp/bee.txt"}"#),
    ];
    let reminder = "<system-reminder>\nThe date is a Monday.\n</system-reminder>\n";
    assert_eq!(
        chat.messages,
        [
            // The block for the service is left out.
            Message::new(Role::System, "You are an agent.\n\nUse your tools."),
            Message::new(Role::User, format!("{reminder}\n\nWrite a file.")),
            Message::new(Role::System, "There are agents."),
            Message { tool_calls: calls, ..Message::new(Role::Assistant, "") },
            Message::tool_result("toolu_1", "(no output)"),
            Message::tool_result("toolu_2", "Error: no such file"),
        ]
    );
    assert_eq!(ask.tools.iter().map(CallableTool::name).collect::<Vec<_>>(), ["Bash", "Read"]);
    assert_eq!((chat.thinking, sampling.max_tokens), (Some(true), Some(32_000)));
    assert!(ask.is_streamed && ask.shows_thinking && sampling.grammar.is_none());
}

#[test]
fn turns_of_one_role_become_one_message() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let turns = json!([
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b"), text("c")]},
        {"role": "assistant", "content": [text("d"), text("e")]},
        {"role": "assistant", "content": [
            {"type": "redacted_thinking", "data": "x"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            text("f"), {"type": "tool_result", "tool_use_id": "1"}, text("g"),
        ]},
    ]);
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
    assert_eq!(
        messages(json!({"messages": turns})),
        [
            Message::new(Role::User, "a\n\nb\n\nc"),
            Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "de") },
            Message::new(Role::User, "f"),
            Message::tool_result("1", ""),
            Message::new(Role::User, "g"),
        ]
    );
}

#[test]
fn options_are_honored() {
    let tool = json!({"type": "custom", "name": "f", "input_schema": {"type": "object"}});
    let ask = read(&body(json!({
        "tools": [tool], "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "temperature": 0.5, "top_p": 0.25, "top_k": 3.0, "stop_sequences": ["x"],
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    })))
    .unwrap();
    let (chat, sampling) = parts(&ask);
    assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
    assert_eq!((chat.parallel_tool_calls, chat.thinking), (false, Some(true)));
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.5, 0.25, 3));
    assert_eq!((&*sampling.stop, ask.shows_thinking), (&["x".to_owned()][..], false));
    for (choice, expected) in
        [("auto", ToolChoice::Auto), ("any", ToolChoice::Required), ("none", ToolChoice::None)]
    {
        let ask = read(&body(json!({"tools": [tool], "tool_choice": {"type": choice}}))).unwrap();
        let chat = parts(&ask).0;
        assert_eq!((&chat.tool_choice, chat.parallel_tool_calls), (&expected, true));
        assert_eq!(ask.tools.is_empty(), choice == "none");
    }
    let off = read(&body(json!({"thinking": {"type": "disabled"}}))).unwrap();
    assert_eq!(parts(&off).0.thinking, Some(false));
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for fields in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
        let ask = read(&body(fields)).unwrap();
        let expected = Grammar::JsonSchema(r#"{"type":"object"}"#.into());
        assert_eq!(parts(&ask).1.grammar, Some(expected));
    }
}

#[test]
fn only_a_count_needs_no_length_and_may_end_with_an_answer() {
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    for (fields, param) in [
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"messages": turns}), "messages[1].role"),
    ] {
        let body = body(fields);
        assert_eq!(read(&body).err().unwrap().param(), Some(param));
        assert!(Ask::read(&serde_json::to_vec(&body).unwrap(), Purpose::Count).is_ok());
    }
}

#[test]
fn what_cannot_be_honored_is_refused_by_its_place() {
    let turns = |turns: Value| json!({"messages": turns});
    let said = |role: &str, content: Value| turns(json!([{"role": role, "content": content}]));
    let image = json!({"type": "image", "source": {"type": "url", "url": "x"}});
    let tool = |tool: Value| json!({"tools": [tool]});
    let called = |call: Value| {
        turns(json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}, call]},
            {"role": "user", "content": "c"},
        ]))
    };
    for (fields, param) in [
        (json!({"model": null}), "model"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_k": -1}), "top_k"),
        (json!({"stop_sequences": ["a", "b", "c", "d", "e"]}), "stop_sequences"),
        (json!({"stream": 1}), "stream"),
        (json!({"color": 1}), "color"),
        (json!({"mcp_servers": [{}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
        (json!({"system": 7}), "system"),
        (json!({"system": [image]}), "system[0].type"),
        (turns(json!([])), "messages"),
        (turns(json!([{"role": "tool", "content": "x"}])), "messages[0].role"),
        (turns(json!([{"role": "user"}])), "messages[0].content"),
        (turns(json!([{"role": "user", "content": "x", "name": "y"}])), "messages[0].name"),
        (said("user", json!([image])), "messages[0].content[0].type"),
        (said("user", json!([{"type": "text"}])), "messages[0].content[0].text"),
        (said("user", json!([{"type": "document"}])), "messages[0].content[0].type"),
        (said("user", json!([{"type": "tool_use"}])), "messages[0].content[0].type"),
        (
            said("user", json!([{"type": "tool_result", "tool_use_id": "1", "content": [image]}])),
            "messages[0].content[0].content[0].type",
        ),
        (
            said("user", json!([{"type": "tool_result", "tool_use_id": "no"}])),
            "messages[0].content[0].tool_use_id",
        ),
        (
            called(json!({"type": "tool_use", "id": "1", "name": "f", "input": "x"})),
            "messages[1].content[1].input",
        ),
        (
            called(json!({"type": "tool_use", "id": "1", "name": "a b", "input": {}})),
            "messages[1].content[1].name",
        ),
        (called(json!({"type": "server_tool_use"})), "messages[1].content[1].type"),
        (tool(json!({"type": "web_search_20250305", "name": "web_search"})), "tools[0].type"),
        (tool(json!({"name": "f"})), "tools[0].input_schema"),
        (tool(json!({"name": "f", "input_schema": []})), "tools[0].input_schema"),
        (tool(json!({"name": "a b", "input_schema": {}})), "tools[0].name"),
        (
            tool(json!({"name": "f", "input_schema": {}, "defer_loading": true})),
            "tools[0].defer_loading",
        ),
        (
            tool(
                json!({"name": "f", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}),
            ),
            "tools[0].allowed_callers",
        ),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"tool_choice": {"type": "required"}}), "tool_choice.type"),
        (json!({"tool_choice": {"type": "tool", "name": "x"}}), "tool_choice"),
        (json!({"thinking": {"type": "between_tools"}}), "thinking.type"),
        (json!({"thinking": {"type": "adaptive", "display": "x"}}), "thinking.display"),
        (json!({"output_config": {"effort": "none"}}), "output_config.effort"),
        (json!({"output_config": {"task_budget": {}}}), "output_config.task_budget"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type"),
        (
            json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
            "context_management.edits[0].type",
        ),
    ] {
        let error = read(&body(fields.clone())).err().unwrap_or_else(|| panic!("{fields}"));
        assert_eq!(error.param(), Some(param), "{fields}: {error}");
        let is_about = error.message().contains(param);
        assert!(is_about, "{param}: {error}");
    }
}
