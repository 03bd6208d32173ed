//! OpenAI's API, as a client sees it.

mod errors;
mod logprobs;
mod parameters;
mod response_format;
mod tools;
mod vectors;

use crate::common::{self, Hall};
use http::StatusCode;
use rbee_core::{
    Finish, Output, Queen, Usage,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    worker::EchoWorker,
};
use rbee_transport_http::wire::openai::{ChatChunk, ChatCompletion, Completion, ModelList};
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
    assert_eq!(answer.choices[0].message.content, Some(EchoWorker::text(7, 4)));
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

#[tokio::test]
async fn a_model_has_its_context_and_what_it_can_do_loaded_or_not() {
    let able = EchoWorker::builder("able".parse().unwrap()).context_tokens(4_096).info(|info| {
        info.capabilities.grammar = true;
        info.capabilities.answer = AnswerFormat {
            tools: Some(ToolFormat::Hermes),
            reasoning: Some(ReasoningFormat::Think),
            ..AnswerFormat::default()
        };
    });
    let bee_tiny =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    let file = format!("file:{}", bee_tiny.canonicalize().unwrap().display());
    let queen = Queen::builder()
        .worker(able.build())
        .worker(EchoWorker::builder("plain".parse().unwrap()).build())
        .alias("unloaded", &file)
        .alias("missing", "file:/no/such/model")
        .build()
        .await
        .unwrap();
    let router = rbee_transport_http::server::queen(queen.clone());
    let hall = Hall { queen, router, echo: EchoWorker::new("x".parse().unwrap()) };
    let facts = async |name: &str| {
        let model = hall.get(&format!("/v1/models/{name}")).await.json();
        (model["context_length"].clone(), model["capabilities"].clone())
    };
    let all = json!(["completion", "tools", "structured_output", "thinking"]);
    assert_eq!(facts("able").await, (json!(4_096), all));
    assert_eq!(facts("plain").await, (Value::Null, json!(["completion"])));
    assert_eq!(facts("unloaded").await, (json!(512), json!(["completion"])));
    assert_eq!(facts("missing").await, (Value::Null, Value::Null));
    let list = hall.get("/v1/models").await.json();
    assert_eq!((&list["has_more"], &list["first_id"]), (&json!(false), &json!("able")));
    let first = &list["data"][0];
    assert_eq!((&first["type"], &first["display_name"]), (&json!("model"), &json!("able")));
    assert!(first["created_at"].as_str().unwrap().ends_with('Z'), "{first}");
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
        stop_text: None,
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
