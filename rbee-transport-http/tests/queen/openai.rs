//! OpenAI's API, as a client sees it.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use crate::common::{self, Hall};
use http::StatusCode;
use rbee_core::{
    ErrorKind, Finish, Job, Message, Output, OutputStream, Priority, Queen, Result, Role, Run,
    Settings, Usage, Worker, WorkerInfo, async_trait,
    request::{Prompt, Sampling, Task},
    worker::{EchoFault, EchoGate, EchoWorker, WorkerHealth},
};
use rbee_transport_http::wire::openai::{
    ChatChunk, ChatCompletion, Completion, EmbeddingList, ModelList, Vector,
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_chat_is_answered_as_openais_clients_expect_it() {
    let hall = Hall::new().await;
    let reply = hall.chat(json!({})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let answer: ChatCompletion = serde_json::from_slice(&reply.body).unwrap();
    let job = reply.header("x-rbee-job-id").unwrap();
    assert_eq!(answer.id, format!("chatcmpl-{job}"));
    assert_eq!((answer.object.as_str(), answer.model.as_str()), ("chat.completion", "bee"));
    assert_eq!(answer.choices[0].message.content, EchoWorker::text(7, 4));
    assert_eq!(answer.choices[0].finish_reason, "length");
    assert_eq!((answer.usage.completion_tokens, answer.usage.total_tokens), (4, 5));
    assert!(reply.header("x-rbee-queue-ms").is_some());
    assert_eq!(reply.header("x-rbee-worker-id"), Some(&*hall.echo_id()));
    assert_eq!(reply.header("x-request-id"), reply.header("x-correlation-id"));
    hall.quiet().await;
}

impl Hall {
    fn echo_id(&self) -> String {
        rbee_core::Worker::info(&*self.echo).id.to_string()
    }
}

#[tokio::test]
async fn a_streamed_chat_says_the_same_in_chunks() {
    let hall = Hall::new().await;
    let reply = hall.chat(json!({"stream": true})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert!(reply.header("x-rbee-job-id").is_some() && reply.header("x-rbee-queue-ms").is_some());
    let chunks: Vec<ChatChunk> =
        reply.chunks().into_iter().map(|chunk| serde_json::from_value(chunk).unwrap()).collect();
    assert_eq!(chunks.len(), 6, "a first one, four tokens, an end");
    assert_eq!(chunks[0].choices[0].delta.role.as_deref(), Some("assistant"));
    let text: String =
        chunks.iter().filter_map(|chunk| chunk.choices[0].delta.content.clone()).collect();
    assert_eq!(text, EchoWorker::text(7, 4));
    assert_eq!(chunks[5].choices[0].finish_reason.as_deref(), Some("length"));
    assert!(chunks.iter().all(|chunk| chunk.id == chunks[0].id && chunk.usage.is_none()));
    assert!(!reply.text().contains("usage"));
    hall.quiet().await;
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_where_it_is_asked_for() {
    let hall = Hall::new().await;
    let reply = hall.chat(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let mut chunks = reply.chunks();
    let last = chunks.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5});
    assert_eq!(last["usage"], usage);
    assert!(chunks.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
}

#[tokio::test]
async fn several_answers_have_seeds_of_their_own() {
    let hall = Hall::new().await;
    let answer = hall.chat(json!({"n": 3})).await.json();
    for (at, choice) in answer["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], at);
        assert_eq!(choice["message"]["content"], EchoWorker::text(7 + at as u64, 4));
    }
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens"], 1, "the prompt counts once");

    let chunks = hall.chat(json!({"n": 3, "stream": true})).await.chunks();
    for index in 0..3u64 {
        let of_choice = chunks.iter().map(|chunk| &chunk["choices"][0]);
        let text: String = of_choice
            .filter(|choice| choice["index"] == index)
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, EchoWorker::text(7 + index, 4));
    }
    hall.quiet().await;
}

#[tokio::test]
async fn bare_text_is_continued_prompt_by_prompt() {
    let hall = Hall::new().await;
    let body =
        json!({"model": "echo", "prompt": ["one", "two"], "n": 2, "max_tokens": 3, "seed": -1});
    let reply = hall.post("/v1/completions", body.clone()).await;
    let answer: Completion = serde_json::from_slice(&reply.body).unwrap();
    assert!(answer.id.starts_with("cmpl-"));
    let texts: Vec<_> = answer.choices.iter().map(|choice| choice.text.clone()).collect();
    let expected = (0..4u64).map(|at| EchoWorker::text(u64::MAX.wrapping_add(at), 3));
    assert_eq!(texts, expected.collect::<Vec<_>>());
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (2, 12), "each prompt counts once");

    let streamed = hall.post("/v1/completions", common::over(body, json!({"stream": true}))).await;
    for (index, text) in texts.iter().enumerate() {
        let chunks = streamed.chunks().into_iter();
        let chunks = chunks.map(|chunk| serde_json::from_value::<Completion>(chunk).unwrap());
        let said: String = chunks
            .filter(|chunk| chunk.choices[0].index as usize == index)
            .map(|chunk| chunk.choices[0].text.clone())
            .collect();
        assert_eq!(said, *text);
    }
    let short = hall.post("/v1/completions", json!({"model": "echo", "prompt": "x"})).await.json();
    assert_eq!(short["usage"]["completion_tokens"], 16, "as OpenAI has it");
    hall.quiet().await;
}

#[tokio::test]
async fn models_are_listed_and_found_by_name() {
    let hall = Hall::new().await;
    let list: ModelList = serde_json::from_slice(&hall.get("/v1/models").await.body).unwrap();
    let names: Vec<_> = list.data.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(names, ["bee"], "a model with a name of its own is listed by it");
    for name in ["bee", "echo"] {
        assert_eq!(hall.get(&format!("/v1/models/{name}")).await.json()["id"], name);
    }
    let missing = hall.get("/v1/models/hf:org/repo@main::file=a%20b").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.json()["error"]["code"], "model_not_found");
}

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
        ("reasoning_effort", json!("none"), json!("low")),
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
        ("suffix", json!(""), json!("x")),
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
        (json!({"role": "tool", "content": "a", "tool_call_id": "x"}), "messages[1].role"),
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
            "messages[1].tool_calls",
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
    let Task::Generate { prompt: Prompt::Chat(messages), .. } = &job.task else { panic!("a chat") };
    assert_eq!(
        *messages,
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
    };
    assert_eq!(job.task, Task::Generate { prompt: Prompt::Chat(messages), sampling });
    assert_eq!((job.seed, job.priority), (3, Priority::Batch));
    assert_eq!(
        (job.timeout, job.deadline),
        (Duration::from_millis(1234), Some(Duration::from_secs(99)))
    );
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

/// Every word of the echo worker is equally likely, and there are 1,000.
const WORD: f64 = -6.907_755;

fn is_word(found: &Value, word: &str, top: usize) {
    assert_eq!((&found["token"], &found["bytes"]), (&json!(word), &json!(word.as_bytes())));
    assert!((found["logprob"].as_f64().unwrap() - WORD).abs() < 1e-5, "{found}");
    let words: Vec<_> = (0..top).map(|word| json!(format!("w{word} "))).collect();
    let found = found["top_logprobs"].as_array().unwrap();
    let tokens: Vec<_> = found.iter().map(|token| token["token"].clone()).collect();
    assert_eq!(tokens, words);
    assert!(found.iter().all(|token| token["bytes"].is_array() && token["logprob"].is_f64()));
}

#[tokio::test]
async fn the_log_probabilities_of_a_chat_are_in_the_answer_and_in_the_chunk_of_each_token() {
    let hall = Hall::new().await;
    for (top, fields) in
        [(0, json!({"logprobs": true})), (3, json!({"logprobs": true, "top_logprobs": 3}))]
    {
        let whole = hall.chat(fields.clone()).await.json();
        let choice = &whole["choices"][0];
        let content = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(choice["logprobs"]["refusal"], Value::Null);
        assert_eq!(content.len(), 4, "as many as tokens");
        for (at, found) in (0..).zip(content) {
            is_word(found, &EchoWorker::token(7, at).1, top);
        }
        let reply = hall.chat(common::over(fields, json!({"stream": true}))).await;
        let chunks = reply.chunks();
        assert_eq!(chunks.len(), 6, "a first one, four tokens, an end");
        for (at, chunk) in (0..).zip(&chunks) {
            serde_json::from_value::<ChatChunk>(chunk.clone()).unwrap();
            let choice = &chunk["choices"][0];
            match at {
                0 | 5 => assert_eq!(choice["logprobs"], Value::Null),
                _ => {
                    let word = EchoWorker::token(7, at - 1).1;
                    assert_eq!(choice["delta"]["content"], *word);
                    let content = choice["logprobs"]["content"].as_array().unwrap();
                    assert_eq!(content.len(), 1);
                    is_word(&content[0], &word, top);
                }
            }
        }
    }
    let plain = hall.chat(json!({})).await.json();
    assert_eq!(plain["choices"][0].get("logprobs"), Some(&Value::Null));
    hall.quiet().await;
}

#[tokio::test]
async fn the_log_probabilities_of_a_completion_are_lists_of_equal_length() {
    let hall = Hall::new().await;
    let body =
        json!({"model": "echo", "prompt": ["a", "b"], "max_tokens": 3, "seed": 7, "logprobs": 2});
    let whole = hall.post("/v1/completions", body.clone()).await.json();
    let words = |seed| (0..3).map(move |at| EchoWorker::token(seed, at).1);
    let offsets =
        |seed| words(seed).scan(0, |next, word| Some(std::mem::replace(next, *next + word.len())));
    let in_stream = common::over(body, json!({"stream": true}));
    let chunks = hall.post("/v1/completions", in_stream).await.chunks();
    for (index, seed) in [(0, 7), (1, 8)] {
        let found = &whole["choices"][index]["logprobs"];
        assert_eq!(found["tokens"], json!(words(seed).collect::<Vec<_>>()));
        assert_eq!(found["text_offset"], json!(offsets(seed).collect::<Vec<_>>()));
        assert_eq!(found["token_logprobs"].as_array().unwrap().len(), 3);
        for (word, top) in words(seed).zip(found["top_logprobs"].as_array().unwrap()) {
            let names: Vec<_> = top.as_object().unwrap().keys().cloned().collect();
            assert_eq!(names, ["w0 ", "w1 ", &*word], "two, and the token itself");
        }
        // The chunks of this answer, put together.
        let mut all =
            json!({"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []});
        for choice in chunks.iter().map(|chunk| &chunk["choices"][0]) {
            if choice["index"] != index || choice["logprobs"].is_null() {
                continue;
            }
            assert_eq!(choice["logprobs"]["tokens"], json!([choice["text"]]));
            for (name, list) in all.as_object_mut().unwrap() {
                let more = choice["logprobs"][name].as_array().unwrap().clone();
                list.as_array_mut().unwrap().extend(more);
            }
        }
        assert_eq!(all, *found);
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
        let end = Output::End { finish: Finish::Stop, usage: Usage::default() };
        Ok(Box::pin(futures_util::stream::iter([Ok(end)])))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

#[tokio::test]
async fn an_error_before_the_first_word_has_its_status_also_where_a_stream_was_asked_for() {
    for stream in [false, true] {
        let worker = common::echo()
            .context_tokens(100)
            .fault_times(EchoFault::Refuse(ErrorKind::ModelIncompatible), 1);
        let hall = Hall::with(worker).await;
        let refused = hall.chat(json!({"stream": stream})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["error"]["code"], "model_incompatible");
        let late = hall.chat(json!({"stream": stream, "deadline_ms": 0})).await;
        assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
        hall.quiet().await;
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_has_openais_code_sentence_and_numbers_on_every_route() {
    let hall = Hall::with(common::echo().embed(4).context_tokens(100)).await;
    let text = "x".repeat(1_000);
    let messages = json!([{"role": "user", "content": text}]);
    let chat = json!({"model": "bee", "messages": messages, "max_tokens": 20});
    let open = json!({"model": "bee", "messages": messages});
    let prompt = json!({"model": "bee", "prompt": text, "max_tokens": 20});
    let tokens = json!({"model": "bee", "input": [vec![7; 250]]});
    for (path, body, param, says) in [
        (
            "chat/completions",
            &chat,
            "messages",
            "100 tokens. However, you requested 270 tokens (250 in the messages, 20 in the completion)",
        ),
        (
            "chat/completions",
            &open,
            "messages",
            "100 tokens. However, you requested 251 tokens (250 in the messages, 1 in the completion)",
        ),
        (
            "completions",
            &prompt,
            "prompt",
            "100 tokens, however you requested 270 tokens (250 in your prompt; 20 for the completion)",
        ),
        (
            "embeddings",
            &json!({"model": "bee", "input": text}),
            "input",
            "100 tokens, however you requested 250 tokens (250 in your prompt; 0 for the completion)",
        ),
        (
            "embeddings",
            &tokens,
            "input",
            "100 tokens, however you requested 250 tokens (250 in your prompt; 0 for the completion)",
        ),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            if stream && path != "embeddings" {
                body["stream"] = json!(true);
            }
            let reply = hall.post(&format!("/v1/{path}"), body).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
            let error = &reply.json()["error"];
            let (code, kind) = (&error["code"], &error["type"]);
            assert_eq!(
                (code, kind),
                (&json!("context_length_exceeded"), &json!("invalid_request_error"))
            );
            assert_eq!(error["param"], param);
            let begin = format!("This model's maximum context length is {says}");
            assert!(error["message"].as_str().unwrap().starts_with(&begin), "{error}");
        }
    }
    // Longer than any context: no worker is asked.
    let huge = json!([{"role": "user", "content": "x".repeat(2 << 20)}]);
    let error = hall.chat(json!({"messages": huge})).await.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("messages"))
    );
    // The queen's own routes keep its own code.
    let job = hall.post("/v1/jobs", chat).await.json()["id"].as_str().unwrap().to_owned();
    let ended = hall.until(&job, |view| view["state"] == "failed").await;
    assert_eq!(ended["error"]["code"], "CONTEXT_EXCEEDED");
    hall.quiet().await;
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_is_its_last_event() {
    let fault = EchoFault::Fail { at: 2, kind: ErrorKind::ModelIncompatible };
    let hall = Hall::with(common::echo().fault(fault)).await;
    for n in [1, 3] {
        let reply = hall.chat(json!({"stream": true, "n": n})).await;
        assert_eq!(reply.status, StatusCode::OK);
        let last = reply.events().pop().unwrap();
        let error: Value = serde_json::from_slice(&last.data).unwrap();
        assert_eq!(error["error"]["code"], "model_incompatible", "{}", reply.text());
        assert!(!reply.text().contains("[DONE]"));
        assert_eq!(reply.text().matches("\"error\"").count(), 1);
        hall.quiet().await;
    }
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again_also_while_no_job_has_ended() {
    let gate = EchoGate::new();
    let settings = Settings { queue_capacity: 1, ..Settings::default() };
    let hall = Hall::of(
        common::echo().slots(1).gate(&gate),
        Queen::builder().settings(settings),
        |server| server,
    )
    .await;
    let mut jobs = Vec::new();
    let refused = loop {
        let reply = hall.post("/v1/jobs", common::job(json!({}))).await;
        if reply.status != StatusCode::ACCEPTED {
            break reply;
        }
        jobs.push(reply.json()["id"].as_str().unwrap().to_owned());
        assert!(jobs.len() < 10, "the queue is never full");
    };
    let chat = hall.chat(json!({"stream": true})).await;
    for reply in [&refused, &chat] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("retry-after"), Some("1"), "its oldest job has just come");
    }
    assert_eq!(refused.json()["error"]["code"], "SYSTEM_AT_CAPACITY");
    assert_eq!(chat.json()["error"]["code"], "system_at_capacity");
    gate.open();
    for job in jobs {
        hall.until(&job, |view| view["state"] == "complete").await;
    }
    hall.quiet().await;
}

#[tokio::test]
async fn vectors_come_as_numbers_or_in_base64() {
    let hall = Hall::with(common::echo().embed(3)).await;
    let ask = |format: Value| {
        hall.post(
            "/v1/embeddings",
            json!({"model": "bee", "input": ["one", "two"], "encoding_format": format}),
        )
    };
    let numbers: EmbeddingList = serde_json::from_slice(&ask(json!("float")).await.body).unwrap();
    let encoded: EmbeddingList = serde_json::from_slice(&ask(json!("base64")).await.body).unwrap();
    assert_eq!(
        (numbers.object.as_str(), numbers.data.len(), numbers.usage.prompt_tokens),
        ("list", 2, 2)
    );
    for (numbers, encoded) in numbers.data.iter().zip(&encoded.data) {
        let (Vector::Float(numbers), Vector::Base64(encoded)) =
            (&numbers.embedding, &encoded.embedding)
        else {
            panic!("not as asked for");
        };
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!((numbers.len(), encoded.len()), (3, 16), "12 bytes in base64");
        assert_eq!(&decode(encoded), &bytes);
    }
    let same: EmbeddingList = serde_json::from_slice(&ask(Value::Null).await.body).unwrap();
    assert_eq!(same.data, numbers.data);
    let hall = Hall::new().await;
    let cannot = hall.post("/v1/embeddings", json!({"model": "bee", "input": "x"})).await;
    assert_eq!(
        (cannot.status, &cannot.json()["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("unsupported"))
    );
}

#[tokio::test]
async fn vectors_are_made_of_texts_and_of_tokens_in_every_form() {
    let hall = Hall::with(common::echo().embed(4)).await;
    let ask = async |input: Value, more: Value| {
        let body = common::over(json!({"model": "bee", "input": input}), more);
        hall.post("/v1/embeddings", body).await
    };
    let vectors = async |input: Value| {
        let reply = ask(input, json!({})).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let list: EmbeddingList = serde_json::from_slice(&reply.body).unwrap();
        list.data.into_iter().map(|vector| vector.embedding).collect::<Vec<_>>()
    };
    let text = vectors(json!("one")).await;
    assert_eq!(vectors(json!(["one"])).await, text);
    let tokens = vectors(json!([101, 7, 102])).await;
    assert_eq!(tokens.len(), 1, "three tokens are one text");
    assert_ne!(tokens, text);
    assert_eq!(vectors(json!([101.0, 7, 102])).await, tokens);
    let both = vectors(json!([[101, 7, 102], [5.0]])).await;
    assert_eq!((both.len(), &both[0]), (2, &tokens[0]));

    for (input, param) in [
        (json!([1, -2]), "input[1]"),
        (json!([1, 2.5]), "input[1]"),
        (json!([1, "a"]), "input[1]"),
        (json!([4_294_967_296_u64]), "input[0]"),
        (json!([[1], [2, "a"]]), "input[1][1]"),
        (json!([[1], 2]), "input[1]"),
        (json!(["a", [1]]), "input[1]"),
        (json!([true]), "input[0]"),
        (json!({"a": 1}), "input"),
        (json!([]), "input"),
        (json!(7), "input"),
    ] {
        let reply = ask(input.clone(), json!({})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{input}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{input}: {}", reply.text());
    }

    let short = ask(json!("one"), json!({"dimensions": 2.0})).await;
    let short: EmbeddingList = serde_json::from_slice(&short.body).unwrap();
    let Vector::Float(numbers) = &short.data[0].embedding else { panic!("floats by default") };
    assert_eq!(numbers.len(), 2);
    for bad in [0, 5] {
        let reply = ask(json!("one"), json!({"dimensions": bad})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(reply.json()["error"]["param"], "dimensions", "{}", reply.text());
    }
}

fn decode(base64: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits =
        base64.bytes().map(|byte| ALPHABET.iter().position(|known| *known == byte).unwrap());
    let bits = digits.fold(0u128, |bits, digit| bits << 6 | digit as u128);
    bits.to_be_bytes()[4..].to_vec()
}

#[tokio::test]
async fn text_of_any_kind_survives_the_stream() {
    let texts = [
        "a\"b",
        "\\",
        "\n\r\t",
        "\u{0}\u{1f}\u{7f}",
        "",
        "\u{e9}\u{1F41D}\u{2028}",
        "</script>",
        "data: x\n\n",
    ];
    let outputs =
        texts.map(|text| Ok(Output::Token { id: None, text: text.into(), logprobs: None }));
    let end = Ok(Output::End {
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 1, completion_tokens: 8, ..Usage::default() },
    });
    let hall = Hall::with(common::echo().script(outputs.into_iter().chain([end]))).await;
    let whole = hall.chat(json!({"max_tokens": 100})).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], texts.concat());
    let chunks = hall.chat(json!({"max_tokens": 100, "stream": true})).await.chunks();
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, texts.concat());
}
