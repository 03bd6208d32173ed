//! The sampling parameters that not every engine has, from the request to rbee's own engine in a process of its own.

use crate::support::{Queen, chat};
use serde_json::{Value, json};

fn over(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("an object") };
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn log_probabilities_and_penalties_reach_the_engine_and_come_back() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let ask = |fields: Value| {
        let body = over(chat("Name three flowers.", 12), json!({"temperature": 0}));
        let (status, answer) = queen.post("/v1/chat/completions", &over(body, fields));
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let plain = ask(json!({}));
    let found = ask(json!({"logprobs": true, "top_logprobs": 3}));
    assert_eq!(content(&found), content(&plain));
    let tokens = found["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(json!(tokens.len()), found["usage"]["completion_tokens"]);
    let mut bytes = Vec::new();
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(
            top[0]["bytes"], token["bytes"],
            "at temperature 0 it is the likeliest: {token}"
        );
        assert_eq!(top[0]["logprob"], token["logprob"]);
        bytes.extend(
            token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8),
        );
    }
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with(content(&plain)), "{text:?}");

    let word = ask(json!({"logit_bias": {"40": 50}, "max_tokens": 1}));
    let forced = ask(json!({"logit_bias": {"40": 50}, "max_tokens": 40}));
    assert_eq!(content(&forced), content(&word).repeat(40));
    // After 25 times the penalty is as large as the bias.
    let penalized = json!({"logit_bias": {"40": 50}, "max_tokens": 40, "frequency_penalty": 2});
    let penalized = ask(penalized);
    assert!(!content(&penalized).starts_with(&content(&word).repeat(40)), "{penalized}");
    assert!(content(&penalized).starts_with(&content(&word).repeat(5)), "{penalized}");

    let body = over(chat("Hi", 4), json!({"logit_bias": {"4000000000": 1}}));
    let (status, error) = queen.post("/v1/chat/completions", &body);
    assert_eq!((status, &error["error"]["param"]), (400, &json!("logit_bias")), "{error}");
}

#[test]
fn an_answer_has_its_minimum_length() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let count = |fields: Value| {
        let body = over(chat("Name three flowers.", 200), fields);
        let (status, answer) = queen.post("/v1/chat/completions", &body);
        assert_eq!(status, 200, "{answer}");
        answer["usage"]["completion_tokens"].as_u64().unwrap()
    };
    let natural = count(json!({}));
    assert!(natural < 190, "the model ends its answer by itself, after {natural}");
    assert!(count(json!({"min_tokens": natural + 5})) >= natural + 5);
}
