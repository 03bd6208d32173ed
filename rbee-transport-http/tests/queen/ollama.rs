//! Ollama's API, as a client sees it.

mod access;
mod answers;
mod loading;
mod models;
mod requests;
mod scripted;

use crate::common::{Hall, Reply};
use http::StatusCode;
use serde_json::Value;

/// Posts a request, which must be answered.
async fn ask(hall: &Hall, path: &str, body: Value) -> Reply {
    let reply = hall.post(path, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply
}

/// The objects of a stream, one in each line. The last one ends it.
fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = reply.text();
    assert!(text.ends_with('\n'), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An object without the values that change from run to run, all of which it must have.
fn steady(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    let created = fields.remove("created_at").unwrap();
    assert!(created.as_str().unwrap().ends_with('Z'), "{created}");
    if fields["done"] == true {
        let mut duration = |name: &str| fields.remove(name).unwrap().as_u64().unwrap();
        let total = duration("total_duration");
        let parts = ["load_duration", "prompt_eval_duration", "eval_duration"].map(&mut duration);
        assert!(parts.iter().sum::<u64>() <= total + 1 && parts[2] > 0, "{total} {parts:?}");
    }
    object
}

/// The sentence of an error.
fn error(reply: &Reply) -> String {
    let body = reply.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"].as_str().unwrap().to_owned()
}
