//! Log probabilities in answers.

use crate::common::{self, Hall};
use rbee_core::worker::EchoWorker;
use rbee_transport_http::wire::openai::ChatChunk;
use serde_json::{Value, json};

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
