//! Worker processes that are stopped or killed under a queen.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{hive, kill, pid_of, signal, spec};
use rbee_core::{
    EventKind, HiveBackend, JobEvent, JobHandle, ModelRef, Queen, Request, WorkerId,
    worker::EchoWorker,
};
use rbee_transport_http::ProcessHive;
use rustix::process::Signal;
use tempfile::TempDir;

/// A queen with workers of one model that emit a token every few milliseconds.
struct Fleet {
    dir: TempDir,
    queen: Queen,
    model: ModelRef,
}

impl Fleet {
    async fn with(workers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model-ticks");
        std::fs::write(&path, "weights").unwrap();
        let hive: Arc<ProcessHive> = Arc::new(hive(&dir).with_lease(Duration::from_secs(60)));
        hive.start().await.unwrap();
        let mut spec = spec(&format!("file:{}", path.display()));
        spec.slots = 1;
        for _ in 0..workers {
            hive.spawn(WorkerId::random(), &spec, rbee_core::hive::Progress::ignore())
                .await
                .unwrap();
        }
        let queen = Queen::builder().hive(hive).build().await.unwrap();
        let fleet = Self { dir, queen, model: spec.model };
        let ready = || async { fleet.workers().await == workers };
        until(ready).await;
        fleet
    }

    /// The number of workers that accept jobs.
    async fn workers(&self) -> usize {
        self.queen.cluster().await.unwrap().available(&self.model).count()
    }

    async fn submit(&self, seed: u64, tokens: u32) -> JobHandle {
        let request = Request::chat(self.model.as_str()).user("hi").seed(seed).max_tokens(tokens);
        self.queen.submit(request).await.unwrap()
    }

    /// The worker that runs a job.
    async fn busy(&self) -> WorkerId {
        let cluster = self.queen.cluster().await.unwrap();
        let busy = cluster.workers().find(|worker| worker.leased > 0);
        busy.expect("one runs").info.id
    }

    async fn attempts(&self, job: &JobHandle) -> u32 {
        self.queen.job(job.id()).await.unwrap().attempts
    }

    async fn shutdown(self) {
        self.queen.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to hold");
}

/// Reads up to this many tokens, or to the end.
async fn read(job: &mut JobHandle, text: &mut String, tokens: usize) -> Option<EventKind> {
    for _ in 0..tokens {
        loop {
            match job.next().await {
                Some(JobEvent { kind: EventKind::Token { text: chunk, .. }, .. }) => {
                    text.push_str(&chunk);
                    break;
                }
                Some(event) if event.kind.is_terminal() => return Some(event.kind),
                Some(_) => {}
                None => return None,
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_elsewhere_when_its_worker_is_stopped_and_the_worker_comes_back() {
    let fleet = Fleet::with(2).await;
    let (mut job, mut text) = (fleet.submit(7, 250).await, String::new());
    read(&mut job, &mut text, 50).await;
    let stopped = fleet.busy().await;
    let pid = pid_of(&fleet.dir, stopped);
    signal(pid, Signal::STOP);
    let silent = Instant::now();
    // Tokens in transit still arrive.
    while fleet.busy().await == stopped {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let moved = silent.elapsed();
    assert!(moved < Duration::from_secs(8), "{moved:?}");
    assert_eq!(fleet.workers().await, 0, "one is busy, and the other is stopped");
    let end = read(&mut job, &mut text, 1_000).await;
    assert!(matches!(end, Some(EventKind::End { .. })), "{end:?}");
    assert_eq!(text, EchoWorker::text(7, 250), "no gap and no repeat");
    assert!(job.next().await.is_none(), "one end");
    signal(pid, Signal::CONT);
    until(|| async { fleet.workers().await == 2 }).await;
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_killed_is_given_no_more_jobs_and_costs_a_try_only_where_one_ran() {
    let fleet = Fleet::with(3).await;
    let (mut runs, mut text) = (fleet.submit(7, 150).await, String::new());
    read(&mut runs, &mut text, 50).await;
    kill(pid_of(&fleet.dir, fleet.busy().await));
    // At once, before the hive can have reported it.
    let mut jobs = Vec::new();
    for seed in 0..6 {
        jobs.push(fleet.submit(seed, 20).await);
    }
    read(&mut runs, &mut text, 1_000).await;
    assert_eq!((text, fleet.attempts(&runs).await), (EchoWorker::text(7, 150), 2));
    for (seed, mut job) in (0..).zip(jobs) {
        let mut text = String::new();
        read(&mut job, &mut text, 1_000).await;
        assert_eq!(text, EchoWorker::text(seed, 20));
        assert_eq!(fleet.attempts(&job).await, 1, "job {seed}");
    }
    fleet.shutdown().await;
}
