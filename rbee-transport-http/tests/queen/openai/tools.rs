//! Tool calls and reasoning: what the model is given, and the parts of what it answers.

use std::sync::{Arc, Mutex};

use http::StatusCode;
use rbee_core::{
    Finish, Job, Message, Output, OutputStream, Queen, Result, Role, Run, Usage, Worker,
    WorkerInfo,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    async_trait,
    request::{Chat, Grammar, Prompt, Task, Tool, ToolCall, ToolChoice},
    worker::WorkerHealth,
};
use serde_json::{Value, json};

use crate::common::{self, Hall};

/// A model that always gives these tokens.
#[derive(Debug)]
pub(super) struct Reciter {
    info: Arc<WorkerInfo>,
    tokens: Vec<&'static str>,
    finish: Finish,
    asked: Mutex<Option<Arc<Job>>>,
}

impl Reciter {
    /// The grammar of the last run.
    pub(super) fn asked_grammar(&self) -> Option<Grammar> {
        let job = self.asked.lock().unwrap().take().unwrap();
        let Task::Generate { sampling, .. } = &job.task else { panic!("text") };
        sampling.grammar.clone()
    }
}

#[async_trait]
impl Worker for Reciter {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        *self.asked.lock().unwrap() = Some(run.job);
        let token = |text: &&str| Output::Token { id: None, text: (*text).into(), logprobs: None };
        let usage = Usage { completion_tokens: self.tokens.len() as u32, ..Usage::default() };
        let end = Output::End { finish: self.finish, usage, stop_text: None };
        let outputs: Vec<_> = self.tokens.iter().map(token).chain([end]).map(Ok).collect();
        Ok(Box::pin(futures_util::stream::iter(outputs)))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

const FORMAT: AnswerFormat = AnswerFormat {
    tools: Some(ToolFormat::Hermes),
    reasoning: Some(ReasoningFormat::Think),
    calls_alone: false,
};

pub(super) async fn hall(tokens: &[&'static str], finish: Finish) -> (Hall, Arc<Reciter>) {
    let mut info = WorkerInfo::new("reciter".parse().unwrap(), "test");
    info.capabilities.answer = FORMAT;
    info.capabilities.grammar = true;
    let worker = Arc::new(Reciter {
        info: Arc::new(info),
        tokens: tokens.to_vec(),
        finish,
        asked: Mutex::default(),
    });
    let queen = Queen::builder().worker(worker.clone());
    let hall = Hall::of(common::echo(), queen, |server| server).await;
    (hall, worker)
}

pub(super) fn request(fields: Value) -> Value {
    let weather = json!({"type": "function", "function": {
        "name": "weather", "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    }});
    let body = json!({
        "model": "reciter", "messages": [{"role": "user", "content": "Rain?"}], "tools": [weather],
    });
    common::over(body, fields)
}

const ANSWER: [&str; 7] = [
    "<think>Hm",
    ".</think>",
    "Let me look.",
    "<tool_",
    "call>{\"name\": \"weather\", \"arguments\": {\"where\":",
    " \"Bern\"}}</tool_call>",
    "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>",
];

#[tokio::test]
async fn an_answer_has_its_content_its_reasoning_and_its_calls() {
    let (hall, _) = hall(&ANSWER, Finish::Stop).await;
    let reply = hall.post("/v1/chat/completions", request(json!({}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let choice = reply.json()["choices"][0].clone();
    let job = reply.header("x-rbee-job-id").unwrap().replace('-', "");
    let call = |index: u32, arguments: &str| json!({"id": format!("call_{job}_{index}"), "type": "function", "function": {"name": "weather", "arguments": arguments}});
    assert_eq!(
        choice["message"],
        json!({
            "role": "assistant", "content": "Let me look.", "reasoning_content": "Hm.", "refusal": null,
            "tool_calls": [call(0, "{\"where\": \"Bern\"}"), call(1, "{}")],
        })
    );
    assert_eq!(choice["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_stream_has_the_same_parts_as_deltas() {
    let (hall, _) = hall(&ANSWER, Finish::Stop).await;
    let reply = hall.post("/v1/chat/completions", request(json!({"stream": true}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let (mut content, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    let chunks = reply.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    for chunk in &chunks {
        let delta = &chunk["choices"][0]["delta"];
        content += delta["content"].as_str().unwrap_or_default();
        reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            let function = &part["function"];
            if index == calls.len() {
                assert!(part["id"].as_str().unwrap().starts_with("call_"), "{part}");
                assert_eq!(
                    (&part["type"], &function["name"]),
                    (&json!("function"), &json!("weather"))
                );
                calls.push(String::new());
            }
            calls[index] += function["arguments"].as_str().unwrap();
        }
    }
    assert_eq!((&*content, &*reasoning), ("Let me look.", "Hm."));
    assert_eq!(calls, ["{\"where\": \"Bern\"}", "{}"]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_off_stays_cut_off() {
    let tokens = ["<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    for stream in [false, true] {
        let (hall, _) = hall(&tokens, Finish::Length).await;
        let reply = hall.post("/v1/chat/completions", request(json!({"stream": stream}))).await;
        let (arguments, reason) = if stream {
            let chunks = reply.chunks();
            let parts = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]);
            let arguments = parts.filter_map(|part| part["function"]["arguments"].as_str());
            let last = chunks.last().unwrap()["choices"][0]["finish_reason"].clone();
            (arguments.collect::<String>(), last)
        } else {
            let choice = reply.json()["choices"][0].clone();
            let function = &choice["message"]["tool_calls"][0]["function"];
            (function["arguments"].as_str().unwrap().to_owned(), choice["finish_reason"].clone())
        };
        assert_eq!((&*arguments, reason), ("{\"where\": \"B", json!("length")));
    }
}

#[tokio::test]
async fn without_tools_and_if_none_may_be_called_markup_is_text() {
    let text = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    for fields in [json!({"tools": null}), json!({"tool_choice": "none"})] {
        let (hall, _) = hall(&[text], Finish::Stop).await;
        let reply = hall.post("/v1/chat/completions", request(fields)).await;
        let choice = reply.json()["choices"][0].clone();
        assert_eq!(choice["message"]["content"], text);
        assert_eq!(choice["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn the_worker_gets_tools_calls_and_results_as_they_were_sent() {
    let (hall, worker) = hall(&["ok"], Finish::Stop).await;
    let schema = r#"{"type": "object", "properties": {"z": {}, "a": {}}}"#;
    let call = r#"{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2}"}}"#;
    let body = format!(
        r#"{{"model": "reciter", "tool_choice": {{"type": "function", "function": {{"name": "f"}}}},
            "parallel_tool_calls": false,
            "tools": [{{"type": "function", "function": {{"name": "f", "strict": true, "parameters": {schema}}}}}],
            "messages": [{{"role": "user", "content": "Go"}},
                {{"role": "assistant", "content": null, "tool_calls": [{call}]}},
                {{"role": "tool", "tool_call_id": "c1", "content": [{{"type": "text", "text": "done"}}]}}]}}"#
    );
    let sent = http::Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap();
    let reply = hall.send(common::with_host(sent)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let job = worker.asked.lock().unwrap().take().unwrap();
    let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!("a chat") };
    let call =
        ToolCall { id: "c1".into(), name: "f".into(), arguments: r#"{"z": 1, "a": 2}"#.into() };
    assert_eq!(
        *chat,
        Chat {
            messages: vec![
                Message::new(Role::User, "Go"),
                Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
                Message::tool_result("c1", "done"),
            ],
            tools: vec![Tool {
                name: "f".into(),
                description: None,
                parameters: Some(schema.into()),
            }],
            tool_choice: ToolChoice::Named("f".into()),
            parallel_tool_calls: false,
            thinking: None,
        }
    );
}

#[tokio::test]
async fn what_is_wrong_with_tools_is_refused_by_its_place() {
    let (hall, _) = hall(&["ok"], Finish::Stop).await;
    let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    let after = |message: Value| json!({"messages": [{"role": "user", "content": "Hi"}, message]});
    let called = |call: Value| after(json!({"role": "assistant", "tool_calls": [call]}));
    for (fields, param) in [
        (json!({"tools": 7}), "tools"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (function(json!({})), "tools[0].function.name"),
        (function(json!({"name": "a b"})), "tools[0].function.name"),
        (function(json!({"name": "f", "parameters": "x"})), "tools[0].function.parameters"),
        (function(json!({"name": "f", "color": 1})), "tools[0].function.color"),
        (json!({"tool_choice": "any"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function", "function": {"name": "x"}}}), "tool_choice"),
        (json!({"tool_choice": {"type": "custom"}}), "tool_choice.type"),
        (json!({"tools": [], "tool_choice": "required"}), "tool_choice"),
        (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
        (called(json!({"id": "a", "type": "function"})), "messages[1].tool_calls[0].function"),
        (
            called(
                json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}),
            ),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            called(
                json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "[]"}}),
            ),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            after(json!({"role": "tool", "tool_call_id": "a", "content": "x"})),
            "messages[1].tool_call_id",
        ),
        (after(json!({"role": "tool", "content": "x"})), "messages[1].tool_call_id"),
    ] {
        let reply = hall.post("/v1/chat/completions", request(fields.clone())).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}: {}", reply.text());
        let error = reply.json()["error"].clone();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
    }
}
