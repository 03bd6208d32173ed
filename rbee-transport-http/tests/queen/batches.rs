//! OpenAI's Batch API: files, batches, and what is left of them after a restart.

mod deadlines;
mod disconnects;
mod files;
mod limits;
mod responses;
mod restart;
mod results;

use std::path::Path;

use crate::common::{Hall, Reply, TIMEOUT, echo, request};
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use rbee_core::{Queen, worker::EchoBuilder};
use rbee_transport_http::server::BatchLimits;
use serde_json::{Value, json};

/// Limits with which the disk of the machine that runs the tests does not count.
fn limits() -> BatchLimits {
    BatchLimits { free_bytes: 0, ..BatchLimits::default() }
}

/// A queen with one worker and a directory for batches.
struct Post {
    hall: Hall,
    directory: tempfile::TempDir,
}

impl Post {
    async fn new() -> Self {
        Self::with(echo().embed(4), limits()).await
    }

    async fn with(echo: EchoBuilder, limits: BatchLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batches");
        let hall =
            Hall::of(echo, Queen::builder(), |server| server.with_batches(path, limits).unwrap())
                .await;
        Self { hall, directory }
    }

    /// The names of all files in the directory.
    fn names(&self) -> Vec<String> {
        names(self.directory.path())
    }

    /// Uploads lines, and creates a batch for them. Returns its id.
    async fn begin(&self, endpoint: &str, lines: &str) -> String {
        begin(&self.hall, endpoint, lines).await
    }

    /// Runs a batch to its end.
    async fn run(&self, endpoint: &str, lines: &str) -> Value {
        let id = self.begin(endpoint, lines).await;
        ended(&self.hall, &id).await
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => names.extend(self::names(&path)),
            false => names.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
        }
    }
    names.sort_unstable();
    names
}

/// A form with these fields: a name and a text, or a file with its name.
fn form(fields: &[(&str, Option<&str>, &[u8])]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, filename, content) in fields {
        let filename = filename.map_or(String::new(), |it| format!("; filename=\"{it}\""));
        let head =
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    multipart(body.into())
}

fn multipart(body: Body) -> Request<Body> {
    let request = Request::post("/v1/files");
    request.header("content-type", "multipart/form-data; boundary=edge").body(body).unwrap()
}

fn upload(lines: &str) -> Request<Body> {
    form(&[("file", Some("in.jsonl"), lines.as_bytes()), ("purpose", None, b"batch")])
}

fn with_key(mut request: Request<Body>, key: Option<&str>) -> Request<Body> {
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// Uploads lines; returns the id of the file.
async fn file(hall: &Hall, lines: &str, key: Option<&str>) -> String {
    let reply = hall.send(with_key(upload(lines), key)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn create(hall: &Hall, endpoint: &str, file: &str, key: Option<&str>) -> Reply {
    let body = json!({"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"});
    hall.send(with_key(request(Method::POST, "/v1/batches", Some(body)), key)).await
}

async fn begin(hall: &Hall, endpoint: &str, lines: &str) -> String {
    let file = file(hall, lines, None).await;
    let reply = create(hall, endpoint, &file, None).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["status"], "validating");
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// The batch, as soon as it meets this condition.
async fn until(hall: &Hall, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let batch = hall.get(&format!("/v1/batches/{id}")).await.json();
            if holds(&batch) {
                return batch;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(TIMEOUT, wait).await {
        Ok(batch) => batch,
        Err(_) => panic!("{}", hall.get(&format!("/v1/batches/{id}")).await.text()),
    }
}

async fn ended(hall: &Hall, id: &str) -> Value {
    let is_ended = |batch: &Value| {
        ["completed", "failed", "expired", "cancelled"].contains(&batch["status"].as_str().unwrap())
    };
    until(hall, id, is_ended).await
}

/// The lines of a file.
async fn lines_of(hall: &Hall, file: &Value) -> Vec<Value> {
    let reply = hall.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string());
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line for a chat.
fn chat_line(id: &str, fields: Value) -> String {
    line(id, "/v1/chat/completions", crate::common::chat(fields))
}

fn line(id: &str, url: &str, body: Value) -> String {
    json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
}

/// The `custom_id`s of results, in order.
fn ids(results: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = results.iter().map(|it| it["custom_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}
