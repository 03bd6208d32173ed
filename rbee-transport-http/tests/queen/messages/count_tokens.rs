//! The number of tokens of a conversation.

use std::sync::Arc;

use http::StatusCode;
use rbee_core::{Error, ErrorKind, InProcessHive, Queen, worker::EchoWorker};
use rbee_transport_http::{server, wire::messages::COUNT_TOKENS};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Actor, hall_of};
use crate::common::{self, Hall, SlowFactory};

/// A conversation with 10 bytes of text.
fn body(fields: Value) -> Value {
    let body = json!({"model": "actor", "messages": [{"role": "user", "content": "0123456789"}]});
    crate::common::over(body, fields)
}

async fn hall(counts: Option<rbee_core::Result<u32>>) -> Hall {
    let mut actor = Actor::new(Vec::new());
    actor.counts = counts;
    hall_of(actor, Queen::builder()).await.0
}

#[tokio::test]
async fn a_ready_worker_counts_the_tokens() {
    let hall = hall(Some(Ok(77))).await;
    let reply = hall.post(COUNT_TOKENS, body(json!({"system": "x"}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json(), json!({"input_tokens": 77}));
    assert_eq!(hall.queen.status().await.unwrap().counters, Default::default());
}

#[tokio::test]
async fn if_no_worker_can_count_the_number_is_an_estimate_from_the_text() {
    let cannot = hall(None).await;
    let lost = Error::new(ErrorKind::WorkerUnreachable, "it does not answer");
    let unreachable = hall(Some(Err(lost))).await;
    for hall in [cannot, unreachable] {
        let reply = hall.post(COUNT_TOKENS, body(json!({}))).await;
        assert_eq!(reply.json(), json!({"input_tokens": 3}), "10 bytes, rounded up");
    }
}

#[tokio::test]
async fn a_prompt_that_the_model_refuses_is_refused_and_an_unknown_model_is_not_found() {
    let refused = Error::for_client(ErrorKind::InvalidRequest, "the template refuses it");
    let hall = hall(Some(Err(refused))).await;
    let reply = hall.post(COUNT_TOKENS, body(json!({}))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["message"], "the template refuses it");
    let reply = hall.post(COUNT_TOKENS, body(json!({"model": "no-such-model"}))).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
}

#[tokio::test]
async fn a_count_loads_no_model() {
    let (model, ready) = (common::model(), Arc::new(Semaphore::new(0)));
    let hive = InProcessHive::new().with_factory(SlowFactory(ready));
    let queen = Queen::builder().hive(hive).alias("slow", &model.reference).build().await.unwrap();
    let echo = EchoWorker::new("x".parse().unwrap());
    let hall = Hall { router: server::queen(queen.clone()), queen, echo };
    let reply = hall.post(COUNT_TOKENS, body(json!({"model": "slow"}))).await;
    assert_eq!(reply.json(), json!({"input_tokens": 3}), "{}", reply.text());
    assert_eq!(hall.queen.cluster().await.unwrap().workers().count(), 0);
}
