//! What clients get when the queen shuts down, and what they find when it is back.

use std::time::Duration;

use crate::common::{self, Hall, Reply, chat, echo, request, with_host};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use rbee_core::{
    JobState, MemoryRegistry, Queen, Settings,
    registry::JobFilter,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::wire::sse::{Event, Parser};
use serde_json::{Value, json};

fn keyed(path: &str, key: &str, body: Value) -> Request<Body> {
    let mut request = request(Method::POST, path, Some(body));
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn events_after(job: &str, after: Option<&str>) -> Request<Body> {
    let mut request = Request::get(format!("/v1/jobs/{job}/events"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    request.body(Body::empty()).unwrap()
}

/// Sends the request, and reads the response in the background.
fn ask(hall: &Hall, request: Request<Body>) -> tokio::task::JoinHandle<Reply> {
    let answer = tower::ServiceExt::oneshot(hall.router.clone(), with_host(request));
    tokio::spawn(async move {
        let (parts, body) = answer.await.unwrap().into_parts();
        let body = tokio::time::timeout(common::TIMEOUT, body.collect()).await;
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.unwrap().unwrap().to_bytes(),
        }
    })
}

fn ids(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.id.as_ref().unwrap().parse().unwrap()).collect()
}

fn retry(reply: &Reply) -> Option<Duration> {
    let mut parser = Parser::default();
    parser.push(&reply.body);
    while parser.next_event().unwrap().is_some() {}
    parser.retry()
}

async fn life(registry: &MemoryRegistry, gate: Option<&EchoGate>) -> Hall {
    let worker = match gate {
        Some(gate) => echo().gate(gate),
        None => echo(),
    };
    Hall::of(worker, Queen::builder().registry(registry.clone()), |server| server).await
}

/// Waits until the only job has emitted a token.
async fn begun(hall: &Hall) {
    let job = hall.queen.jobs(&JobFilter::default()).await.unwrap()[0].id;
    let mut reader = hall.queen.attach(job, None).await.unwrap();
    for _ in 0..2 {
        reader.next().await.unwrap();
    }
}

#[tokio::test]
async fn a_follower_of_a_job_that_goes_on_is_told_to_come_back_and_finds_the_rest() {
    let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
    let first = life(&registry, Some(&gate)).await;
    let job = first.submit(json!({"max_tokens": 9})).await;
    let follower = ask(&first, events_after(&job, None));
    gate.release(4);
    first.until(&job, |view| view["state"] == "running").await;
    let mut reader = first.queen.attach(job.parse().unwrap(), Some(3)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().seq, Some(4));
    first.queen.shutdown(Duration::ZERO).await.unwrap();
    let told = follower.await.unwrap();
    let before = told.events();
    assert_eq!(ids(&before), [0, 1, 2, 3, 4], "no number is used up by the end of the stream");
    assert!(before.iter().all(|event| matches!(&*event.name, "started" | "token")), "{before:?}");
    assert!(retry(&told).is_some(), "{}", told.text());
    // While the queen is still served, a reader that reconnects gets the same, and never the end of the job.
    let again = first.send(events_after(&job, Some("4"))).await;
    assert_eq!((again.status, retry(&again).is_some()), (StatusCode::OK, true));
    assert!(again.events().is_empty());
    let view = first.get(&format!("/v1/jobs/{job}")).await;
    assert_eq!(view.json()["state"], "queued", "its record can still be read");

    let second = life(&registry, None).await;
    let rest = second.send(events_after(&job, Some("4"))).await.events();
    assert_eq!(ids(&rest), [5, 6, 7, 8, 9, 10]);
    assert_eq!(&*rest[5].name, "end");
    second.quiet().await;
}

#[tokio::test]
async fn what_a_client_was_told_has_failed_is_not_run_later() {
    let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
    let first = life(&registry, Some(&gate)).await;
    let plain = |fields: Value| request(Method::POST, "/v1/chat/completions", Some(chat(fields)));
    let stream = ask(&first, plain(json!({"stream": true})));
    first.echo.until_active(1).await;
    gate.release(2);
    begun(&first).await;
    let whole = ask(&first, plain(json!({})));
    let several = ask(&first, plain(json!({"n": 2})));
    first.echo.until_active(4).await;
    first.queen.shutdown(Duration::ZERO).await.unwrap();
    for told in [whole, several] {
        let told = told.await.unwrap();
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(told.json()["error"]["code"], "shutting_down");
        assert_eq!(told.header("retry-after"), Some("1"));
    }
    let told = stream.await.unwrap();
    let last: Value = serde_json::from_slice(&told.events().pop().unwrap().data).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down", "{}", told.text());

    let second = life(&registry, None).await;
    assert!(second.queen.status().await.unwrap().restored.is_empty());
    let jobs = second.queen.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(jobs.len(), 4);
    assert!(jobs.iter().all(|job| job.status.state() == JobState::Failed), "{jobs:?}");
    assert_eq!(second.echo.started(), 0);
}

#[tokio::test]
async fn under_a_key_a_client_is_told_that_the_job_goes_on_and_gets_the_answer_by_asking_again() {
    let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
    let first = life(&registry, Some(&gate)).await;
    let path = "/v1/chat/completions";
    let whole = || keyed(path, "whole", chat(json!({"max_tokens": 6})));
    let stream = || keyed(path, "stream", chat(json!({"max_tokens": 7, "stream": true})));
    let streamed = ask(&first, stream());
    first.echo.until_active(1).await;
    gate.release(3);
    begun(&first).await;
    let asked = ask(&first, whole());
    first.echo.until_active(2).await;
    first.queen.hand_over().await.unwrap();

    let told = asked.await.unwrap();
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.json()["error"]["code"], "job_interrupted");
    assert!(told.header("retry-after").is_some());
    let told = streamed.await.unwrap();
    assert!(retry(&told).is_some() && !told.text().contains("[DONE]"), "{}", told.text());
    let last: Value = serde_json::from_slice(&told.events().pop().unwrap().data).unwrap();
    assert_eq!(last["error"]["code"], "job_interrupted");
    assert!(last["error"]["message"].as_str().unwrap().contains("goes on"), "{last}");

    let second = life(&registry, None).await;
    let answer = second.send(whole()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let content = &answer.json()["choices"][0]["message"]["content"];
    assert_eq!(*content, EchoWorker::text(7, 6));
    let chunks = second.send(stream()).await.chunks();
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, EchoWorker::text(7, 7));
    assert_eq!(second.queen.jobs(&JobFilter::default()).await.unwrap().len(), 2);
    second.quiet().await;
}

#[tokio::test]
async fn a_keys_answer_is_given_again_over_every_route_after_a_restart_and_after_its_events_are_gone()
 {
    let registry = MemoryRegistry::new();
    let build = || {
        let kept = Settings { events_kept: Duration::from_millis(1), ..Settings::default() };
        let queen = Queen::builder().registry(registry.clone()).settings(kept);
        Hall::of(echo().embed(4), queen, |server| server)
    };
    let asks = || {
        let prompt = json!({"model": "bee", "prompt": "x", "seed": 3, "max_tokens": 2});
        let prompts =
            json!({"model": "bee", "prompt": ["x", "y"], "n": 2, "seed": 3, "max_tokens": 2});
        [
            keyed("/v1/chat/completions", "a", chat(json!({}))),
            keyed("/v1/chat/completions", "b", chat(json!({"n": 3}))),
            keyed("/v1/chat/completions", "c", chat(json!({"stream": true}))),
            keyed("/v1/completions", "d", prompt),
            keyed("/v1/completions", "e", prompts),
            keyed("/v1/embeddings", "f", json!({"model": "bee", "input": ["a", "b"]})),
        ]
    };
    let all = async |hall: &Hall| {
        let mut told = Vec::new();
        for request in asks() {
            let reply = hall.send(request).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            let text = reply.text();
            let without_time = match text.find("\"created\":") {
                Some(at) => text.replace(&text[at..at + 20], ""),
                None => text,
            };
            told.push((reply.header("x-rbee-job-id").map(str::to_owned), without_time));
        }
        told
    };
    let first = build().await;
    let told = all(&first).await;
    tokio::time::sleep(Duration::from_millis(3)).await;
    first.post("/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(all(&first).await, told, "when the events are no longer kept in memory");
    first.queen.shutdown(Duration::ZERO).await.unwrap();
    let second = build().await;
    assert_eq!(all(&second).await, told, "after a restart");
    assert_eq!(second.echo.started(), 0, "nothing is done again");
}

#[tokio::test]
async fn the_answers_of_one_request_meet_no_key_of_another() {
    let hall = Hall::new().await;
    let path = "/v1/chat/completions";
    let three = hall.send(keyed(path, "k", chat(json!({"n": 3})))).await;
    assert_eq!(three.status, StatusCode::OK);
    // The second choice has the next seed: with the old key it would be this same job.
    let own = hall.send(keyed(path, "k#1", chat(json!({"seed": 8})))).await;
    assert_eq!(own.status, StatusCode::OK);
    let jobs = hall.queen.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(jobs.len(), 4, "each is a job of its own");
    for fields in [json!({}), json!({"n": 2})] {
        let other = hall.send(keyed(path, "k", chat(fields))).await;
        assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.text());
    }
    let long = keyed(path, &"x".repeat(255), chat(json!({"n": 2})));
    assert_eq!(hall.send(long).await.status, StatusCode::OK, "the longest key may be shared, too");
    hall.quiet().await;
}

#[tokio::test]
async fn a_job_can_be_looked_at_when_the_queen_has_gone_down_and_none_is_accepted() {
    let hall = Hall::with(echo().gate(&EchoGate::new())).await;
    let job = hall.submit(json!({})).await;
    hall.queen.shutdown(Duration::ZERO).await.unwrap();
    let view = hall.get(&format!("/v1/jobs/{job}")).await;
    assert_eq!(view.status, StatusCode::OK, "{}", view.text());
    let refused = hall.post("/v1/jobs", common::job(json!({}))).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"]["code"], "SHUTTING_DOWN");
    assert_eq!(refused.json()["error"]["details"]["retry_after_ms"], 1_000);
    assert_eq!(refused.header("retry-after"), Some("1"));
}
