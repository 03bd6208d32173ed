//! The tokens of a prompt that the worker had cached, from rbee's own engine in a process of its own to the client.

use crate::support::{Queen, command, request};
use serde_json::{Value, json};

/// A prompt of 200 tokens.
fn long() -> String {
    "The bees dance where the clover is. ".repeat(20)
}

fn cached(answer: &Value) -> u64 {
    let usage = &answer["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    let cached = cached.unwrap_or_else(|| panic!("{answer}"));
    assert!(cached < usage["prompt_tokens"].as_u64().unwrap(), "the last token is computed");
    cached
}

#[test]
fn a_prompt_that_comes_again_is_reported_as_cached() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let prompt = json!({"model": "bee-tiny", "prompt": long(), "max_tokens": 2});
    let turns = json!({
        "model": "bee-tiny", "max_tokens": 2, "messages": [{"role": "user", "content": long()}],
    });
    for (path, body) in [("/v1/completions", &prompt), ("/v1/chat/completions", &turns)] {
        let ask = || {
            let (status, answer) = queen.post(path, body);
            assert_eq!(status, 200, "{answer}");
            answer
        };
        let (first, again) = (ask(), ask());
        assert!(cached(&first) < 32, "{first}");
        assert!(cached(&again) > 100, "{again}");
    }

    // A stream, and the events of the job.
    let mut body = turns.clone();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let (status, text) =
        request(queen.address, "POST", "/v1/chat/completions", Some(&body.to_string()), &[]);
    assert_eq!(status, 200, "{text}");
    let mut events = text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let last = events.next_back().map(|event| format!("{{{event}")).unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert!(cached(&last) > 100, "{text}");
    let job = last["id"].as_str().unwrap().trim_start_matches("chatcmpl-");
    let (_, events) = queen.get(&format!("/v1/jobs/{job}/events"));
    assert_eq!(events.matches(r#""cached_tokens":"#).count(), 2, "metrics and end: {events}");
}

#[test]
fn the_prompt_of_another_tenant_is_not_reported_as_cached() {
    let data = tempfile::tempdir().unwrap();
    let token = "t".repeat(43);
    let mut command = command(data.path(), &["--port", "0", "--log-format", "json"]);
    command.env("RBEE_TOKEN", &token).args(["--tenants", "{acme: {}, zeta: {}}"]);
    let queen = Queen::spawn(command);
    let operator = format!("Bearer {token}");
    let keys = ["acme", "zeta"].map(|tenant| {
        let path = format!("/v1/tenants/{tenant}/keys");
        let operator = [("authorization", operator.as_str())];
        let (_, issued) =
            request(queen.address, "POST", &path, Some(r#"{"label": "a"}"#), &operator);
        let issued: Value = serde_json::from_str(&issued).unwrap_or_else(|_| panic!("{issued}"));
        format!("Bearer {}", issued["key"].as_str().unwrap())
    });
    let body = json!({"model": "bee-tiny", "prompt": long(), "max_tokens": 2}).to_string();
    let counts = [0, 0, 1, 1].map(|key| {
        let key = [("authorization", keys[key].as_str())];
        let (status, answer) = request(queen.address, "POST", "/v1/completions", Some(&body), &key);
        assert_eq!(status, 200, "{answer}");
        cached(&serde_json::from_str(&answer).unwrap())
    });
    assert!(counts[0] == 0 && counts[1] > 100, "{counts:?}");
    assert!(counts[2] == 0 && counts[3] == counts[1], "{counts:?}");
}
