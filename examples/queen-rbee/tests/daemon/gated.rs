//! A hub that refuses the queen: clients read that, and not that their own key is wrong.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use serde_json::{Value, json};

use crate::support::{Queen, request};

/// A hub that gives nothing without a token. Returns its address.
fn gated_hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            if lines.any(|line| line.is_empty()) {
                let head = "HTTP/1.1 401 Unauthorized\r\nX-Error-Code: GatedRepo\r\n";
                let answer = format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = (&stream).write_all(answer.as_bytes());
            }
        }
    });
    format!("http://{address}")
}

#[test]
fn a_model_that_the_hub_does_not_give_to_the_queen_is_403_and_says_so_on_every_route() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--hub-endpoint", &gated_hub()]);
    let model = "hf:org/gated";
    let own = json!({"model": model});
    let chat = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    for (method, path, body) in [
        ("GET", "/v1/catalog/model?model=hf:org/gated", None),
        ("POST", "/v1/catalog/pull", Some(&own)),
        ("POST", "/v1/workers", Some(&own)),
        ("POST", "/v1/chat/completions", Some(&chat)),
    ] {
        let body = body.map(Value::to_string);
        let (status, text) = request(queen.address, method, path, body.as_deref(), &[]);
        assert_eq!(status, 403, "{path}: {text}");
        let error = serde_json::from_str::<Value>(&text).unwrap()["error"].take();
        let code = error["code"].as_str().unwrap();
        assert!(code.eq_ignore_ascii_case("permission_denied"), "{path}: {text}");
        assert!(error["message"].as_str().unwrap().contains("gated"), "{path}: {text}");
        if path != "/v1/chat/completions" {
            assert_eq!(error["details"]["param"], "model", "{path}: {text}");
        }
    }
}
