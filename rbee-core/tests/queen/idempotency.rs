//! Requests that are submitted twice and must run once.

use std::{sync::Arc, time::Duration};

use crate::queen_support::{MODEL, echo, queen, quiet, read, request};
use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, Finish, JobHandle, MemoryRegistry, Output, OutputStream, Queen, Registry, Request,
    Result, Run, Settings, SqliteRegistry, Worker, WorkerInfo, async_trait,
    id::QueenId,
    registry::JobFilter,
    worker::{EchoFault, EchoGate, EchoWorker, WorkerHealth},
};

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
    // A client that disconnects and comes back with its key.
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

/// How long events are kept in tests where they must soon be gone.
const SHORT: Duration = Duration::from_millis(1);

/// A worker that counts one token more than it returns, as engines do that hold back the end-of-text token.
#[derive(Debug)]
struct CountsOneMore(Arc<EchoWorker>);

#[async_trait]
impl Worker for CountsOneMore {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.0.info()
    }
    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let outputs = self.0.execute(run).await?;
        Ok(Box::pin(outputs.map(|output| {
            output.map(|output| match output {
                Output::End { mut usage, .. } => {
                    usage.completion_tokens += 1;
                    Output::End { finish: Finish::Stop, usage, stop_text: None }
                }
                other => other,
            })
        })))
    }
    async fn health(&self) -> Result<WorkerHealth> {
        self.0.health().await
    }
}

/// One request of each kind of end and of answer, each with its own key.
fn all_kinds() -> [Request; 5] {
    let keyed = |n: u64| request(n, 20).idempotency_key(format!("key-{n}"));
    [
        keyed(1),
        keyed(2).detached(),
        Request::embed(MODEL, ["a", "b"]).idempotency_key("vectors"),
        keyed(3),
        // This one is cancelled.
        keyed(4).user("cancel"),
    ]
}

/// Everything that a reader of each gets, except the exact time in the queue.
async fn tell(handles: Vec<JobHandle>) -> Vec<String> {
    let mut told = Vec::new();
    for mut handle in handles {
        let mut events = Vec::new();
        while let Some(event) = handle.next().await {
            if !matches!(event.kind, rbee_core::EventKind::Started(_)) {
                events.push(format!("{event:?}"));
            }
        }
        told.push(events.join(", "));
    }
    told
}

async fn submit_all_kinds(queen: &Queen) -> Vec<JobHandle> {
    let mut handles = Vec::new();
    for request in all_kinds() {
        handles.push(queen.submit(request).await.unwrap());
    }
    let parts = (0..3).map(|part| {
        request(10 + u64::from(part), 9).idempotency_key("several").idempotency_part(part, 3)
    });
    handles.extend(queen.submit_all(parts).await.unwrap());
    handles
}

#[tokio::test]
async fn whatever_was_submitted_under_a_key_is_answered_again_as_long_as_its_record() {
    let dir = tempfile::tempdir().unwrap();
    for is_on_disk in [false, true] {
        let registry: Arc<dyn Registry> = match is_on_disk {
            false => Arc::new(MemoryRegistry::new()),
            true => Arc::new(SqliteRegistry::open(dir.path().join("rbee.db")).unwrap()),
        };
        let build = |worker| {
            let settings = Settings { events_kept: SHORT, ..Settings::default() };
            let queen = queen().id(QueenId::new("q").unwrap()).settings(settings);
            queen.registry(registry.clone()).worker(CountsOneMore(worker)).build()
        };
        let gate = EchoGate::new();
        let worker = echo().slots(8).embed(8).gate(&gate).build();
        let first = build(worker.clone()).await.unwrap();
        let handles = submit_all_kinds(&first).await;
        handles[4].cancel();
        gate.open();
        let told = tell(handles).await;
        assert!(told[0].contains("completion_tokens: 21"), "{}", told[0]);
        assert!(told[2].contains("Vectors") && told[4].contains("CANCELLED"), "{told:?}");

        // In the same run, after the events have left memory: the end of another job removes them.
        tokio::time::sleep(2 * SHORT).await;
        let plain = first.submit(request(99, 1)).await.unwrap();
        let plain_id = plain.id();
        read(plain).await.assert_whole(99, 1);
        tokio::time::sleep(2 * SHORT).await;
        read(first.submit(request(98, 1)).await.unwrap()).await.assert_whole(98, 1);
        assert_eq!(first.attach(plain_id, None).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tell(submit_all_kinds(&first).await).await, told);
        first.shutdown(Duration::ZERO).await.unwrap();

        let worker = echo().slots(8).embed(8).build();
        let second = build(worker.clone()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(tell(submit_all_kinds(&second).await).await, told);
        }
        let again = second.submit(all_kinds()[2].clone()).await.unwrap().answer().await.unwrap();
        assert_eq!((again.vectors.len(), again.vectors[0].len()), (2, 8));
        assert_eq!(worker.started(), 0, "nothing was done again");
    }
}

#[tokio::test]
async fn a_failure_under_a_key_is_told_again_with_all_that_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Arc::new(SqliteRegistry::open(dir.path().join("rbee.db")).unwrap());
    let build = || {
        let worker = echo().fault(EchoFault::Refuse(ErrorKind::ContextExceeded)).build();
        queen().id(QueenId::new("q").unwrap()).registry(registry.clone()).worker(worker).build()
    };
    let first = build().await.unwrap();
    let told = first.submit(keyed("a")).await.unwrap().answer().await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::ContextExceeded);
    first.shutdown(Duration::ZERO).await.unwrap();
    let second = build().await.unwrap();
    let again = second.submit(keyed("a")).await.unwrap().answer().await.unwrap_err();
    assert_eq!((again.kind(), again.message()), (told.kind(), told.message()));
}

#[tokio::test]
async fn answers_under_a_key_are_not_lost_where_many_others_take_their_room_in_memory() {
    let settings = Settings { events_bytes: 1 << 16, ..Settings::default() };
    let queen = queen().settings(settings).worker(echo().build()).build().await.unwrap();
    let keyed = |seed: u64| request(seed, 200).idempotency_key(format!("key-{seed}"));
    for seed in 0..40 {
        read(queen.submit(keyed(seed)).await.unwrap()).await.assert_whole(seed, 200);
    }
    for seed in 0..40 {
        let (one, two) = (queen.submit(keyed(seed)).await, queen.submit(keyed(seed)).await);
        read(one.unwrap()).await.assert_whole(seed, 200);
        read(two.unwrap()).await.assert_whole(seed, 200);
    }
}

#[tokio::test]
async fn jobs_that_share_a_key_meet_no_other_key_and_another_count_is_another_request() {
    let queen = queen().worker(echo().slots(8).build()).build().await.unwrap();
    let parts = |count: u32| {
        (0..count).map(move |part| {
            request(u64::from(part), 9).idempotency_key("k").idempotency_part(part, count)
        })
    };
    let several = queen.submit_all(parts(3)).await.unwrap();
    let mut ids: Vec<_> = several.iter().map(JobHandle::id).collect();
    for key in ["k#1", "k#2", "k1", "k-1"] {
        let own = queen.submit(request(1, 9).idempotency_key(key)).await.unwrap();
        ids.push(own.id());
        read(own).await.assert_whole(1, 9);
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "each is a job of its own");
    for (seed, job) in several.into_iter().enumerate() {
        read(job).await.assert_whole(seed as u64, 9);
    }
    let again = queen.submit_all(parts(3)).await.unwrap();
    assert!(again.iter().all(|job| ids.contains(&job.id())));
    for count in [2, 4] {
        let error = queen.submit_all(parts(count)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    let alone = queen.submit(request(0, 9).idempotency_key("k")).await.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Conflict);
    // Keys of the maximum length can be shared, too.
    let long =
        (0..2).map(|part| request(1, 9).idempotency_key("x".repeat(255)).idempotency_part(part, 2));
    assert_eq!(queen.submit_all(long).await.unwrap().len(), 2);
}
