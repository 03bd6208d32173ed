//! Answers, whole and streamed.

use rbee_core::{Finish, worker::EchoWorker};
use rbee_transport_http::wire::ollama::{ChatResponse, GenerateResponse};
use serde_json::{Value, json};

use super::{ask, lines, scripted, steady};
use crate::common::{self, Hall};

fn chat(fields: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    common::over(json!({"model": "script", "messages": messages}), fields)
}

/// A chat with the echo worker.
fn echo_chat(fields: Value) -> Value {
    let options = json!({"num_predict": 3, "seed": 7});
    common::over(chat(json!({"model": "bee:latest", "options": options})), fields)
}

fn weather() -> Value {
    json!([{"type": "function", "function": {
        "name": "weather", "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    }}])
}

const ANSWER: [&str; 7] = [
    "<think>Hm",
    ".</think>",
    "Let me look.",
    "<tool_",
    "call>{\"name\": \"weather\", \"arguments\": {\"where\":\n",
    " \"Bern\"}}</tool_call>",
    "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>",
];

#[tokio::test]
async fn a_chat_is_streamed_unless_that_is_turned_off() {
    let hall = Hall::new().await;
    let reply = ask(&hall, "/api/chat", echo_chat(json!({}))).await;
    assert!(reply.header("x-rbee-job-id").is_some());
    let objects = lines(&reply);
    assert_eq!(objects.len(), 4, "three tokens and an end");
    for (at, object) in objects[..3].iter().enumerate() {
        let text = EchoWorker::token(7, at as u32).1;
        let message = json!({"role": "assistant", "content": text});
        let expected = json!({"model": "bee:latest", "message": message, "done": false});
        assert_eq!(steady(object.clone()), expected);
    }
    assert_eq!(
        steady(objects[3].clone()),
        json!({
            "model": "bee:latest", "message": {"role": "assistant", "content": ""}, "done": true,
            "done_reason": "length", "prompt_eval_count": 1, "eval_count": 3,
        })
    );
    let whole = ask(&hall, "/api/chat", echo_chat(json!({"stream": false}))).await;
    assert_eq!(whole.header("content-type"), Some("application/json"));
    serde_json::from_slice::<ChatResponse>(&whole.body).unwrap();
    assert_eq!(
        steady(whole.json()),
        json!({
            "model": "bee:latest", "done": true, "done_reason": "length",
            "message": {"role": "assistant", "content": EchoWorker::text(7, 3)},
            "prompt_eval_count": 1, "eval_count": 3,
        })
    );
    hall.quiet().await;
}

#[tokio::test]
async fn a_prompt_is_a_message_of_the_user_and_its_answer_is_text() {
    let hall = Hall::new().await;
    let options = json!({"num_predict": 2, "seed": 7});
    let body = |stream: bool| json!({"model": "bee", "prompt": "Hi", "options": options, "stream": stream});
    let objects = lines(&ask(&hall, "/api/generate", body(true)).await);
    let text: String = objects.iter().map(|object| object["response"].as_str().unwrap()).collect();
    assert_eq!((objects.len(), text), (3, EchoWorker::text(7, 2)));
    let whole = ask(&hall, "/api/generate", body(false)).await;
    serde_json::from_slice::<GenerateResponse>(&whole.body).unwrap();
    assert_eq!(
        steady(whole.json()),
        json!({
            "model": "bee", "response": EchoWorker::text(7, 2), "done": true,
            "done_reason": "length", "prompt_eval_count": 1, "eval_count": 2,
        })
    );
}

#[tokio::test]
async fn an_answer_has_its_reasoning_its_text_and_whole_calls_with_objects_as_arguments() {
    let (hall, _) = scripted::hall(&ANSWER, Finish::Stop).await;
    let body = |stream: bool| chat(json!({"tools": weather(), "stream": stream}));
    let whole = ask(&hall, "/api/chat", body(false)).await;
    let job = whole.header("x-rbee-job-id").unwrap().replace('-', "");
    let call = |job: &str, index: u32, arguments: Value| {
        json!({
            "id": format!("call_{job}_{index}"),
            "function": {"index": index, "name": "weather", "arguments": arguments},
        })
    };
    assert_eq!(
        steady(whole.json()),
        json!({
            "model": "script", "done": true, "done_reason": "stop",
            "message": {
                "role": "assistant", "content": "Let me look.", "thinking": "Hm.",
                "tool_calls": [call(&job, 0, json!({"where": "Bern"})), call(&job, 1, json!({}))],
            },
            // Those that were cached count too.
            "prompt_eval_count": 9, "eval_count": 7,
        })
    );
    assert_eq!(whole.json()["prompt_eval_duration"], 1, "as the worker has measured");

    let reply = ask(&hall, "/api/chat", body(true)).await;
    let job = reply.header("x-rbee-job-id").unwrap().replace('-', "");
    let messages: Vec<Value> =
        lines(&reply).iter().map(|object| object["message"].clone()).collect();
    let said = |fields: Value| common::over(json!({"role": "assistant", "content": ""}), fields);
    assert_eq!(
        messages,
        [
            said(json!({"thinking": "Hm"})),
            said(json!({"thinking": "."})),
            said(json!({"content": "Let me look."})),
            said(json!({"tool_calls": [call(&job, 0, json!({"where": "Bern"}))]})),
            said(json!({"tool_calls": [call(&job, 1, json!({}))]})),
            said(json!({})),
        ]
    );
    let last = lines(&reply).pop().unwrap();
    assert_eq!((&last["done_reason"], &last["prompt_eval_duration"]), (&json!("stop"), &json!(1)));
}

#[tokio::test]
async fn the_reasoning_of_a_prompts_answer_is_a_field_of_its_own() {
    let (hall, _) = scripted::hall(&["<think>Hm.</think>", "Yes."], Finish::Stop).await;
    let body = |stream: bool| json!({"model": "script", "prompt": "Rain?", "stream": stream});
    let whole = ask(&hall, "/api/generate", body(false)).await.json();
    assert_eq!((&whole["thinking"], &whole["response"]), (&json!("Hm."), &json!("Yes.")));
    let objects = lines(&ask(&hall, "/api/generate", body(true)).await);
    let parts: Vec<_> = objects.iter().map(|line| (&line["thinking"], &line["response"])).collect();
    let expected =
        [(json!("Hm."), json!("")), (Value::Null, json!("Yes.")), (Value::Null, json!(""))];
    assert_eq!(parts, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_off_is_text() {
    let tokens = ["<tool_call>{\"name\": \"weather\", \"arguments\": {\"where\": \"B"];
    let text = "{\"name\": \"weather\", \"arguments\": {\"where\": \"B";
    let (hall, _) = scripted::hall(&tokens, Finish::Length).await;
    let body = |stream: bool| chat(json!({"tools": weather(), "stream": stream}));
    let whole = ask(&hall, "/api/chat", body(false)).await.json();
    assert_eq!(whole["message"], json!({"role": "assistant", "content": text}));
    assert_eq!(whole["done_reason"], "length");
    let objects = lines(&ask(&hall, "/api/chat", body(true)).await);
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["message"], json!({"role": "assistant", "content": text}));
    assert_eq!(objects[1]["done_reason"], "length");
}

#[tokio::test]
async fn without_tools_and_in_a_raw_prompt_markup_is_text() {
    let call = "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call>";
    let (hall, _) = scripted::hall(&[call], Finish::Stop).await;
    let whole = ask(&hall, "/api/chat", chat(json!({"stream": false}))).await.json();
    assert_eq!(whole["message"]["content"], call);
    let (hall, _) = scripted::hall(&["<think>x</think>y"], Finish::Stop).await;
    let body = json!({"model": "script", "prompt": "Hi", "raw": true, "stream": false});
    let whole = ask(&hall, "/api/generate", body).await.json();
    assert_eq!(whole["response"], "<think>x</think>y");
}

#[tokio::test]
async fn log_probabilities_come_with_the_tokens() {
    let hall = Hall::new().await;
    let fields = json!({"logprobs": true, "top_logprobs": 2, "stream": false});
    let whole = ask(&hall, "/api/chat", echo_chat(fields)).await.json();
    let logprobs = whole["logprobs"].as_array().unwrap().clone();
    let words: Vec<_> = (0..3).map(|at| json!(EchoWorker::token(7, at).1)).collect();
    assert_eq!(logprobs.iter().map(|one| one["token"].clone()).collect::<Vec<_>>(), words);
    assert!(logprobs.iter().all(|one| one["top_logprobs"].as_array().unwrap().len() == 2));
    let fields = json!({"logprobs": true, "top_logprobs": 2});
    let objects = lines(&ask(&hall, "/api/chat", echo_chat(fields)).await);
    let streamed = objects.iter().flat_map(|line| line["logprobs"].as_array()).flatten();
    assert_eq!(streamed.cloned().collect::<Vec<_>>(), logprobs);
    let without = ask(&hall, "/api/chat", echo_chat(json!({"stream": false}))).await.json();
    assert_eq!(without.get("logprobs"), None);
}

#[tokio::test]
async fn vectors_have_the_length_1_and_those_of_the_older_route_are_as_they_are() {
    let hall = Hall::with(common::echo().embed(3)).await;
    let body =
        json!({"model": "bee", "input": ["one", "two"], "truncate": true, "keep_alive": "5m"});
    let reply = ask(&hall, "/api/embed", body).await;
    let answer = reply.json();
    let vectors = answer["embeddings"].as_array().unwrap();
    assert_eq!(
        (vectors.len(), &answer["model"], &answer["prompt_eval_count"]),
        (2, &json!("bee"), &json!(2))
    );
    assert!(answer["total_duration"].as_u64() > answer["load_duration"].as_u64());
    let length = |vector: &Value| {
        let numbers = vector.as_array().unwrap();
        numbers.iter().map(|number| number.as_f64().unwrap().powi(2)).sum::<f64>().sqrt()
    };
    assert!(vectors.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-3), "{vectors:?}");
    let one = ask(&hall, "/api/embed", json!({"model": "bee", "input": "one"})).await.json();
    assert_eq!(one["embeddings"], json!([vectors[0]]));
    let older = json!({"model": "bee", "prompt": "one", "options": {"num_ctx": 2048}});
    let older = ask(&hall, "/api/embeddings", older).await.json();
    let own = ask(&hall, "/v1/embeddings", json!({"model": "bee", "input": "one"})).await.json();
    assert_eq!(older, json!({"embedding": own["data"][0]["embedding"]}));
}
