//! OpenAI's Responses API, as a client sees it.

mod codex;
mod input;
mod logprobs;
mod stored;
mod stream;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use http::StatusCode;
use rbee_core::{
    Error, ErrorKind, Finish, Job, Output, OutputStream, Queen, QueenBuilder, Result, Run, Usage,
    Worker, WorkerInfo,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    async_trait,
    event::{Logprobs, TokenLogprob},
    request::{Chat, Prompt, Task},
    worker::WorkerHealth,
};
use rbee_transport_http::wire::responses::Response;
use serde_json::{Value, json};

use crate::common::{self, Hall, Reply};

/// A model that gives these answers, one after the other, and then the last one again and again.
#[derive(Debug)]
pub(super) struct Scripted {
    info: Arc<WorkerInfo>,
    answers: Mutex<VecDeque<(Vec<&'static str>, Finish)>>,
    pub(super) asked: Mutex<Vec<Arc<Job>>>,
}

impl Scripted {
    pub(super) fn new(answers: &[(&[&'static str], Finish)]) -> Arc<Self> {
        let mut info = WorkerInfo::new("script".parse().unwrap(), "test");
        info.capabilities.answer = AnswerFormat {
            tools: Some(ToolFormat::Hermes),
            reasoning: Some(ReasoningFormat::Think),
            calls_alone: false,
        };
        info.capabilities.grammar = true;
        info.capabilities.logprobs = true;
        let answers = answers.iter().map(|(tokens, finish)| (tokens.to_vec(), *finish));
        Arc::new(Self {
            info: Arc::new(info),
            answers: Mutex::new(answers.collect()),
            asked: Mutex::default(),
        })
    }

    /// The conversation of the run with this number.
    pub(super) fn chat(&self, run: usize) -> Chat {
        let job = self.asked.lock().unwrap()[run].clone();
        let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!("a chat") };
        chat.clone()
    }
}

#[async_trait]
impl Worker for Scripted {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let Task::Generate { sampling, .. } = &run.job.task else { panic!("a chat") };
        let top = sampling.logprobs;
        self.asked.lock().unwrap().push(run.job.clone());
        let mut answers = self.answers.lock().unwrap();
        let (tokens, finish) = match answers.len() {
            0 | 1 => answers.front().unwrap().clone(),
            _ => answers.pop_front().unwrap(),
        };
        if tokens == ["!"] {
            return Err(Error::for_client(ErrorKind::ContextExceeded, "the prompt is too long"));
        }
        let logprob =
            |text: &str| TokenLogprob { id: None, text: text.into(), bytes: None, logprob: -0.5 };
        let logprobs = |text: &str| {
            let all = (0..top?).map(|at| logprob(["x", "y"][usize::from(at) % 2])).collect();
            Some(Box::new(Logprobs { chosen: logprob(text), top: all }))
        };
        let token = |text: &&str| {
            Ok(Output::Token { id: None, text: (*text).into(), logprobs: logprobs(text) })
        };
        let usage = Usage {
            prompt_tokens: 10,
            completion_tokens: tokens.len() as u32,
            cached_tokens: Some(6),
        };
        let end = Ok(Output::End { finish, usage, stop_text: None });
        let outputs: Vec<_> = tokens.iter().map(token).chain([end]).collect();
        Ok(Box::pin(futures_util::stream::iter(outputs)))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

pub(super) async fn hall_of(
    builder: QueenBuilder,
    answers: &[(&[&'static str], Finish)],
) -> (Hall, Arc<Scripted>) {
    let worker = Scripted::new(answers);
    let queen = builder.worker(worker.clone());
    (Hall::of(common::echo(), queen, |server| server).await, worker)
}

/// A queen whose model gives these answers, each of which ends by itself.
pub(super) async fn hall(answers: &[&[&'static str]]) -> (Hall, Arc<Scripted>) {
    let answers: Vec<_> = answers.iter().map(|tokens| (*tokens, Finish::Stop)).collect();
    hall_of(Queen::builder(), &answers).await
}

pub(super) fn request(fields: Value) -> Value {
    common::over(json!({"model": "script", "input": "Rain?"}), fields)
}

/// A request with tools: a function, a custom tool, and one in a namespace.
pub(super) fn with_tools(fields: Value) -> Value {
    let weather = json!({
        "type": "function", "name": "weather", "description": "Tells the weather.", "strict": true,
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    });
    let patch = json!({"type": "custom", "name": "patch", "description": "Changes files."});
    let agent = json!({"type": "namespace", "name": "agents", "description": "Agents.", "tools": [
        {"type": "function", "name": "ask", "parameters": {"type": "object"}},
    ]});
    common::over(request(json!({"tools": [weather, patch, agent]})), fields)
}

impl Hall {
    pub(super) async fn respond(&self, body: Value) -> Reply {
        self.post("/v1/responses", body).await
    }

    /// A response that must succeed.
    pub(super) async fn response(&self, body: Value) -> Value {
        let reply = self.respond(body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }
}

/// The data of all events.
pub(super) fn events(reply: &Reply) -> Vec<Value> {
    let events = reply.events();
    let data = events.iter().map(|event| {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        assert_eq!(data["type"], *event.name, "the name of an event is its type");
        data
    });
    data.collect()
}

pub(super) const ANSWER: [&str; 9] = [
    "<think>Hm",
    ".</think>",
    "Let me look.",
    "<tool_",
    "call>{\"name\": \"weather\", \"arguments\": {\"where\":",
    " \"Bern\"}}</tool_call>",
    "<tool_call>{\"name\": \"patch\", \"arguments\": {\"input\": \"+ \\\"1\\\"\"}}",
    "</tool_call>",
    "<tool_call>{\"name\": \"agents__ask\", \"arguments\": {}}</tool_call>",
];

/// The items of that answer.
pub(super) fn items_of_answer(id: &str) -> Value {
    let job = id.strip_prefix("resp_").unwrap();
    json!([
        {"type": "reasoning", "id": format!("rs_{job}_0"), "status": "completed", "summary": [],
         "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "id": format!("msg_{job}_1"), "status": "completed", "role": "assistant",
         "content": [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": format!("fc_{job}_2"), "status": "completed",
         "call_id": format!("call_{job}_0"), "name": "weather", "arguments": "{\"where\": \"Bern\"}"},
        {"type": "custom_tool_call", "id": format!("ctc_{job}_3"), "status": "completed",
         "call_id": format!("call_{job}_1"), "name": "patch", "input": "+ \"1\""},
        {"type": "function_call", "id": format!("fc_{job}_4"), "status": "completed",
         "call_id": format!("call_{job}_2"), "name": "ask", "namespace": "agents", "arguments": "{}"},
    ])
}

#[tokio::test]
async fn a_response_has_reasoning_text_and_calls_as_items() {
    let (hall, _) = hall(&[&ANSWER]).await;
    let reply = hall.respond(with_tools(json!({"metadata": {"a": "b"}}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let response = reply.json();
    let id = response["id"].as_str().unwrap();
    let job = reply.header("x-rbee-job-id").unwrap().replace('-', "");
    assert_eq!(id, format!("resp_{job}"));
    assert_eq!(response["output"], items_of_answer(id));
    assert_eq!(
        response["usage"],
        json!({
            "input_tokens": 10, "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19,
        })
    );
    for (field, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("script")),
        ("metadata", json!({"a": "b"})),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("previous_response_id", Value::Null),
        ("background", json!(false)),
        ("store", json!(true)),
        ("parallel_tool_calls", json!(true)),
        ("temperature", json!(1.0)),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("tool_choice", json!("auto")),
        ("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        ("reasoning", json!({"effort": null, "summary": null})),
    ] {
        assert_eq!(response[field], value, "{field}");
    }
    let tools = response["tools"].as_array().unwrap();
    let kinds: Vec<_> = tools.iter().map(|tool| (&tool["type"], &tool["name"])).collect();
    assert_eq!(
        kinds,
        [
            (&json!("function"), &json!("weather")),
            (&json!("custom"), &json!("patch")),
            (&json!("namespace"), &json!("agents")),
        ]
    );
    let parsed: Response = serde_json::from_value(response.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), response, "the wire type has every field");
    hall.quiet().await;
}

#[tokio::test]
async fn reasoning_is_a_summary_if_one_is_requested_and_its_tokens_are_estimated() {
    let (hall, _) = hall(&[&["<think>aaaa", "bb</think>", "cc"]]).await;
    let response = hall.response(request(json!({"reasoning": {"summary": "auto"}}))).await;
    let reasoning = &response["output"][0];
    assert_eq!(reasoning["summary"], json!([{"type": "summary_text", "text": "aaaabb"}]));
    assert_eq!(reasoning.get("content"), None);
    // 6 of 8 characters, and 3 tokens.
    assert_eq!(response["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
}

#[tokio::test]
async fn an_answer_that_the_limit_cuts_off_is_incomplete_with_its_last_item() {
    let tokens: &[&str] = &["<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    for text in [tokens, &["So far"]] {
        let (hall, _) = hall_of(Queen::builder(), &[(text, Finish::Length)]).await;
        let response = hall.response(with_tools(json!({"max_output_tokens": 1}))).await;
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(response["max_output_tokens"], 1);
        let item = &response["output"][0];
        assert_eq!(item["status"], "incomplete");
        let text = item["arguments"].as_str().or(item["content"][0]["text"].as_str()).unwrap();
        assert!(text == "{\"where\": \"B" || text == "So far", "{text}");
    }
}

#[tokio::test]
async fn an_empty_answer_is_an_empty_message() {
    let (hall, _) = hall(&[&[]]).await;
    let response = hall.response(request(json!({}))).await;
    assert_eq!(response["output"][0]["content"][0]["text"], "");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_error_before_the_answer_has_its_status_and_openais_shape() {
    let (hall, _) = hall(&[&["!"]]).await;
    let reply = hall.respond(request(json!({}))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "context_length_exceeded");
    for stream in [false, true] {
        let reply = hall.respond(request(json!({"model": "none", "stream": stream}))).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "model_not_found");
    }
    // What the worker says of a parameter has the place in the request.
    let top = json!({"top_logprobs": 2, "model": "bee"});
    let unknown = json!({"type": "json_object"});
    for stream in [false, true] {
        let fields = json!({"text": {"format": unknown}, "model": "bee", "stream": stream});
        let reply = hall.respond(request(fields)).await;
        assert_eq!(reply.json()["error"]["param"], "text.format", "{}", reply.text());
    }
    assert_eq!(
        hall.respond(request(top)).await.status,
        StatusCode::OK,
        "echo has log probabilities"
    );
    // A worker has begun: clients look for the code in the event.
    let events = events(&hall.respond(request(json!({"stream": true}))).await);
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["error"]["code"], "context_length_exceeded", "{response}");
}

#[tokio::test]
async fn a_format_is_enforced_and_repeated() {
    let (hall, worker) = hall(&[&["{}"]]).await;
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "empty", "schema": schema, "strict": true});
    let response = hall.response(request(json!({"text": {"format": format}}))).await;
    assert_eq!(response["text"]["format"]["name"], "empty");
    assert_eq!(response["text"]["format"]["schema"], schema);
    let job = worker.asked.lock().unwrap()[0].clone();
    let Task::Generate { sampling, .. } = &job.task else { panic!("text") };
    assert!(sampling.grammar.is_some());
    // With tools the answer is either calls or this text.
    let both = hall.response(with_tools(json!({"text": {"format": format}}))).await;
    assert_eq!(both["output"][0]["content"][0]["text"], "{}");
}
