//! Submitting twice what shall be done once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/queen.rs"]
mod queen_support;

use std::{sync::Arc, time::Duration};

use queen_support::{echo, queen, quiet, read, request};
use rbee_core::{EchoGate, ErrorKind, JobFilter, MemoryRegistry, QueenId, Request};

fn keyed(key: &str) -> Request {
    request(3, 20).idempotency_key(key)
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_done_once_and_read_by_all() {
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).slots(4).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    let first = queen.submit(keyed("a")).await.unwrap();
    let second = queen.submit(keyed("a")).await.unwrap();
    let other = queen.submit(keyed("b")).await.unwrap();
    assert_eq!(first.id(), second.id());
    assert_ne!(first.id(), other.id());
    // A client that goes away, to come back with its key.
    drop(first);
    gate.open();
    read(second).await.assert_whole(3, 20);
    read(other).await.assert_whole(3, 20);
    read(queen.submit(keyed("a")).await.unwrap()).await.assert_whole(3, 20);
    assert_eq!(worker.started(), 2);
    assert_eq!(queen.jobs(&JobFilter::default()).await.unwrap().len(), 2);
    quiet(&queen).await;
}

#[tokio::test]
async fn many_at_once_under_one_key_are_one_job() {
    let worker = echo().slots(8).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    let submits = (0..50).map(|_| async { read(queen.submit(keyed("a")).await.unwrap()).await });
    for seen in futures_util::future::join_all(submits).await {
        seen.assert_whole(3, 20);
    }
    assert_eq!(worker.started(), 1);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused_while_the_first_runs_and_after_its_end() {
    let gate = EchoGate::new();
    let queen = queen().worker(echo().gate(&gate).build()).build().await.unwrap();
    let first = queen.submit(keyed("a")).await.unwrap();
    let refused = || async { queen.submit(keyed("a").max_tokens(21)).await.unwrap_err() };
    assert_eq!(refused().await.kind(), ErrorKind::Conflict);
    gate.open();
    read(first).await.assert_whole(3, 20);
    let error = refused().await;
    assert_eq!((error.kind(), error.param()), (ErrorKind::Conflict, Some("idempotency_key")));
}

#[tokio::test]
async fn a_key_is_remembered_over_a_restart() {
    let registry = Arc::new(MemoryRegistry::new());
    let build = |worker| {
        let queen = queen().id(QueenId::new("q").unwrap());
        queen.registry(registry.clone()).worker(worker).build()
    };
    let before = build(echo().build()).await.unwrap();
    let job = before.submit(keyed("a").detached()).await.unwrap();
    let id = job.id();
    read(job).await.assert_whole(3, 20);
    before.shutdown(Duration::ZERO).await.unwrap();
    let worker = echo().build();
    let after = build(worker.clone()).await.unwrap();
    let again = after.submit(keyed("a").detached()).await.unwrap();
    assert_eq!(again.id(), id);
    read(again).await.assert_whole(3, 20);
    assert_eq!(worker.started(), 0);
}
