//! A batch whose queen is killed several times: each line gets one answer.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::support::{self, Queen, chat, until};
use serde_json::{Value, json};

const LINES: usize = 60;
/// The results after which the queen is killed.
const KILLS: [u64; 3] = [1, 13, 38];
const TOKENS: u32 = 20;

/// Uploads a file; returns its id.
fn upload(address: SocketAddr, lines: &str) -> String {
    let body = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{lines}\r\n--edge--\r\n"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(support::TIMEOUT)).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=edge\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all([head, body].concat().as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_batch_survives_kills_of_the_queen_and_no_line_is_lost_or_answered_twice() {
    let data = tempfile::tempdir().unwrap();
    let start = || Queen::start(data.path(), &["--worker-slots", "4"]);
    let mut queen = start();
    let body = chat("Tell me a story about a bee.", TOKENS);
    let (status, answer) = queen.post("/v1/chat/completions", &body);
    assert_eq!(status, 200, "{answer}");
    let whole = &answer["choices"][0]["message"]["content"];
    // The worker survives the queen, and the next queen finds it.
    let workers = queen.children();

    let line = |at: usize| {
        let line = json!({"custom_id": at.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body});
        line.to_string() + "\n"
    };
    let file = upload(queen.address, &(0..LINES).map(line).collect::<String>());
    let ask = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let (status, batch) = queen.post("/v1/batches", &ask);
    assert_eq!(status, 200, "{batch}");
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    let completed =
        |queen: &Queen| queen.json(&path)["request_counts"]["completed"].as_u64().unwrap();
    for kill in KILLS {
        until("the batch has some results", || (completed(&queen) >= kill).then_some(()));
        queen.child.kill().unwrap();
        queen.child.wait().unwrap();
        queen = start();
    }
    let batch = until("the batch ends", || {
        Some(queen.json(&path)).filter(|batch| batch["status"] == "completed")
    });
    assert_eq!(batch["request_counts"], json!({"total": LINES, "completed": LINES, "failed": 0}));
    let output = format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    let (status, output) = queen.get(&output);
    assert_eq!(status, 200, "{output}");
    let (mut ids, mut jobs, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for line in output.lines() {
        let result: Value = serde_json::from_str(line).unwrap();
        let body = &result["response"]["body"];
        assert_eq!(body["choices"][0]["message"]["content"], *whole, "{result}");
        ids.insert(result["custom_id"].to_string());
        jobs.insert(body["id"].to_string());
        count += 1;
    }
    assert_eq!((count, ids.len(), jobs.len()), (LINES, LINES, LINES));
    let jobs = queen.json("/v1/jobs?limit=1000");
    assert_eq!(jobs["data"].as_array().unwrap().len(), LINES + 1, "each line had one job");
    let tokens: u64 =
        jobs["data"].as_array().unwrap().iter().map(|it| it["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, u64::from(TOKENS) * (LINES as u64 + 1));
    drop(queen);
    workers.into_iter().for_each(support::end);
}
