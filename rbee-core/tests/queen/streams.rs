//! Streams: complete, numbered, resumable, independent of each other.

use std::time::Duration;

use crate::queen_support::{MODEL, Seen, echo, model, queen, quiet, read, request};
use rbee_core::{
    ErrorKind, EventKind, JobState, Queen, Request, Settings, Worker, settings::KeepRequests,
    worker::EchoGate,
};

#[tokio::test]
async fn a_stream_is_numbered_by_its_tokens_and_its_end_is_recorded_before_it_is_told() {
    let queen = queen().worker(echo().metrics().build()).build().await.unwrap();
    let mut job = queen.submit(request(5, 50)).await.unwrap();
    let id = job.id();
    let mut seen = Seen::default();
    while let Some(event) = job.next().await {
        if event.kind.is_terminal() {
            assert_eq!(queen.job(id).await.unwrap().status.state(), JobState::Complete);
        }
        if matches!(event.kind, EventKind::Metrics(_)) {
            assert_eq!(event.seq, None);
        }
        seen.take(event);
    }
    seen.assert_whole(5, 50);
    let record = queen.job(id).await.unwrap();
    assert_eq!((record.tokens_generated, record.attempts), (50, 1));
    assert!(record.request.is_none() && record.chunks.is_empty(), "the text is erased");
    quiet(&queen).await;
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_the_rest_without_a_gap_or_a_repeat() {
    let gate = EchoGate::new();
    let queen = queen().worker(echo().gate(&gate).build()).build().await.unwrap();
    let mut job = queen.submit(request(6, 30).detached()).await.unwrap();
    gate.release(12);
    let mut first = Seen::default();
    while first.tokens < 12 {
        first.take(job.next().await.unwrap());
    }
    let id = job.id();
    drop(job);
    // While the job runs, from the beginning and from the middle at once.
    let again = queen.attach(id, None).await.unwrap();
    let rest = queen.attach(id, Some(12)).await.unwrap();
    gate.open();
    let (again, rest) = tokio::join!(read(again), read(rest));
    again.assert_whole(6, 30);
    assert_eq!(rest.seqs, (13..=31).collect::<Vec<_>>());
    assert_eq!(format!("{}{}", first.text, rest.text), again.text);
    // After the end.
    let late = read(queen.attach(id, Some(29)).await.unwrap()).await;
    assert_eq!(late.seqs, [30, 31]);
    let past = read(queen.attach(id, Some(31)).await.unwrap()).await;
    assert!(past.seqs.is_empty() && past.end.is_none());
    // No reader can have seen this much, but one that claims it gets the end.
    for beyond in [32, 1_000, u64::MAX] {
        let end = read(queen.attach(id, Some(beyond)).await.unwrap()).await;
        assert_eq!(end.seqs, [31], "after {beyond}");
    }
}

#[tokio::test]
async fn a_job_whose_handle_is_dropped_is_cancelled_unless_it_is_detached() {
    let gate = EchoGate::new();
    let worker = echo().slots(4).gate(&gate).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();

    let dropped = queen.submit(request(1, 9)).await.unwrap();
    worker.until_active(1).await;
    let id = dropped.id();
    drop(dropped);
    worker.until_active(0).await;
    quiet(&queen).await;
    assert_eq!(queen.job(id).await.unwrap().status.state(), JobState::Cancelled);

    let cancelled = queen.submit(request(2, 9)).await.unwrap();
    worker.until_active(1).await;
    cancelled.cancel();
    assert_eq!(read(cancelled).await.error().kind(), ErrorKind::Cancelled);
    worker.until_active(0).await;

    let id = queen.submit(request(3, 9)).await.unwrap().detach();
    gate.open();
    read(queen.attach(id, None).await.unwrap()).await.assert_whole(3, 9);
    quiet(&queen).await;
}

#[tokio::test]
async fn a_submission_that_is_dropped_half_way_leaves_nothing_behind() {
    let worker = echo().gate(&EchoGate::new()).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    {
        let submission = queen.submit(request(1, 9));
        tokio::pin!(submission);
        let poll = std::future::poll_fn(|cx| {
            let _ = std::future::Future::poll(submission.as_mut(), cx);
            std::task::Poll::Ready(())
        });
        poll.await;
    }
    quiet(&queen).await;
    assert_eq!(worker.active(), 0);
}

#[tokio::test]
async fn a_reader_that_does_not_read_delays_no_other() {
    let queen = queen().worker(echo().slots(2).build()).build().await.unwrap();
    let mut sleeper = queen.submit(request(1, 2_000)).await.unwrap();
    for seed in 10..40 {
        read(queen.submit(request(seed, 20)).await.unwrap()).await.assert_whole(seed, 20);
    }
    let mut seen = Seen::default();
    while let Some(event) = sleeper.next().await {
        seen.take(event);
    }
    seen.assert_whole(1, 2_000);
}

#[tokio::test]
async fn vectors_come_whole() {
    let queen = queen().worker(echo().embed(8).build()).build().await.unwrap();
    let job = queen.submit(Request::embed(MODEL, ["a", "b"])).await.unwrap();
    let answer = job.answer().await.unwrap();
    assert_eq!(answer.vectors.len(), 2);
    assert_eq!(answer.vectors[0].len(), 8);
    quiet(&queen).await;
}

#[tokio::test]
async fn a_rerank_goes_to_a_worker_that_can_and_its_scores_come_whole() {
    let (writer, reranker) =
        (echo().build(), echo().rerank().info(|i| i.capabilities.generate = false));
    let reranker = reranker.build();
    let queen = queen().worker(writer.clone()).worker(reranker.clone()).build().await.unwrap();
    let ask = || Request::rerank(MODEL, "the bee", ["a bee", "lily", "the bee"]);
    let keyed = || ask().idempotency_key("once");
    for _ in 0..4 {
        let answer = queen.submit(ask()).await.unwrap().answer().await.unwrap();
        assert_eq!(
            (answer.scores(), answer.worker),
            (&[0.5, 0.0, 1.0][..], Some(Worker::info(&reranker).id))
        );
        assert!(answer.usage.prompt_tokens > 0 && answer.text.is_empty());
    }
    let first = queen.submit(keyed()).await.unwrap();
    let (id, first) = (first.id(), first.answer().await.unwrap());
    let again = queen.submit(keyed()).await.unwrap();
    assert_eq!(again.id(), id, "the same key is the same job");
    assert_eq!(again.answer().await.unwrap().vectors, first.vectors);
    let other = Request::rerank(MODEL, "the lily", ["a bee"]).idempotency_key("once");
    assert_eq!(queen.submit(other).await.unwrap_err().kind(), ErrorKind::Conflict);
    let chat = queen.submit(Request::chat(MODEL).user("Hi").max_tokens(2)).await.unwrap();
    assert_eq!(chat.answer().await.unwrap().worker, Some(Worker::info(&writer).id));
    quiet(&queen).await;
}

#[tokio::test]
async fn events_of_ended_jobs_are_kept_within_the_bound_of_memory() {
    let settings = Settings { events_bytes: 1 << 16, ..Settings::default() };
    let queen = queen().settings(settings).worker(echo().build()).build().await.unwrap();
    let mut ids = Vec::new();
    for seed in 0..40 {
        let job = queen.submit(request(seed, 200)).await.unwrap();
        ids.push(job.id());
        read(job).await;
    }
    assert!(queen.attach(ids[39], None).await.is_ok());
    let error = queen.attach(ids[0], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("no longer kept"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_of_ended_jobs_are_kept_for_ten_minutes_and_a_detached_result_longer() {
    let queen = queen().worker(echo().build()).build().await.unwrap();
    let attached = queen.submit(request(1, 9)).await.unwrap();
    let (id, detached) =
        (attached.id(), queen.submit(request(2, 9).detached()).await.unwrap().detach());
    read(attached).await;
    read(queen.attach(detached, None).await.unwrap()).await.assert_whole(2, 9);
    tokio::time::sleep(Duration::from_secs(599)).await;
    read(queen.attach(id, None).await.unwrap()).await.assert_whole(1, 9);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(queen.attach(id, None).await.unwrap_err().kind(), ErrorKind::NotFound);
    read(queen.attach(detached, None).await.unwrap()).await.assert_whole(2, 9);
}

#[tokio::test(start_paused = true)]
async fn a_stored_request_is_kept_with_its_answer_and_its_metadata() {
    let queen = queen().worker(echo().build()).build().await.unwrap();
    let stored = request(1, 9).stored(true).metadata("of the client");
    let [stored, plain] = [stored, request(2, 9).metadata("too")].map(|request| {
        let queen = queen.clone();
        async move {
            let job = queen.submit(request).await.unwrap();
            let id = job.id();
            read(job).await;
            id
        }
    });
    let (stored, plain) = (stored.await, plain.await);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    read(queen.attach(stored, None).await.unwrap()).await.assert_whole(1, 9);
    let record = queen.job(stored).await.unwrap();
    let kept = record.request.unwrap();
    assert_eq!(kept.metadata.as_deref(), Some("of the client"));
    assert_eq!(kept.task, *request(1, 9).task());
    assert!(record.output_kept);
    assert_eq!(queen.job(plain).await.unwrap().request, None, "nobody asked to keep it");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_a_stored_request() {
    let gate = EchoGate::new();
    let queen = queen().worker(echo().gate(&gate).build()).build().await.unwrap();
    let job = queen.submit(request(1, 9).stored(true)).await.unwrap();
    let id = job.id();
    drop(job);
    let mut events = queen.attach(id, None).await.unwrap();
    while events.next().await.is_some() {}
    assert_eq!(queen.job(id).await.unwrap().status.state(), rbee_core::JobState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_queen_that_may_not_keep_requests_stores_none() {
    let settings = Settings { keep_requests: KeepRequests::Never, ..Settings::default() };
    let queen = queen().settings(settings).worker(echo().build()).build().await.unwrap();
    let job = queen.submit(request(1, 9).stored(true)).await.unwrap();
    let id = job.id();
    read(job).await;
    let record = queen.job(id).await.unwrap();
    assert_eq!((record.request, record.output_kept), (None, false));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_detached_while_it_came_is_kept_as_long_as_its_record() {
    let gate = EchoGate::new();
    let queen = queen().worker(echo().gate(&gate).build()).build().await.unwrap();
    let id = queen.submit(request(3, 9)).await.unwrap().detach();
    gate.open();
    read(queen.attach(id, None).await.unwrap()).await.assert_whole(3, 9);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    read(queen.attach(id, None).await.unwrap()).await.assert_whole(3, 9);
}

#[tokio::test]
async fn a_reader_of_a_queen_that_is_let_go_is_told_so() {
    let queen = queen().worker(echo().gate(&EchoGate::new()).build()).build().await.unwrap();
    let id = queen.submit(request(1, 9).detached()).await.unwrap().detach();
    let mut events = queen.attach(id, None).await.unwrap();
    drop(queen);
    let mut seen = Seen::default();
    while let Some(event) = events.next().await {
        seen.take(event);
    }
    assert!(seen.end.is_none() && events.is_done());
    assert_eq!(events.interruption().unwrap().kind(), ErrorKind::Interrupted);
}

#[tokio::test]
async fn what_is_asked_about_a_request_is_explained_and_not_submitted() {
    let (idle, other) = (echo().build(), echo().slots(2).build());
    let queen = queen().worker(idle.clone()).worker(other).build().await.unwrap();
    let explained = queen.policy().explain(request(1, 9)).await.unwrap();
    assert_eq!(explained.candidates.len(), 2, "{explained:?}");
    assert!(explained.placement.is_ok());
    assert_eq!(idle.started(), 0);
    assert!(queen.policy().explain(request(1, 9).temperature(9.0)).await.is_err());
}

#[tokio::test]
async fn an_alias_stands_for_its_model_and_an_unknown_one_is_refused_by_name() {
    let queen = queen().alias("pet", MODEL).worker(echo().build()).build().await.unwrap();
    let answer = queen.submit(Request::chat("pet").user("hi")).await.unwrap().answer().await;
    assert_eq!(answer.unwrap().usage.completion_tokens, 16);
    let unknown = queen.submit(Request::chat("pest").user("hi")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::ModelNotFound);
    assert!(unknown.message().contains("pest"), "{unknown}");
    let malformed = queen.submit(Request::chat("hf:nope").user("hi")).await.unwrap_err();
    assert_eq!(malformed.kind(), ErrorKind::InvalidRequest);
    let bad = Queen::builder().alias("a b", MODEL).build().await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Config);
    assert_eq!(model().as_str(), MODEL);
}
