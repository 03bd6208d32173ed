//! Past jobs replayed through a policy: what a queen keeps of them, and the limits of a replay.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::queen_support::{MODEL, echo, queen, read, request};
use rbee_core::{
    Ask, ClusterView, ErrorKind, LeastLoaded, Placement, Queen, Request, Result, RhaiScheduler,
    Scheduler, Settings,
    scheduler::{PolicyLanguage, PolicySource},
    sim::replay_run,
};

const HOUR: Duration = Duration::from_secs(3600);

fn builtin() -> PolicySource {
    let text = "fn schedule(job, workers, hives) { builtin() }".into();
    PolicySource { language: PolicyLanguage::Rhai, text }
}

async fn run_jobs(queen: &Queen, count: u64) {
    for seed in 0..count {
        read(queen.submit(request(seed, 1)).await.unwrap()).await.assert_whole(seed, 1);
    }
}

/// A chat of this many messages.
async fn talk(queen: &Queen, turns: u32) {
    let chat = (0..turns).fold(Request::chat(MODEL), |chat, n| chat.user(format!("turn {n}")));
    let asked = chat.seed(1).max_tokens(2).deadline(HOUR);
    read(queen.submit(asked).await.unwrap()).await.assert_whole(1, 2);
}

#[tokio::test]
async fn the_keys_that_are_kept_of_a_prompt_mean_nothing_to_another_life() {
    let mut kept = Vec::new();
    for _ in 0..2 {
        let queen = queen().worker(echo().build()).build().await.unwrap();
        talk(&queen, 1).await;
        let record = queen.jobs(&Default::default()).await.unwrap().remove(0);
        kept.push(record.outline.unwrap().prefix);
    }
    assert!(kept[0].len() == 1 && kept[0] != kept[1], "a guess can be held against no key");
}

#[tokio::test]
async fn a_replay_knows_prefixes_and_deadlines_although_no_request_was_kept() {
    let queen = queen().worker(echo().slots(4).build()).build().await.unwrap();
    for turns in 1..=3 {
        talk(&queen, turns).await;
    }
    let records = queen.jobs(&Default::default()).await.unwrap();
    let outline = records[0].outline.as_ref().unwrap();
    assert_eq!((outline.max_tokens, outline.deadline_ms), (Some(2), Some(3_600_000)));
    assert!(records.iter().all(|record| record.request.is_none()));
    let replay = queen.policy().replay(builtin(), HOUR).await.unwrap();
    for report in [&replay.current, &replay.candidate] {
        assert_eq!((report.prefixed, report.prefix_keys), (3, 6));
        assert_eq!((report.prefix_hits, report.prefix_keys_warm), (2, 3), "the turns before");
    }
    assert_eq!((replay.without_outline, replay.estimated, replay.is_cut), (0, 0, false));
    assert_eq!(replay.from, records[2].submitted_at);
}

#[tokio::test]
async fn the_newest_jobs_are_replayed_and_it_is_said_that_there_are_more() {
    for (jobs, is_cut) in [(2, false), (3, true)] {
        let settings = Settings { replay_jobs: 2, ..Settings::default() };
        let queen = queen().settings(settings).worker(echo().build()).build().await.unwrap();
        run_jobs(&queen, jobs).await;
        let replay = queen.policy().replay(builtin(), HOUR).await.unwrap();
        assert_eq!((replay.current.jobs, replay.is_cut), (2, is_cut));
        let newest = queen.jobs(&Default::default()).await.unwrap();
        assert_eq!(replay.from, newest[1].submitted_at);
    }
}

/// The built-in policy, which blocks while the gate is shut.
#[derive(Debug, Default)]
struct Gated {
    asked: AtomicUsize,
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn set(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.opened.notify_all();
    }
}

impl Scheduler for Gated {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let shut = self.opened.wait_while(self.is_shut.lock().unwrap(), |is_shut| *is_shut);
        drop(shut.unwrap());
        LeastLoaded::default().place(ask, cluster)
    }
}

#[tokio::test(start_paused = true)]
async fn one_replay_runs_at_a_time_and_one_that_nobody_waits_for_ends() {
    let policy = Arc::new(Gated::default());
    let queen = queen().scheduler(policy.clone()).worker(echo().build()).build().await.unwrap();
    run_jobs(&queen, 20).await;
    policy.asked.store(0, Ordering::SeqCst);
    policy.set(true);
    let one = tokio::spawn({
        let queen = queen.clone();
        async move { queen.policy().replay(builtin(), HOUR).await }
    });
    while policy.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let other = tokio::spawn({
        let queen = queen.clone();
        async move { queen.policy().replay(builtin(), HOUR).await }
    });
    while !other.is_finished() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let error = other.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("one runs at a time"), "{error}");

    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    policy.set(false);
    // The next one comes when the first has stopped, at the decision where it stood.
    let replay = queen.policy().replay(builtin(), HOUR).await.unwrap();
    assert_eq!(replay.current.completed, 20);
    let both = policy.asked.swap(0, Ordering::SeqCst);
    queen.policy().replay(builtin(), HOUR).await.unwrap();
    assert_eq!(policy.asked.load(Ordering::SeqCst), both - 1);
}

/// A policy that is slow in a replay.
#[derive(Debug)]
struct Slow;

impl Scheduler for Slow {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        LeastLoaded::default().place(ask, cluster)
    }
}

#[tokio::test]
async fn a_replay_that_takes_too_long_is_ended() {
    let settings = Settings { replay_limit: Duration::from_millis(1), ..Settings::default() };
    let queen = queen().settings(settings).scheduler(Slow).worker(echo().build());
    let queen = queen.build().await.unwrap();
    run_jobs(&queen, 2).await;
    let error = queen.policy().replay(builtin(), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobTimeout);
    assert!(error.message().contains("setting replay_limit"), "{error}");
}

/// Admits, ranks and places, and leaves the rest to the built-in policy.
const RANKING: &str = "
    fn admit(job, queue) { if job.max_tokens == 13 { reject(\"unlucky\") } else { accept(-1) } }
    fn order(job) { job.max_tokens ?? 0 }
    fn schedule(job, workers, hives) {
        run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? builtin()
    }";

#[tokio::test]
async fn a_run_that_a_queen_has_recorded_replays_to_the_same_effects_also_under_a_script() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    // An existing file is replaced.
    std::fs::write(&path, "an old one\n".repeat(1_000)).unwrap();
    let policy = RhaiScheduler::new(RANKING).unwrap().with_limit(Duration::from_secs(10));
    let again = policy.for_replay().unwrap();
    let queen = queen().worker(echo().slots(2).build()).scheduler(policy).record_run(&path);
    let queen = queen.build().await.unwrap();
    let jobs = (1..=20).map(|seed| {
        let queen = queen.clone();
        async move {
            let tokens = 1 + (seed % 14) as u32;
            match queen.submit(request(seed, tokens)).await {
                Ok(job) => read(job).await.assert_whole(seed, tokens),
                Err(error) => assert_eq!((tokens, error.kind()), (13, ErrorKind::Rejected)),
            }
        }
    });
    futures_util::future::join_all(jobs).await;
    let pair = (0..2)
        .map(|part| request(part, 5).idempotency_key("pair").idempotency_part(part as u32, 2));
    for job in queen.submit_all(pair).await.unwrap() {
        read(job).await;
    }
    drop(queen.submit(request(1, 50)).await.unwrap());
    queen.shutdown(Duration::from_secs(10)).await.unwrap();

    let recorded = std::fs::read(&path).unwrap();
    let run = replay_run(&recorded[..], None).unwrap();
    assert!(run.steps > 100 && run.effects > 150 && !run.is_cut, "{run:?}");
    let asked = replay_run(&recorded[..], Some(&*again)).unwrap();
    assert!(asked.questions >= 2 * 20, "admitted and placed: {asked:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let fresh = dir.path().join("fresh.jsonl");
        drop(crate::queen_support::queen().record_run(&fresh).build().await.unwrap());
        let mode = std::fs::metadata(&fresh).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it has the prompts in it");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fresh, &link).unwrap();
        let error = crate::queen_support::queen().record_run(&link).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("the run cannot be recorded in"), "{error}");
    }
}
