//! Requests without a prompt, which load and unload models.

use std::sync::Arc;

use http::StatusCode;
use rbee_core::{InProcessHive, Queen, worker::EchoWorker};
use rbee_transport_http::server::QueenServer;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::ask;
use crate::common::{Hall, Model, SlowFactory, model};

/// A hall whose hive loads the model `slow` as soon as the test allows it.
async fn hangar() -> (Hall, Model, Arc<Semaphore>) {
    let (model, ready) = (model(), Arc::new(Semaphore::new(0)));
    let hive = InProcessHive::new().with_factory(SlowFactory(ready.clone()));
    let queen = Queen::builder().hive(hive).alias("slow", &model.reference).build().await.unwrap();
    let router = QueenServer::new(queen.clone()).router();
    (Hall { queen, router, echo: EchoWorker::new("x".parse().unwrap()) }, model, ready)
}

async fn workers(hall: &Hall) -> Vec<Value> {
    hall.get("/v1/workers").await.json()["data"].as_array().unwrap().clone()
}

fn done(reason: &str, fields: Value) -> Value {
    crate::common::over(json!({"model": "slow", "done": true, "done_reason": reason}), fields)
}

fn without_time(mut object: Value) -> Value {
    assert!(object.as_object_mut().unwrap().remove("created_at").is_some());
    object
}

#[tokio::test]
async fn a_request_without_a_prompt_is_answered_when_the_model_is_loaded() {
    let (hall, _model, ready) = hangar().await;
    let load = hall.post("/api/generate", json!({"model": "slow", "keep_alive": "10m"}));
    let finish = async {
        while !workers(&hall).await.iter().any(|worker| worker["state"] == "loading") {
            tokio::task::yield_now().await;
        }
        assert_eq!(hall.get("/api/ps").await.json(), json!({"models": []}), "not loaded yet");
        ready.add_permits(1);
    };
    let (reply, ()) = tokio::join!(load, finish);
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(without_time(reply.json()), done("load", json!({"response": ""})));
    let loaded = workers(&hall).await;
    assert_eq!((loaded.len(), &loaded[0]["state"]), (1, &json!("idle")));
    assert_eq!(loaded[0]["pinned"], false);

    // It is loaded already. For ever means that it is never evicted.
    let again =
        ask(&hall, "/api/chat", json!({"model": "slow:latest", "messages": [], "keep_alive": -1}))
            .await;
    let message = json!({"role": "assistant", "content": ""});
    assert_eq!(
        without_time(again.json()),
        done("load", json!({"model": "slow:latest", "message": message}))
    );
    let loaded = workers(&hall).await;
    assert_eq!((loaded.len(), &loaded[0]["pinned"]), (1, &json!(true)));
    let listed = hall.get("/api/ps").await.json();
    assert_eq!(listed["models"][0]["name"], "slow:latest");

    let unload = json!({"model": "slow", "keep_alive": "0s"});
    let unloaded = ask(&hall, "/api/generate", unload.clone()).await;
    assert_eq!(without_time(unloaded.json()), done("unload", json!({"response": ""})));
    while !workers(&hall).await.is_empty() {
        tokio::task::yield_now().await;
    }
    // There is nothing to unload any more, which is no error.
    ask(&hall, "/api/generate", unload).await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_an_error() {
    let (hall, model, _ready) = hangar().await;
    for (body, status) in [
        (json!({"model": "nobody"}), StatusCode::NOT_FOUND),
        (json!({"model": "nobody", "keep_alive": 0}), StatusCode::NOT_FOUND),
    ] {
        let reply = hall.post("/api/generate", body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
    }
    drop(model);
    let reply = hall.post("/api/chat", json!({"model": "slow"})).await;
    assert!(reply.status.is_client_error() || reply.status.is_server_error(), "{}", reply.text());
    assert!(super::error(&reply).contains("model"), "{}", reply.text());
}

#[tokio::test]
async fn a_model_of_a_worker_without_files_is_loaded_already() {
    let hall = Hall::new().await;
    for name in ["bee", "echo", "echo:latest"] {
        let reply = ask(&hall, "/api/generate", json!({"model": name, "prompt": ""})).await;
        assert_eq!(reply.json()["done_reason"], "load", "{name}");
    }
    assert_eq!(workers(&hall).await.len(), 1);
}

#[tokio::test]
async fn a_request_for_no_vectors_loads_the_model() {
    let (hall, _model, ready) = hangar().await;
    ready.add_permits(1);
    let empty = ask(&hall, "/api/embed", json!({"model": "slow", "input": []})).await.json();
    assert_eq!(empty["embeddings"], json!([]));
    assert_eq!(workers(&hall).await.len(), 1);
    let older = ask(&hall, "/api/embeddings", json!({"model": "slow"})).await.json();
    assert_eq!(older, json!({"embedding": []}));
}
