//! What workers get, what is accepted, and what is refused by its place.

use http::StatusCode;
use rbee_core::{
    Finish, Message, Role,
    request::{Chat, Grammar, Prompt, Sampling, Tool, ToolCall},
};
use serde_json::{Value, json};

use super::{ask, error, scripted};
use crate::common;

fn chat(fields: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    common::over(json!({"model": "script", "messages": messages, "stream": false}), fields)
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn called(calls: Vec<ToolCall>) -> Message {
    Message { tool_calls: calls, ..Message::new(Role::Assistant, "") }
}

#[tokio::test]
async fn the_worker_gets_the_options() {
    let (hall, worker) = scripted::hall(&["ok"], Finish::Stop).await;
    let options = json!({
        "num_predict": 12, "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "seed": 42,
        "stop": ["a", "b"], "repeat_penalty": 1.5, "repeat_last_n": -1, "presence_penalty": 0.25,
        "frequency_penalty": 0.75, "num_ctx": 2048,
    });
    let fields = json!({"options": options, "format": "json", "think": "high"});
    ask(&hall, "/api/chat", chat(fields)).await;
    assert_eq!(worker.asked_seed(), 42);
    let (Prompt::Chat(prompt), sampling) = worker.asked() else { panic!("a chat") };
    assert_eq!(prompt.thinking, Some(true));
    assert_eq!(
        sampling,
        Sampling {
            max_tokens: Some(12),
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            stop: vec!["a".into(), "b".into()],
            repetition_penalty: 1.5,
            presence_penalty: 0.25,
            frequency_penalty: 0.75,
            grammar: Some(Grammar::JsonObject),
            ..Sampling::default()
        }
    );
    for length in [json!(-1), json!(-2), Value::Null] {
        let options = json!({"num_predict": length, "stop": "x", "top_k": -1, "seed": -1});
        ask(&hall, "/api/chat", chat(json!({"options": options, "think": false}))).await;
        let (Prompt::Chat(prompt), sampling) = worker.asked() else { panic!("a chat") };
        assert_eq!(prompt.thinking, Some(false));
        assert_eq!(sampling, Sampling { stop: vec!["x".into()], ..Sampling::default() });
    }
    let schema = r#"{"type": "object", "properties": {"b": {}, "a": {}}}"#;
    let body = format!(
        r#"{{"model": "script", "prompt": "Hi", "system": "Be brief.", "format": {schema}, "stream": false}}"#
    );
    let request = http::Request::post("/api/generate").header("content-type", "application/json");
    let reply = hall.send(request.body(body.into()).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let (prompt, sampling) = worker.asked();
    assert_eq!(sampling.grammar, Some(Grammar::JsonSchema(schema.into())));
    let messages = vec![Message::new(Role::System, "Be brief."), Message::new(Role::User, "Hi")];
    assert_eq!(prompt, Prompt::Chat(messages.into()));
    let raw = json!({"model": "script", "prompt": "Hi", "raw": true, "stream": false});
    ask(&hall, "/api/generate", raw).await;
    assert_eq!(worker.asked().0, Prompt::Text("Hi".into()));
}

#[tokio::test]
async fn results_belong_to_the_calls_of_their_names_or_else_in_order() {
    let (hall, worker) = scripted::hall(&["ok"], Finish::Stop).await;
    let function =
        |name: &str, arguments: Value| json!({"function": {"name": name, "arguments": arguments}});
    let messages = json!([
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
            function("f", json!({"z": 1, "a": 2})), function("g", json!({})), function("f", json!({})),
        ]},
        {"role": "tool", "content": "of g", "tool_name": "g"},
        {"role": "tool", "content": "of the first f"},
        {"role": "TOOL", "content": "of the second f", "tool_name": "f"},
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {}}}, function("h", json!({}))]},
        {"role": "tool", "content": "of h"},
        {"role": "tool", "content": "of x", "tool_call_id": "x"},
    ]);
    let mut messages = messages;
    // The ids go first: without one, a result is of the first call.
    messages.as_array_mut().unwrap().swap(6, 7);
    ask(&hall, "/api/chat", chat(json!({"messages": messages}))).await;
    let result = |id: &str, text: &str, name: Option<&str>| Message {
        name: name.map(ToOwned::to_owned),
        ..Message::tool_result(id, text)
    };
    assert_eq!(
        worker.asked_chat().messages,
        [
            Message::new(Role::User, "Go"),
            called(vec![
                call("call_1_0", "f", r#"{"z":1,"a":2}"#),
                call("call_1_1", "g", "{}"),
                call("call_1_2", "f", "{}"),
            ]),
            result("call_1_1", "of g", Some("g")),
            result("call_1_0", "of the first f", None),
            result("call_1_2", "of the second f", Some("f")),
            called(vec![call("x", "f", "{}"), call("call_5_1", "h", "{}")]),
            result("x", "of x", None),
            result("call_5_1", "of h", None),
        ]
    );
}

#[tokio::test]
async fn a_result_whose_call_was_cut_from_the_history_gets_one() {
    let (hall, worker) = scripted::hall(&["ok"], Finish::Stop).await;
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "tool", "content": "12"},
        {"role": "tool", "content": "13", "tool_name": "g", "tool_call_id": "y"},
        {"role": "user", "content": "Go"},
    ]);
    ask(&hall, "/api/chat", chat(json!({"messages": messages}))).await;
    let named = Message { name: Some("g".into()), ..Message::tool_result("call_2_0", "13") };
    assert_eq!(
        worker.asked_chat().messages,
        [
            Message::new(Role::System, "Be brief."),
            called(vec![call("call_1_0", "tool", "{}")]),
            Message::tool_result("call_1_0", "12"),
            called(vec![call("call_2_0", "g", "{}")]),
            named,
            Message::new(Role::User, "Go"),
        ]
    );
}

/// As Home Assistant's conversation agent sends it: no ids, no names of results, a fixed context.
#[tokio::test]
async fn the_requests_of_home_assistant_are_answered() {
    let (hall, worker) = scripted::hall(&["It is on."], Finish::Stop).await;
    let tool = json!({"type": "function", "function": {
        "name": "HassTurnOn", "description": "Turns on a device.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": []},
    }});
    let body = json!({
        "model": "script:latest", "stream": true, "tools": [tool], "think": false, "keep_alive": -1,
        "options": {"num_ctx": 8192},
        "messages": [
            {"role": "system", "content": "You are a voice assistant."},
            {"role": "user", "content": "Turn on the lamp."},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "HassTurnOn", "arguments": {"name": "lamp"}}},
            ]},
            {"role": "tool", "content": "{\"data\": {}, \"error\": null}"},
        ],
    });
    let objects = super::lines(&ask(&hall, "/api/chat", body).await);
    assert_eq!(objects[0]["message"]["content"], "It is on.");
    let Chat { messages, tools, thinking, .. } = worker.asked_chat();
    assert_eq!((messages.len(), thinking), (4, Some(false)));
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("call_2_0"));
    let parameters = r#"{"type":"object","properties":{"name":{"type":"string"}},"required":[]}"#;
    assert_eq!(tools, [Tool::new("HassTurnOn", "Turns on a device.", parameters)]);
}

/// As Open WebUI's proxy sends it: options of its settings, and the longest answer beside them.
#[tokio::test]
async fn the_requests_of_open_webui_are_answered() {
    let (hall, worker) = scripted::hall(&["Hello"], Finish::Stop).await;
    let options = json!({
        "temperature": 0.7, "num_ctx": 4096, "num_batch": 512, "num_keep": 24, "num_thread": 8, "num_gpu": 99,
        "use_mmap": true, "use_mlock": false, "mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5.0, "tfs_z": 1,
        "repeat_last_n": 64,
    });
    let body =
        chat(json!({"options": options, "keep_alive": "5m", "stream": true, "num_predict": 77}));
    ask(&hall, "/api/chat", body).await;
    let (_, sampling) = worker.asked();
    assert_eq!((sampling.temperature, sampling.max_tokens), (0.7, Some(77)));
    // It looks for models by their names with tags.
    let listed = hall.get("/api/tags").await.json();
    let names: Vec<_> = listed["models"].as_array().unwrap().iter().map(|m| &m["model"]).collect();
    assert_eq!(names, ["bee:latest", "script:latest"]);
    for path in ["/api/version", "/api/ps"] {
        assert_eq!(hall.get(path).await.status, StatusCode::OK, "{path}");
    }
}

/// As the command line of Ollama sends it: every field, also the empty ones.
#[tokio::test]
async fn fields_that_ask_for_nothing_are_accepted() {
    let (hall, worker) = scripted::hall(&["ok"], Finish::Stop).await;
    let body = json!({
        "model": "script", "prompt": "Hi", "suffix": "", "system": "", "template": "", "context": [],
        "raw": false, "images": [], "options": {}, "stream": false, "format": "", "think": null,
        "truncate": true, "shift": true, "width": null,
    });
    ask(&hall, "/api/generate", body).await;
    assert_eq!(worker.asked_chat(), vec![Message::new(Role::User, "Hi")].into());
    let fields = json!({"options": null, "format": null, "tools": [], "truncate": false});
    ask(&hall, "/api/chat", chat(fields)).await;
}

#[tokio::test]
async fn a_suffix_is_the_text_after_a_gap_for_a_model_that_can_fill_it() {
    let (hall, worker) = scripted::hall(&["return"], Finish::Stop).await;
    for prompt in ["fn f() {", ""] {
        let body = json!({
            "model": "script", "prompt": prompt, "suffix": " 1 }", "stream": false, "raw": false,
            "system": "", "think": false, "options": {"num_predict": 9},
        });
        let answer = ask(&hall, "/api/generate", body).await.json();
        assert_eq!(
            (&answer["response"], &answer["done_reason"]),
            (&json!("return"), &json!("stop"))
        );
        let (asked, sampling) = worker.asked();
        assert_eq!(asked, Prompt::Infill { prefix: prompt.into(), suffix: " 1 }".into() });
        assert_eq!(sampling.max_tokens, Some(9));
    }
    for model in ["script", "script:latest"] {
        let shown = ask(&hall, "/api/show", json!({"model": model})).await.json();
        assert!(shown["capabilities"].as_array().unwrap().contains(&json!("insert")), "{shown}");
    }
    let listed = hall.get("/api/tags").await.json();
    let can = |name: &str| {
        let mut models = listed["models"].as_array().unwrap().iter();
        let model = models.find(|model| model["name"] == name).unwrap();
        model["capabilities"].as_array().unwrap().contains(&json!("insert"))
    };
    assert!(can("script:latest") && !can("bee:latest"), "{listed}");
    let body = json!({"model": "echo", "prompt": "a", "suffix": "b"});
    let reply = hall.post("/api/generate", body).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(error(&reply).starts_with("suffix is not supported by model echo"), "{}", reply.text());
}

#[tokio::test]
async fn what_would_change_an_answer_and_is_not_supported_is_refused_by_its_place() {
    let (hall, _) = scripted::hall(&["ok"], Finish::Stop).await;
    let options = |options: Value| json!({"options": options});
    let message = |message: Value| json!({"messages": [message]});
    let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    for (fields, place) in [
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"color": 1}), "color"),
        (json!({"keep_alive": "soon"}), "keep_alive"),
        (json!({"think": "much"}), "think"),
        (json!({"format": "yaml"}), "format"),
        (json!({"template": "{{ .Prompt }}"}), "template"),
        (json!({"system": "Be brief."}), "system"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"options": []}), "options"),
        (options(json!({"num_predict": 0})), "options.num_predict"),
        (options(json!({"num_ctx": 0})), "options.num_ctx"),
        (options(json!({"temperature": "hot"})), "options.temperature"),
        (options(json!({"top_k": -2})), "options.top_k"),
        (options(json!({"seed": 1.5})), "options.seed"),
        (options(json!({"stop": 7})), "options.stop"),
        (options(json!({"mirostat": 2})), "options.mirostat"),
        (options(json!({"typical_p": 0.5})), "options.typical_p"),
        (options(json!({"repeat_penalty": 1.1, "repeat_last_n": 64})), "options.repeat_last_n"),
        (options(json!({"color": 1})), "options.color"),
        (message(json!({"content": "x"})), "messages[0].role"),
        (message(json!({"role": "robot", "content": "x"})), "messages[0].role"),
        (message(json!({"role": "user"})), "messages[0].content"),
        (
            message(json!({"role": "user", "content": "x", "tool_name": "f"})),
            "messages[0].tool_name",
        ),
        (
            message(json!({"role": "user", "content": "x", "tool_call_id": "y"})),
            "messages[0].tool_call_id",
        ),
        (message(json!({"role": "user", "content": ["x"]})), "messages[0].content"),
        (
            message(json!({"role": "user", "content": "x", "images": ["aGk="]})),
            "messages[0].images",
        ),
        (
            message(
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}),
            ),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            message(json!({"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]})),
            "messages[0].tool_calls[0].function.name",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].function"),
        (json!({"tools": [{"type": "web_search", "function": {"name": "f"}}]}), "tools[0].type"),
        (function(json!({"name": "f", "color": 1})), "tools[0].function.color"),
    ] {
        let reply = hall.post("/api/chat", chat(fields.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {}", reply.text());
        assert!(error(&reply).contains(place), "{fields}: {}", reply.text());
    }
    let prompt = |fields: Value| common::over(json!({"model": "script", "prompt": "Hi"}), fields);
    for (fields, place) in [
        (json!({"prompt": ["a"]}), "prompt"),
        (json!({"suffix": 7}), "suffix"),
        (json!({"suffix": "end", "raw": true}), "suffix"),
        (json!({"suffix": "end", "system": "Be brief."}), "system"),
        (json!({"suffix": "end", "think": true}), "think"),
        (json!({"context": [1, 2]}), "context"),
        (json!({"images": ["aGk="]}), "images"),
        (json!({"raw": true, "system": "Be brief."}), "system"),
        (json!({"raw": true, "think": true}), "think"),
        (json!({"width": 512}), "width"),
        (json!({"messages": []}), "messages"),
    ] {
        let reply = hall.post("/api/generate", prompt(fields.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {}", reply.text());
        assert!(error(&reply).contains(place), "{fields}: {}", reply.text());
    }
    for (path, fields, place) in [
        ("/api/embed", json!({"input": [1, 2]}), "input"),
        ("/api/embed", json!({"input": "x", "dimensions": "y"}), "dimensions"),
        ("/api/embed", json!({"input": "x", "prompt": "y"}), "prompt"),
        ("/api/embeddings", json!({"prompt": ["x"]}), "prompt"),
        ("/api/embeddings", json!({"prompt": "x", "dimensions": 3}), "dimensions"),
    ] {
        let body = common::over(json!({"model": "script"}), fields.clone());
        let reply = hall.post(path, body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {}", reply.text());
        assert!(error(&reply).contains(place), "{fields}: {}", reply.text());
    }
}
