//! Jobs over HTTP: detached, followed, resumed, cancelled.

use std::sync::Arc;

use crate::common::{self, Hall, Model, SlowFactory, chat, echo, model, next, request, with_host};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use rbee_core::{
    InProcessHive, Queen,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::{server, wire::sse::Event};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

async fn follow(hall: &Hall, job: &str, after: Option<&str>) -> common::Reply {
    hall.send(events_after(job, after)).await
}

fn events_after(job: &str, after: Option<&str>) -> Request<Body> {
    let mut request = Request::get(format!("/v1/jobs/{job}/events"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    request.body(Body::empty()).unwrap()
}

fn ids(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.id.as_ref().unwrap().parse().unwrap()).collect()
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| &*event.name).collect()
}

fn text(events: &[Event]) -> String {
    let tokens = events.iter().filter(|event| &*event.name == "token");
    let text = |event: &Event| {
        let token: Value = serde_json::from_slice(&event.data).unwrap();
        token["text"].as_str().unwrap().to_owned()
    };
    tokens.map(text).collect()
}

#[tokio::test]
async fn a_detached_job_runs_without_a_reader_and_keeps_its_answer() {
    let hall = Hall::new().await;
    let reply = hall.post("/v1/jobs", common::job(json!({"priority": "batch"}))).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("location"), Some(&*format!("/v1/jobs/{id}")));
    assert_eq!(reply.header("x-rbee-job-id"), Some(&*id));
    let view = hall.until(&id, |view| view["state"] == "complete").await;
    assert_eq!(view["text"], EchoWorker::text(7, 4));
    assert_eq!(
        (&view["priority"], &view["tokens"], &view["attempts"]),
        (&json!("batch"), &json!(4), &json!(1))
    );
    assert_eq!(view["correlation_id"].as_str(), reply.header("x-correlation-id"));
    assert!(view["completed_at_ms"].as_u64() >= view["started_at_ms"].as_u64());
    hall.quiet().await;
}

#[tokio::test]
async fn a_job_may_be_bare_text_or_vectors() {
    let hall = Hall::with(echo().embed(4)).await;
    let text = hall
        .post("/v1/jobs", json!({"model": "bee", "prompt": "x", "seed": 3, "max_tokens": 2}))
        .await;
    let id = text.json()["id"].as_str().unwrap().to_owned();
    let view = hall.until(&id, |view| view["state"] == "complete").await;
    assert_eq!(view["text"], EchoWorker::text(3, 2));

    let vectors = hall.post("/v1/jobs", json!({"model": "bee", "input": ["a", "b"]})).await;
    let id = vectors.json()["id"].as_str().unwrap().to_owned();
    let events = follow(&hall, &id, None).await.events();
    assert_eq!(names(&events), ["started", "vectors", "end"]);
    let vectors: Vec<Vec<f32>> = serde_json::from_slice(&events[1].data).unwrap();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);

    for (body, param) in [
        (json!({"model": "bee"}), "messages"),
        (json!({"model": "bee", "prompt": "x", "input": "y"}), "messages"),
        (json!({"model": "bee", "prompt": ["x"]}), "prompt"),
        (json!({"model": "bee", "prompt": "x", "stream": true}), "stream"),
        (json!({"model": "bee", "prompt": "x", "n": 2}), "n"),
        (json!({"model": "bee", "prompt": "x", "color": 2}), "color"),
        (json!({"model": "bee", "prompt": "x", "timeout_ms": 0}), "timeout"),
        (json!({"model": "bee", "prompt": "x", "priority": "urgent"}), "priority"),
    ] {
        let reply = hall.post("/v1/jobs", body.clone()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(reply.json()["error"]["details"]["param"], param, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "INVALID_REQUEST");
    }
    hall.quiet().await;
}

#[tokio::test]
async fn events_resume_after_any_of_them_without_a_gap_or_a_repeat() {
    let hall = Hall::new().await;
    let job = hall.submit(json!({"max_tokens": 6})).await;
    let whole = follow(&hall, &job, None).await.events();
    assert_eq!(ids(&whole), (0..=7).collect::<Vec<_>>());
    assert_eq!(names(&whole)[..2], ["started", "token"]);
    assert_eq!(names(&whole)[7], "end");
    assert_eq!(text(&whole), EchoWorker::text(7, 6));
    for seen in 0..7 {
        let rest = follow(&hall, &job, Some(&seen.to_string())).await;
        assert_eq!(rest.events(), whole[seen + 1..], "after {seen}");
    }
    let rest = follow(&hall, &job, Some("7")).await;
    assert_eq!(rest.status, StatusCode::NO_CONTENT, "there is nothing to come back for");
    for seen in ["8", "18446744073709551615"] {
        let rest = follow(&hall, &job, Some(seen)).await;
        assert_eq!(rest.events(), whole[7..], "one that is ahead gets the end all the same");
    }
    let empty = follow(&hall, &job, Some("")).await;
    assert_eq!(empty.events(), whole, "nothing was seen yet");
}

#[tokio::test]
async fn events_resume_while_the_job_runs() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let job = hall.submit(json!({"max_tokens": 5})).await;
    gate.release(3);
    hall.until(&job, |view| view["state"] == "running").await;

    // Two readers: one that has received the first token, and one that disconnects in the middle.
    let mut late = hall.begin(events_after(&job, Some("1"))).await.into_body();
    let mut first = hall.begin(events_after(&job, None)).await.into_body();
    let mut seen = String::new();
    while !seen.contains("id: 3\n") {
        seen += &next(&mut first).await.unwrap();
    }
    drop(first);
    gate.open();
    let rest = follow(&hall, &job, Some("3")).await.events();
    assert_eq!(ids(&rest), [4, 5, 6]);
    let mut read = String::new();
    while let Some(more) = next(&mut late).await {
        read += &more;
    }
    let mut parser = rbee_transport_http::wire::sse::Parser::default();
    parser.push(read.as_bytes());
    let late: Vec<_> = std::iter::from_fn(|| parser.next_event().unwrap()).collect();
    assert_eq!(ids(&late), [2, 3, 4, 5, 6]);
    let view = hall.until(&job, |view| view["state"] == "complete").await;
    assert_eq!(view["attempts"], 1, "readers that go away end nothing");
    hall.quiet().await;
}

#[tokio::test]
async fn a_long_answer_is_written_in_small_parts_as_its_reader_reads() {
    // Plus the event that goes beyond it.
    const PART: usize = (16 << 10) + 1_000;
    let hall = Hall::new().await;
    for is_chat in [true, false] {
        let fields = json!({"max_tokens": 4_000, "stream": is_chat.then_some(true)});
        let begun = match is_chat {
            true => request(Method::POST, "/v1/chat/completions", Some(chat(fields))),
            false => events_after(&hall.submit(json!({"max_tokens": 4_000})).await, None),
        };
        let mut body = hall.begin(begun).await.into_body();
        // Nobody has read anything, and the worker is done.
        hall.quiet().await;
        let mut bytes = 0;
        while let Some(part) = next(&mut body).await {
            assert!(part.len() <= PART, "{} bytes at once", part.len());
            bytes += part.len();
        }
        assert!(bytes > 10 * PART, "{bytes}");
    }
}

#[tokio::test]
async fn a_place_in_the_events_that_is_no_number_is_refused() {
    let hall = Hall::new().await;
    let job = hall.submit(json!({})).await;
    for bad in ["x", "-1", "1.5", "+1", "18446744073709551616", "1 "] {
        let reply = follow(&hall, &job, Some(bad)).await;
        if bad.ends_with(' ') {
            continue;
        }
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad:?}");
        assert_eq!(reply.json()["error"]["details"]["param"], "last-event-id");
    }
    for path in
        ["/v1/jobs/x", "/v1/jobs/x/events", "/v1/jobs/67e55044-10b1-426f-9247-bb680e5fe0c8/events"]
    {
        let reply = hall.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.json()["error"]["code"], "NOT_FOUND");
        assert!(reply.json()["error"]["correlation_id"].is_string());
    }
}

#[tokio::test]
async fn cancelling_ends_a_job_that_waits_or_runs_and_leaves_one_that_has_ended() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().slots(1).gate(&gate)).await;
    let running = hall.submit(json!({})).await;
    hall.echo.until_active(1).await;
    let waiting = hall.submit(json!({})).await;
    let next_one = hall.submit(json!({})).await;
    assert_eq!(hall.get(&format!("/v1/jobs/{waiting}")).await.json()["position"], 0);
    assert_eq!(hall.get(&format!("/v1/jobs/{next_one}")).await.json()["position"], 1);
    for job in [&next_one, &waiting, &running] {
        let path = format!("/v1/jobs/{job}");
        let reply = hall.delete(&path).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.json()["state"], "cancelled");
        assert_eq!(
            hall.delete(&path).await.json(),
            hall.get(&path).await.json(),
            "once more changes nothing"
        );
    }
    assert_eq!(
        hall.delete("/v1/jobs/67e55044-10b1-426f-9247-bb680e5fe0c8").await.status,
        StatusCode::NOT_FOUND
    );
    hall.quiet().await;
    gate.open();
    let done = hall.submit(json!({})).await;
    hall.until(&done, |view| view["state"] == "complete").await;
    assert_eq!(hall.delete(&format!("/v1/jobs/{done}")).await.json()["state"], "complete");
}

#[tokio::test]
async fn jobs_are_listed_by_state_and_page_by_page() {
    let hall = Hall::new().await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let job = hall.submit(json!({})).await;
        hall.until(&job, |view| view["state"] == "complete").await;
        jobs.push(job);
    }
    jobs.reverse();
    let (mut listed, mut path) = (Vec::new(), "/v1/jobs?limit=2&state=complete,failed".to_owned());
    loop {
        let page = hall.get(&path).await.json();
        listed.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/jobs?limit=2&state=complete,failed&before={next}");
    }
    assert_eq!(listed, jobs);
    assert_eq!(hall.get("/v1/jobs?state=queued").await.json()["data"], json!([]));
    let gone = "before=67e55044-10b1-426f-9247-bb680e5fe0c8";
    for bad in ["limit=0", "limit=1001", "limit=-1", "state=done", "color=red", "before=x", gone] {
        let reply = hall.get(&format!("/v1/jobs?{bad}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_job_also_while_it_waits() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().slots(1).gate(&gate)).await;
    for stream in [false, true] {
        let ask = || hall.router.clone();
        let body = chat(json!({"stream": stream}));
        let post = |body: &Value| {
            with_host(request(Method::POST, "/v1/chat/completions", Some(body.clone())))
        };
        let running = tokio::spawn(tower::ServiceExt::oneshot(ask(), post(&body)));
        hall.echo.until_active(1).await;
        let waiting = tokio::spawn(tower::ServiceExt::oneshot(ask(), post(&body)));
        while hall.queen.status().await.unwrap().counters.waiting == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        while hall.queen.status().await.unwrap().counters.waiting > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hall.echo.active(), 1);
        running.abort();
        hall.quiet().await;
    }
    assert_eq!(hall.echo.runs().len(), 2, "those that waited never ran");
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_a_stream_cancels_its_job() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    gate.release(2);
    let body = chat(json!({"stream": true, "max_tokens": 100}));
    let mut answer =
        hall.begin(request(Method::POST, "/v1/chat/completions", Some(body))).await.into_body();
    assert!(next(&mut answer).await.unwrap().contains("\"role\":\"assistant\""));
    assert_eq!(hall.echo.active(), 1);
    drop(answer);
    hall.quiet().await;
}

#[tokio::test]
async fn the_same_key_gives_the_same_job() {
    let hall = Hall::new().await;
    let submit = |path: &'static str, key: &str, body: Value| {
        let mut request = request(Method::POST, path, Some(body));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        hall.send(request)
    };
    let first = submit("/v1/jobs", "a", common::job(json!({}))).await.json();
    let again = submit("/v1/jobs", "a", common::job(json!({}))).await.json();
    assert_eq!(first["id"], again["id"]);
    let other = submit("/v1/jobs", "b", common::job(json!({}))).await.json();
    assert_ne!(first["id"], other["id"]);
    let conflict = submit("/v1/jobs", "a", common::job(json!({"max_tokens": 9}))).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT, "{}", conflict.text());
    hall.until(first["id"].as_str().unwrap(), |view| view["state"] == "complete").await;

    for fields in [json!({}), json!({"stream": true}), json!({"n": 3})] {
        let key = format!("chat-{fields}").replace(' ', "");
        let one = submit("/v1/chat/completions", &key, chat(fields.clone())).await;
        let two = submit("/v1/chat/completions", &key, chat(fields)).await;
        assert_eq!(one.status, StatusCode::OK);
        assert_eq!(one.header("x-rbee-job-id"), two.header("x-rbee-job-id"));
        let without_time = |reply: &common::Reply| {
            let text = reply.text();
            let at = text.find("\"created\":").unwrap();
            text.replace(&text[at..at + 20], "")
        };
        assert_eq!(without_time(&one), without_time(&two), "the same answer, to the letter");
    }
    let long = submit("/v1/chat/completions", &"x".repeat(256), chat(json!({}))).await;
    assert_eq!(long.status, StatusCode::BAD_REQUEST);
    hall.quiet().await;
}

/// A queen on one hive that loads models as slowly as the test wants.
async fn loading() -> (Queen, Model, Arc<Semaphore>) {
    let (model, ready) = (model(), Arc::new(Semaphore::new(0)));
    let hive = InProcessHive::new().with_factory(SlowFactory(ready.clone()));
    let queen = Queen::builder().hive(hive).alias("slow", &model.reference).build().await.unwrap();
    (queen, model, ready)
}

#[tokio::test(start_paused = true)]
async fn while_a_model_loads_its_readers_are_told_how_far_it_has_come() {
    let (queen, _model, ready) = loading().await;
    let hall = Hall {
        router: server::queen(queen.clone()),
        queen,
        echo: EchoWorker::new("x".parse().unwrap()),
    };
    let body = chat(json!({"model": "slow", "stream": true}));
    let answer = hall.begin(request(Method::POST, "/v1/chat/completions", Some(body))).await;
    assert_eq!(answer.status(), StatusCode::OK, "the head does not wait for the model");
    let job = answer.headers()["x-rbee-job-id"].to_str().unwrap().to_owned();
    assert!(answer.headers().get("x-rbee-queue-ms").is_none(), "that is not known yet");
    let mut body = answer.into_body();
    for _ in 0..3 {
        assert_eq!(next(&mut body).await.unwrap(), ": loading slow on hive local, 40 %\n\n");
    }
    let view = hall.get(&format!("/v1/jobs/{job}")).await.json();
    assert_eq!(
        view["loading"],
        json!({"state": "loading", "hive": "local", "progress": {"done": 40, "total": 100}})
    );
    let mut events = hall.begin(events_after(&job, None)).await.into_body();
    assert_eq!(next(&mut events).await.unwrap(), ": loading slow on hive local, 40 %\n\n");
    ready.add_permits(1);
    let mut said = String::new();
    while let Some(more) = next(&mut body).await {
        said += &more;
    }
    assert!(said.ends_with("data: [DONE]\n\n"), "{said}");
    assert!(next(&mut events).await.unwrap().contains("event: started"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_told_its_place_and_one_whose_worker_is_slow_that_it_works() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().slots(1).gate(&gate)).await;
    let post =
        || request(Method::POST, "/v1/chat/completions", Some(chat(json!({"stream": true}))));
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(hall.begin(post()).await.into_body());
    }
    assert_eq!(next(&mut bodies[0]).await.unwrap(), ": working\n\n");
    assert_eq!(next(&mut bodies[1]).await.unwrap(), ": queued, next in line\n\n");
    assert_eq!(next(&mut bodies[2]).await.unwrap(), ": queued, 1 before you\n\n");
    drop(bodies);
    gate.open();
}
