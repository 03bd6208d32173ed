//! Restarts: an accepted job is never lost, whichever process dies.

use std::{sync::Arc, time::Duration};

use crate::queen_support::{Seen, echo, hive, model, queen, quiet, read, request};
use rbee_core::{
    ErrorKind, EventKind, JobState, MemoryRegistry, OutputStream, Result, Run, Settings, Worker,
    WorkerInfo, async_trait,
    id::QueenId,
    registry::JobFilter,
    settings::KeepRequests,
    worker::{EchoGate, EchoWorker, Resume, WorkerHealth},
};

fn id() -> QueenId {
    "queen".parse().unwrap()
}

#[tokio::test]
async fn a_restarted_queen_makes_the_same_stream_again_under_the_same_numbers() {
    let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
    let worker = echo().gate(&gate).build();
    let first =
        queen().id(id()).registry(registry.clone()).worker(worker.clone()).build().await.unwrap();
    let mut job = first.submit(request(9, 100)).await.unwrap();
    let name = job.id();
    gate.release(40);
    let mut seen = Seen::default();
    while seen.tokens < 40 {
        seen.take(job.next().await.unwrap());
    }
    let stored = first.job(name).await.unwrap().chunks.len();
    assert!(stored < 40, "the reader is ahead of the last checkpoint, {stored}");
    first.crash();
    drop((job, first));

    let second = queen().id(id()).registry(registry).worker(echo().build()).build().await.unwrap();
    assert_eq!(*second.status().await.unwrap().restored, [name]);
    let rest = read(second.attach(name, Some(40)).await.unwrap()).await;
    assert_eq!(rest.seqs, (41..=101).collect::<Vec<_>>());
    seen.text.push_str(&rest.text);
    assert_eq!(seen.text, rbee_core::worker::EchoWorker::text(9, 100));
    let record = second.job(name).await.unwrap();
    assert_eq!(
        (record.status.state(), record.attempts),
        (JobState::Complete, 1),
        "a crash costs no try"
    );
    quiet(&second).await;
}

#[tokio::test]
async fn a_pinned_worker_is_pinned_after_a_restart_and_one_that_is_not_any_more_is_not() {
    let registry = MemoryRegistry::new();
    let worker = || echo().hive("a".parse().unwrap()).build();
    let hive = Arc::new(hive("a").with_worker(worker()).with_worker(worker()));
    let build = || queen().id(id()).registry(registry.clone()).hive(hive.clone()).build();
    let first = build().await.unwrap();
    let workers: Vec<_> =
        first.cluster().await.unwrap().workers().map(|worker| worker.info.id).collect();
    for worker in &workers {
        first.fleet().pin(*worker, true).await.unwrap();
    }
    first.fleet().pin(workers[1], false).await.unwrap();
    first.crash();
    drop(first);
    let second = build().await.unwrap();
    let cluster = second.cluster().await.unwrap();
    let pinned = |n: usize| cluster.worker(workers[n]).unwrap().pinned;
    assert!(pinned(0) && !pinned(1));
}

#[tokio::test]
async fn queued_jobs_stay_in_their_order_over_a_restart() {
    let registry = MemoryRegistry::new();
    let gate = EchoGate::new();
    let first = queen()
        .id(id())
        .registry(registry.clone())
        .worker(echo().gate(&gate).build())
        .build()
        .await
        .unwrap();
    let mut names = Vec::new();
    for seed in 0..6 {
        names.push(first.submit(request(seed, 5).detached()).await.unwrap().detach());
    }
    first.crash();
    drop(first);
    let worker = echo().build();
    let second = queen().id(id()).registry(registry).worker(worker.clone()).build().await.unwrap();
    for (seed, name) in names.iter().enumerate() {
        read(second.attach(*name, None).await.unwrap()).await.assert_whole(seed as u64, 5);
    }
    let order: Vec<_> = worker.runs().iter().map(|run| run.job).collect();
    assert_eq!(order, names);
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_running() {
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    let job = queen.submit(request(1, 5)).await.unwrap();
    worker.until_active(1).await;
    let down = tokio::spawn({
        let queen = queen.clone();
        async move { queen.shutdown(Duration::from_secs(60)).await }
    });
    gate.open();
    read(job).await.assert_whole(1, 5);
    down.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_older_queen_of_the_same_name_stops_when_a_younger_one_takes_over() {
    let registry = Arc::new(MemoryRegistry::new());
    let settings = Settings { owner_lease: Duration::from_millis(30), ..Settings::default() };
    let old = queen()
        .id(id())
        .settings(settings)
        .registry(registry.clone())
        .worker(echo().gate(&EchoGate::new()).build())
        .build()
        .await
        .unwrap();
    let job = old.submit(request(1, 5)).await.unwrap();
    let name = job.id();
    let young = queen().id(id()).registry(registry).worker(echo().build()).build().await.unwrap();
    let (mut job, mut seen) = (job, Seen::default());
    while let Some(event) = job.next().await {
        seen.take(event);
    }
    assert!(seen.end.is_none(), "it has not ended");
    let why = job.interruption().unwrap();
    assert_eq!(why.kind(), ErrorKind::Interrupted);
    assert!(why.message().contains("epoch"), "{why}");
    read(young.attach(name, None).await.unwrap()).await.assert_whole(1, 5);
    let state = young.job(name).await.unwrap().status.state();
    assert_eq!(state, JobState::Complete, "the old queen's drop of its handle changed nothing");
}

#[tokio::test]
async fn a_reader_that_was_ahead_of_the_last_checkpoint_gets_the_end_of_a_cancelled_job_once() {
    // The reader's lead in tokens: with one, its position is where the end would be after the recorded tokens.
    for ahead in [1, 2, 8] {
        let (registry, gate) = (MemoryRegistry::new(), EchoGate::new());
        let build = |gate: &EchoGate| {
            let worker = echo().gate(gate).build();
            queen().id(id()).registry(registry.clone()).worker(worker).build()
        };
        let first = build(&gate).await.unwrap();
        let mut job = first.submit(request(9, 100)).await.unwrap();
        let name = job.id();
        gate.release(32 + ahead);
        let mut seen = Seen::default();
        while seen.tokens < 32 + ahead as usize {
            seen.take(job.next().await.unwrap());
        }
        assert_eq!(first.job(name).await.unwrap().chunks.len(), 32, "the last checkpoint");
        first.crash();
        drop((job, first));

        let second = build(&EchoGate::new()).await.unwrap();
        let place = *seen.seqs.last().unwrap();
        let waiting = second.attach(name, Some(place)).await.unwrap();
        second.cancel(name);
        let told = read(waiting).await;
        assert_eq!((told.error().kind(), told.tokens), (ErrorKind::Cancelled, 0));
        let [number] = told.seqs[..] else { panic!("{:?}", told.seqs) };
        assert!(number > place, "it is no token's number");
        quiet(&second).await;
        for life in 0..2 {
            let third = match life {
                0 => second.clone(),
                _ => {
                    second.shutdown(Duration::ZERO).await.unwrap();
                    build(&EchoGate::new()).await.unwrap()
                }
            };
            for behind in [31, place, place + 1, 9_999] {
                let told = read(third.attach(name, Some(behind)).await.unwrap()).await;
                assert_eq!(
                    told.error().kind(),
                    ErrorKind::Cancelled,
                    "after {behind} in life {life}"
                );
                assert_eq!(told.seqs.last(), Some(&number));
            }
            let told = read(third.attach(name, Some(number)).await.unwrap()).await;
            assert!(
                told.end.is_none() && told.seqs.is_empty(),
                "who has read the end has read all"
            );
        }
    }
}

#[tokio::test]
async fn a_job_whose_request_is_not_kept_ends_with_the_restart() {
    let registry = MemoryRegistry::new();
    let settings = Settings { keep_requests: KeepRequests::Never, ..Settings::default() };
    let build = |worker| {
        queen().id(id()).settings(settings.clone()).registry(registry.clone()).worker(worker)
    };
    let first = build(echo().gate(&EchoGate::new()).build()).build().await.unwrap();
    let name = first.submit(request(1, 5).detached()).await.unwrap().detach();
    first.crash();
    drop(first);
    let second = build(echo().build()).build().await.unwrap();
    let seen = read(second.attach(name, None).await.unwrap()).await;
    assert_eq!(seen.error().kind(), ErrorKind::QueenRestarted);
    let filter = JobFilter { states: vec![JobState::Failed], ..JobFilter::default() };
    assert_eq!(second.jobs(&filter).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_queen_that_was_superseded_lets_go_of_her_hives() {
    let registry = Arc::new(MemoryRegistry::new());
    let settings = Settings { owner_lease: Duration::from_millis(30), ..Settings::default() };
    let machine = Arc::new(hive("h").with_worker(echo().hive("h".parse().unwrap()).build()));
    let build = |queen: rbee_core::QueenBuilder| {
        queen.id(id()).settings(settings.clone()).registry(registry.clone())
    };
    let old = build(queen()).hive(machine.clone()).build().await.unwrap();
    assert!(Arc::strong_count(&machine) > 1);
    let _young = build(queen()).build().await.unwrap();
    for _ in 0..10_000 {
        if Arc::strong_count(&machine) == 1 {
            assert_eq!(old.status().await.unwrap_err().kind(), ErrorKind::ShuttingDown);
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} others still hold the hive", Arc::strong_count(&machine) - 1);
}

#[tokio::test]
async fn jobs_are_listed_in_the_order_of_their_submission_over_restarts() {
    let registry = MemoryRegistry::new();
    let mut submitted = Vec::new();
    for _ in 0..3 {
        let queen = queen().id(id()).registry(registry.clone());
        let queen = queen.worker(echo().slots(2).build()).build().await.unwrap();
        for seed in 0..2 {
            let job = queen.submit(request(seed, 3)).await.unwrap();
            submitted.insert(0, job.id());
            read(job).await.assert_whole(seed, 3);
        }
        queen.shutdown(Duration::ZERO).await.unwrap();
    }
    let queen = queen().id(id()).registry(registry).build().await.unwrap();
    let listed: Vec<_> =
        queen.jobs(&JobFilter::default()).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(listed, submitted);
}

/// A worker that begins anew whatever it is to continue, as most servers of models do.
#[derive(Debug)]
struct Forgetful(Arc<EchoWorker>);

#[async_trait]
impl Worker for Forgetful {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.0.info()
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        self.0.execute(Run { resume: Resume::default(), ..run }).await
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.0.health().await
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_continued_is_not_written_twice_after_a_restart() {
    for (has_ids, resumes) in [(false, false), (false, true), (true, false)] {
        let registry = MemoryRegistry::new();
        let build = async |gate: Option<&EchoGate>| {
            let mut worker = EchoWorker::builder(model()).resume(resumes);
            if !has_ids {
                worker = worker.without_ids();
            }
            if let Some(gate) = gate {
                worker = worker.gate(gate);
            }
            let worker = worker.build();
            let queen = queen().id(id()).registry(registry.clone());
            let queen = queen.worker(Arc::new(Forgetful(worker.clone()))).build().await.unwrap();
            (queen, worker)
        };
        let gate = EchoGate::new();
        let (first, _) = build(Some(&gate)).await;
        let mut job = first.submit(request(9, 20).detached()).await.unwrap();
        let name = job.id();
        gate.release(15);
        let mut seen = Seen::default();
        while seen.tokens < 15 {
            seen.take(job.next().await.unwrap());
        }
        first.shutdown(Duration::ZERO).await.unwrap();
        drop((job, first));

        let (second, worker) = build(None).await;
        let whole = read(second.attach(name, None).await.unwrap()).await;
        assert_eq!(whole.text, seen.text, "what was there, once");
        let error = whole.error();
        assert_eq!(error.kind(), ErrorKind::QueenRestarted, "{error}");
        assert!(error.message().contains("cannot be continued"), "{error}");
        assert!(worker.runs().is_empty(), "no work for nothing");
        quiet(&second).await;
        // A job of which nobody has read anything runs as ever.
        read(second.submit(request(3, 4)).await.unwrap()).await.assert_whole(3, 4);
    }
}

#[tokio::test]
async fn the_log_probabilities_of_an_answer_are_read_again_after_a_restart() {
    let registry = MemoryRegistry::new();
    let build = || queen().id(id()).registry(registry.clone()).worker(echo().build()).build();
    let first = build().await.unwrap();
    let asked = request(5, 40).sampling(|sampling| sampling.logprobs = Some(2)).detached();
    let job = first.submit(asked).await.unwrap();
    let name = job.id();
    let answer = job.answer().await.unwrap();
    assert_eq!(answer.logprobs.len(), 40);
    let ids: Vec<_> = answer.logprobs.iter().filter_map(|found| found.chosen.id).collect();
    assert_eq!(ids, answer.tokens);
    first.shutdown(Duration::ZERO).await.unwrap();
    let second = build().await.unwrap();
    let mut events = second.attach(name, None).await.unwrap();
    let mut again = Vec::new();
    while let Some(event) = events.next().await {
        if let EventKind::Token { logprobs, .. } = event.kind {
            again.push(*logprobs.unwrap());
        }
    }
    assert_eq!(again, answer.logprobs);
}
