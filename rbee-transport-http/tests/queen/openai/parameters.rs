//! The parameters of requests, and the messages: what is used, what is taken, and what is refused.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crate::common::{self, Hall};
use http::StatusCode;
use rbee_core::{
    Finish, Job, Message, Output, OutputStream, Priority, Queen, Result, Role, Run, Usage, Worker,
    WorkerInfo, async_trait,
    request::{Prompt, Sampling, Task},
    worker::{EchoWorker, WorkerHealth},
};
use serde_json::{Value, json};

/// A value that requests nothing, and one that requests something that rbee does not have. Together with the fields
/// that are honored, these are all fields that the official Python client can send.
fn unsupported(path: &str) -> Vec<(&'static str, Value, Value)> {
    let both = vec![
        ("frequency_penalty", json!(0), json!(2.1)),
        ("presence_penalty", json!(0.0), json!(-2.1)),
        ("logit_bias", json!({}), json!({"x": -100})),
        ("min_tokens", json!(0), json!(-1)),
        ("user", json!("me"), json!(1)),
        ("n", json!(1), json!(9)),
        ("stream_options", Value::Null, json!({"include_usage": true})),
    ];
    let chat = vec![
        ("audio", Value::Null, json!({"voice": "alloy", "format": "wav"})),
        ("function_call", json!("none"), json!({"name": "f"})),
        ("functions", json!([]), json!([{"name": "f"}])),
        ("logprobs", json!(false), json!(1)),
        ("metadata", json!({"a": "b"}), json!("a")),
        ("modalities", json!(["text"]), json!(["text", "audio"])),
        ("moderation", Value::Null, json!({"model": "m"})),
        ("parallel_tool_calls", json!(true), json!("yes")),
        ("prediction", Value::Null, json!({"type": "content", "content": "x"})),
        ("prompt_cache_key", json!("k"), json!(1)),
        ("prompt_cache_options", json!({"mode": "implicit"}), json!("x")),
        ("prompt_cache_retention", json!("24h"), json!(24)),
        ("reasoning_effort", json!("none"), json!("lots")),
        ("response_format", json!({"type": "text"}), json!({"type": "json_object"})),
        ("safety_identifier", json!("s"), json!(1)),
        ("service_tier", json!("auto"), json!("priority")),
        ("store", json!(false), json!(true)),
        ("tool_choice", json!("auto"), json!("required")),
        ("tools", json!([]), json!([{"type": "function", "function": {"name": "f"}}])),
        ("top_logprobs", json!(0), json!(2)), // logprobs is not true
        ("verbosity", json!("medium"), json!("high")),
        ("web_search_options", Value::Null, json!({})),
    ];
    let completion = vec![
        ("best_of", json!(1), json!(2)),
        ("echo", json!(false), json!(true)),
        ("logprobs", json!(0), json!(21)),
        ("suffix", json!(""), json!(1)),
    ];
    let embedding = vec![
        ("dimensions", json!(4), json!(5)),
        ("encoding_format", json!("float"), json!("int8")),
        ("user", json!("me"), json!(1)),
    ];
    match path {
        "/v1/chat/completions" => [both, chat].concat(),
        "/v1/completions" => [both, completion].concat(),
        _ => embedding,
    }
}

#[tokio::test]
async fn what_cannot_be_honored_is_refused_by_name_and_what_asks_for_nothing_is_taken() {
    let hall = Hall::with(common::echo().embed(4)).await;
    for (path, body) in [
        ("/v1/chat/completions", common::chat(json!({}))),
        ("/v1/completions", json!({"model": "bee", "prompt": "x", "max_tokens": 2})),
        ("/v1/embeddings", json!({"model": "bee", "input": "x"})),
    ] {
        for (field, off, on) in unsupported(path) {
            for nothing in [off, Value::Null] {
                let reply =
                    hall.post(path, common::over(body.clone(), json!({field: nothing}))).await;
                assert_eq!(reply.status, StatusCode::OK, "{path} {field}: {}", reply.text());
            }
            let reply = hall.post(path, common::over(body.clone(), json!({field: on}))).await;
            let error = reply.json()["error"].clone();
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path} {field}: {}", reply.text());
            assert_eq!(
                (&error["param"], &error["type"]),
                (&json!(field), &json!("invalid_request_error"))
            );
            assert!(error["message"].as_str().unwrap().starts_with(field), "{error}");
        }
        let reply = hall.post(path, common::over(body, json!({"color": 1}))).await.json();
        assert_eq!(reply["error"]["message"], "Unrecognized request argument supplied: color");
        assert_eq!(reply["error"]["param"], "color");
    }
    hall.quiet().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_refused_by_its_place() {
    let hall = Hall::new().await;
    let fine = json!({"role": "user", "content": "Hi"});
    for (message, param) in [
        (
            json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            "messages[1].content[1].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
            "messages[1].content[0].type",
        ),
        (json!({"role": "user", "content": [{"type": "text"}]}), "messages[1].content[0].text"),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "a", "more": 1}]}),
            "messages[1].content[0].more",
        ),
        (json!({"role": "user", "content": ["a"]}), "messages[1].content[0]"),
        (json!({"role": "user"}), "messages[1].content"),
        (json!({"role": "user", "content": 7}), "messages[1].content"),
        (json!({"content": "a"}), "messages[1].role"),
        (json!({"role": "tool", "content": "a", "tool_call_id": "x"}), "messages[1].tool_call_id"),
        (json!({"role": "function", "content": "a", "name": "x"}), "messages[1].role"),
        (json!({"role": "user", "content": "a", "name": "Zoé B"}), "messages[1].name"),
        (json!({"role": "user", "content": "a", "name": "<x>"}), "messages[1].name"),
        (json!({"role": "user", "content": "a", "name": "x".repeat(65)}), "messages[1].name"),
        (json!({"role": "user", "content": "a", "name": 7}), "messages[1].name"),
        (json!({"role": "user", "content": Value::Null}), "messages[1].content"),
        (
            json!({"role": "assistant", "content": Value::Null, "refusal": "No."}),
            "messages[1].refusal",
        ),
        (json!({"role": "assistant", "content": "a", "audio": {"id": "x"}}), "messages[1].audio"),
        (json!({"role": "assistant", "content": "a", "prefix": true}), "messages[1].prefix"),
        (
            json!({"role": "assistant", "content": Value::Null, "tool_calls": [{}]}),
            "messages[1].tool_calls[0].type",
        ),
        (json!({"role": "user", "content": "a", "color": "red"}), "messages[1].color"),
        (json!("a"), "messages[1]"),
    ] {
        let reply = hall.chat(json!({"messages": [fine, message]})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{message}");
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    let taken = json!([
        {"role": "system", "content": "a", "name": Value::Null},
        {"role": "developer", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "a", "refusal": Value::Null, "tool_calls": [], "annotations": [], "audio": Value::Null},
        {"role": "user", "content": ""},
    ]);
    assert_eq!(hall.chat(json!({"messages": taken})).await.status, StatusCode::OK);
}

/// What is in the messages of a conversation that a client sends back, and what the model reads of it.
#[tokio::test]
async fn what_clients_send_back_of_earlier_answers_is_left_out() {
    let (hall, worker) = witness().await;
    let told = json!([
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "Hi", "name": "Zoé", "id": "msg_1", "timestamp": 1.5, "cache_control": {}},
        {"role": "assistant", "content": "Hello", "reasoning_content": "Well.", "reasoning": "Well.",
         "reasoning_details": [{"type": "reasoning.text", "text": "Well."}], "refusal": Value::Null, "audio": Value::Null,
         "annotations": [], "function_call": Value::Null, "tool_calls": Value::Null, "parsed": Value::Null,
         "provider_specific_fields": {"x": 1}, "thinking_blocks": [{"type": "thinking", "thinking": "Well."}],
         "images": [], "index": 0, "id": "x", "type": "message", "status": "completed", "tool_call_id": Value::Null},
        {"role": "assistant", "content": Value::Null, "tool_calls": [], "reasoning_content": "Hm."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Yes?", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}], "name": ""},
    ]);
    assert_eq!(
        hall.chat(json!({"model": "witness", "messages": told})).await.status,
        StatusCode::OK
    );
    let job = worker.0.lock().unwrap().take().unwrap();
    let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!("a chat") };
    assert_eq!(
        chat.messages,
        [
            Message::new(Role::System, "Be brief."),
            Message { name: Some("Zoé".into()), ..Message::new(Role::User, "Hi") },
            Message::new(Role::Assistant, "Hello"),
            Message::new(Role::Assistant, ""),
            Message::new(Role::Assistant, "Yes?"),
            Message::new(Role::User, "And?"),
        ]
    );
}

/// The fields that clients send with every request, whether or not their user has set anything.
#[tokio::test]
async fn what_clients_send_by_default_is_taken() {
    let hall = Hall::new().await;
    for (client, fields) in [
        (
            "LangChain",
            json!({"n": 1, "temperature": 0.7, "stream": false, "parallel_tool_calls": Value::Null}),
        ),
        (
            "Open WebUI",
            json!({"stream": true, "stream_options": {"include_usage": true}, "metadata": {"chat_id": "x"}}),
        ),
        (
            "LiteLLM",
            json!({"user": "", "logit_bias": {}, "functions": [], "function_call": "auto", "seed": 7}),
        ),
        (
            "AI SDK",
            json!({"temperature": 0, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "tool_choice": "auto",
            "response_format": {"type": "text"}, "stop": [], "reasoning_effort": Value::Null, "tools": []}),
        ),
        (
            "Home Assistant",
            json!({"top_p": 1.0, "temperature": 1.0, "max_tokens": 150.0, "user": "01J", "store": false}),
        ),
        (
            "Cline",
            json!({"temperature": 0, "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": true}}),
        ),
        (
            "Aider",
            json!({"temperature": 0, "stream": true, "prompt_cache_key": "k", "safety_identifier": "s"}),
        ),
        (
            "llama.cpp",
            json!({"cache_prompt": true, "repeat_penalty": 1.0, "typical_p": 1, "mirostat": 0, "min_p": 0,
            "ignore_eos": false, "top_k": 0}),
        ),
        (
            "vLLM",
            json!({"top_k": -1, "skip_special_tokens": true, "add_generation_prompt": true, "min_tokens": 0,
            "chat_template_kwargs": {}, "length_penalty": 1.0, "use_beam_search": false}),
        ),
        (
            "OpenAI",
            json!({"modalities": ["text"], "service_tier": "auto", "verbosity": "medium", "logprobs": false,
            "stream_options": {"include_usage": false}}),
        ),
    ] {
        let reply = hall.chat(fields).await;
        assert_eq!(reply.status, StatusCode::OK, "{client}: {}", reply.text());
    }
    hall.quiet().await;
}

#[tokio::test]
async fn whole_numbers_may_be_written_as_floats_in_every_field() {
    let (hall, worker) = witness().await;
    let fields = json!({
        "model": "witness", "max_tokens": 20.0, "max_completion_tokens": 2e1, "n": 1.0, "top_k": 40.0, "seed": -7.0,
        "timeout_ms": 1234.0, "deadline_ms": 99e3,
    });
    let reply = hall.chat(fields).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let job = worker.0.lock().unwrap().take().unwrap();
    let Task::Generate { sampling, .. } = &job.task else { panic!("a chat") };
    assert_eq!((sampling.max_tokens, sampling.top_k), (Some(20), 40));
    assert_eq!((job.seed, job.timeout), ((-7_i64).cast_unsigned(), Duration::from_millis(1234)));

    let integers =
        ["max_tokens", "max_completion_tokens", "n", "top_k", "seed", "timeout_ms", "deadline_ms"];
    for field in integers {
        for bad in [json!(20.5), json!("20"), json!(1e30), json!([20])] {
            let reply = hall.chat(json!({"model": "witness", field: bad})).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{field}: {bad}");
            assert_eq!(reply.json()["error"]["param"], field, "{}", reply.text());
        }
    }
    let body = json!({"model": "bee", "prompt": "x", "best_of": 1.5});
    assert_eq!(hall.post("/v1/completions", body).await.json()["error"]["param"], "best_of");
    let body = json!({"model": "bee", "input": "x", "dimensions": 1.5});
    assert_eq!(hall.post("/v1/embeddings", body).await.json()["error"]["param"], "dimensions");
}

#[tokio::test]
async fn a_value_at_the_edge_of_its_range_is_taken_and_one_beyond_it_is_refused_by_name() {
    let hall = Hall::new().await;
    for (field, good, bad) in [
        ("top_p", vec![json!(0), json!(1)], vec![json!(-0.01), json!(1.01)]),
        ("temperature", vec![json!(0), json!(2)], vec![json!(-0.1), json!(2.1)]),
        ("top_k", vec![json!(0), json!(-1), json!(1)], vec![json!(-2)]),
        ("min_p", vec![json!(0), json!(1)], vec![json!(-0.1), json!(1.1)]),
        ("n", vec![json!(1)], vec![json!(0), json!(9)]),
        ("max_tokens", vec![json!(1)], vec![json!(0), json!(-1)]),
    ] {
        for value in good {
            let reply = hall.chat(json!({field: value})).await;
            assert_eq!(reply.status, StatusCode::OK, "{field} {value}: {}", reply.text());
        }
        for value in bad {
            let reply = hall.chat(json!({field: value})).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{field} {value}");
            assert_eq!(reply.json()["error"]["param"], field, "{}", reply.text());
        }
    }
    let both = hall.chat(json!({"max_tokens": 3, "max_completion_tokens": 3})).await;
    assert_eq!(both.json()["usage"]["completion_tokens"], 3);
    let both = hall.chat(json!({"max_tokens": 3, "max_completion_tokens": 4})).await;
    assert_eq!(both.json()["error"]["param"], "max_tokens");
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_worker() {
    let (hall, worker) = witness().await;
    let fields = json!({
        "model": "witness", "temperature": 0.5, "top_p": 0.75, "top_k": 9, "min_p": 0.25, "repetition_penalty": 1.5,
        "presence_penalty": -0.5, "frequency_penalty": 1.25, "logit_bias": {"50256": -100, "7": 0.5}, "min_tokens": 2.0,
        "logprobs": true, "top_logprobs": 5,
        "stop": ["a", "b"], "seed": 3, "max_completion_tokens": 5, "max_tokens": Value::Null, "priority": "batch",
        "timeout_ms": 1234, "deadline_ms": 99000, "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
            {"role": "user", "content": "Hi", "name": "Zoé"},
        ],
    });
    assert_eq!(hall.chat(fields).await.status, StatusCode::OK);
    let job = worker.0.lock().unwrap().take().unwrap();
    let messages = vec![
        Message::new(Role::System, "Be brief."),
        Message { name: Some("Zoé".into()), ..Message::new(Role::User, "Hi") },
    ];
    let sampling = Sampling {
        temperature: 0.5,
        top_p: 0.75,
        top_k: 9,
        min_p: 0.25,
        repetition_penalty: 1.5,
        presence_penalty: -0.5,
        frequency_penalty: 1.25,
        logit_bias: [(7, 0.5), (50_256, -100.0)].into(),
        min_tokens: 2,
        logprobs: Some(5),
        stop: vec!["a".into(), "b".into()],
        max_tokens: Some(5),
        grammar: None,
    };
    assert_eq!(job.task, Task::Generate { prompt: Prompt::Chat(messages.into()), sampling });
    assert_eq!((job.seed, job.priority), (3, Priority::Batch));
    assert_eq!(
        (job.timeout, job.deadline),
        (Duration::from_millis(1234), Some(Duration::from_secs(99)))
    );
}

#[tokio::test]
async fn a_request_turns_thinking_on_or_off_in_the_words_of_any_client() {
    let (hall, worker) = witness().await;
    let cases = [
        (json!({}), None),
        (json!({"reasoning_effort": "none"}), Some(false)),
        (json!({"reasoning_effort": "high"}), Some(true)),
        (json!({"reasoning": {"effort": "none", "summary": "auto"}}), Some(false)),
        (json!({"reasoning": {"enabled": true}}), Some(true)),
        (json!({"chat_template_kwargs": {"enable_thinking": false}}), Some(false)),
        (
            json!({"chat_template_kwargs": {"thinking": true}, "reasoning_effort": "none"}),
            Some(true),
        ),
    ];
    for (mut fields, thinking) in cases {
        fields["model"] = json!("witness");
        fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
        assert_eq!(hall.chat(fields.clone()).await.status, StatusCode::OK, "{fields}");
        let job = worker.0.lock().unwrap().take().unwrap();
        let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!() };
        assert_eq!(chat.thinking, thinking, "{fields}");
    }
    for (fields, place) in [
        (json!({"reasoning_effort": "much"}), "reasoning_effort"),
        (json!({"reasoning": {"effort": 1}}), "reasoning.effort"),
        (json!({"reasoning": {"max_tokens": 9}}), "reasoning.max_tokens"),
        (json!({"chat_template_kwargs": {"persona": "bee"}}), "chat_template_kwargs.persona"),
    ] {
        let answer = hall.chat(fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"]["param"], place);
    }
}

#[tokio::test]
async fn a_completion_says_how_many_log_probabilities_it_wants() {
    let (hall, worker) = witness().await;
    let body = json!({"model": "witness", "prompt": "x", "logprobs": 0, "min_tokens": 16});
    assert_eq!(hall.post("/v1/completions", body).await.status, StatusCode::OK);
    let job = worker.0.lock().unwrap().take().unwrap();
    let Task::Generate { sampling, .. } = &job.task else { panic!("a completion") };
    assert_eq!((sampling.logprobs, sampling.min_tokens), (Some(0), 16));
}

/// Values of the parameters that a worker may not have.
#[tokio::test]
async fn a_parameter_that_no_worker_of_the_model_knows_is_refused_by_its_name() {
    let hall = Hall::with(common::echo().info(|info| info.capabilities.logprobs = false)).await;
    for (param, value) in [
        ("logprobs", json!(true)),
        ("logit_bias", json!({"7": -100})),
        ("presence_penalty", json!(0.5)),
        ("frequency_penalty", json!(-0.5)),
        ("min_tokens", json!(2)),
    ] {
        for stream in [false, true] {
            let reply = hall.chat(json!({param: value, "stream": stream})).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{param}: {}", reply.text());
            let error = &reply.json()["error"];
            assert_eq!(error["param"], param, "{error}");
            let said = error["message"].as_str().unwrap();
            assert!(said.starts_with(&format!("{param} is not supported")), "{said}");
        }
    }
    hall.quiet().await;
}

/// A queen with a worker that records its requests.
async fn witness() -> (Hall, Arc<Witness>) {
    let worker = Arc::new(Witness::default());
    let queen = Queen::builder().worker(worker.clone()).build().await.unwrap();
    let router = rbee_transport_http::server::queen(queen.clone());
    (Hall { queen, router, echo: EchoWorker::new("x".parse().unwrap()) }, worker)
}

/// Records its requests.
#[derive(Debug, Default)]
struct Witness(Mutex<Option<Arc<Job>>>);

#[async_trait]
impl Worker for Witness {
    fn info(&self) -> &Arc<WorkerInfo> {
        static INFO: OnceLock<Arc<WorkerInfo>> = OnceLock::new();
        INFO.get_or_init(|| {
            let mut info = WorkerInfo::new("witness".parse().unwrap(), "test");
            let can = &mut info.capabilities;
            (can.logprobs, can.logit_bias, can.penalties, can.min_tokens) =
                (true, true, true, true);
            Arc::new(info)
        })
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        *self.0.lock().unwrap() = Some(run.job);
        let end = Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None };
        Ok(Box::pin(futures_util::stream::iter([Ok(end)])))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}
