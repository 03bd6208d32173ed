//! Workers that do not answer, or stall in the middle: the stream continues elsewhere, and the workers get no jobs
//! until they are healthy.

use std::{sync::Arc, time::Duration};

use crate::queen_support::{Seen, echo, queen, quiet, read, request};
use rbee_core::{
    Error, ErrorKind, FnScheduler, JobHandle, LeastLoaded, Placement, Scheduler, Worker, WorkerId,
    worker::{EchoBuilder, EchoFault, EchoGate, EchoWorker},
};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

/// A worker that returns a token every 100 ms, and a heartbeat while it has none.
fn steady() -> EchoBuilder {
    echo().token_delay(Duration::from_millis(100)).heartbeats(Duration::from_secs(1))
}

/// The built-in policy, but new jobs go to this worker while it has a free slot.
fn first(worker: WorkerId) -> impl Scheduler {
    FnScheduler::new("first", move |ask, cluster| {
        let is_free = cluster.worker(worker).is_some_and(|view| view.free_slots() > 0);
        match ask.attempts {
            0 if is_free => Ok(Placement::Assign(worker)),
            _ => LeastLoaded::default().place(ask, cluster),
        }
    })
}

/// Reads this many tokens.
async fn tokens(job: &mut JobHandle, seen: &mut Seen, count: usize) {
    while seen.tokens < count {
        seen.take(job.next().await.unwrap());
    }
}

async fn rest(job: &mut JobHandle, seen: &mut Seen) {
    while let Some(event) = job.next().await {
        seen.take(event);
    }
}

/// Returns true if the worker gets jobs.
async fn is_trusted(queen: &rbee_core::Queen, worker: &EchoWorker) -> bool {
    let cluster = queen.cluster().await.unwrap();
    cluster.worker(worker.info().id).unwrap().free_slots() > 0
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_worker_hangs_goes_on_elsewhere_within_five_seconds() {
    let hung = steady().fault_times(EchoFault::Pause { at: 20, lasts: 60 * HOUR }, 1).build();
    let sound = steady().build();
    let queen = queen()
        .worker(hung.clone())
        .worker(sound.clone())
        .scheduler(first(hung.info().id))
        .build()
        .await
        .unwrap();
    let (mut job, mut seen) = (queen.submit(request(7, 60)).await.unwrap(), Seen::default());
    tokens(&mut job, &mut seen, 20).await;
    let silent = Instant::now();
    tokens(&mut job, &mut seen, 21).await;
    assert!(silent.elapsed() < Duration::from_secs(4), "{:?}", silent.elapsed());
    rest(&mut job, &mut seen).await;
    seen.assert_whole(7, 60);
    assert_eq!(sound.runs()[0].resume.tokens.len(), 20);
    assert_eq!(hung.active(), 0, "the run that hangs was let go of");
    assert_eq!(queen.job(job.id()).await.unwrap().attempts, 2);
    // It reports that it is healthy.
    assert!(is_trusted(&queen, &hung).await);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspected_worker_gets_no_jobs_until_it_answers_a_probe() {
    let hung = steady().fault_times(EchoFault::Pause { at: 20, lasts: 60 * HOUR }, 1).build();
    let sound = steady().slots(4).build();
    let queen = queen()
        .worker(hung.clone())
        .worker(sound.clone())
        .scheduler(first(hung.info().id))
        .build()
        .await
        .unwrap();
    let (mut job, mut seen) = (queen.submit(request(7, 60)).await.unwrap(), Seen::default());
    tokens(&mut job, &mut seen, 20).await;
    hung.set_health_error(Some(Error::new(ErrorKind::WorkerUnreachable, "stopped")));
    rest(&mut job, &mut seen).await;
    seen.assert_whole(7, 60);
    for seed in 0..3 {
        read(queen.submit(request(seed, 9)).await.unwrap()).await.assert_whole(seed, 9);
    }
    assert_eq!(hung.runs().len(), 1);
    assert!(!is_trusted(&queen, &hung).await);
    hung.set_health_error(None);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(is_trusted(&queen, &hung).await);
    read(queen.submit(request(9, 9)).await.unwrap()).await.assert_whole(9, 9);
    assert_eq!(hung.runs().len(), 2);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_can_take_over_waits_until_its_worker_goes_on() {
    let lasts = Duration::from_secs(100);
    let slow = steady().fault_times(EchoFault::Pause { at: 20, lasts }, 1).build();
    let other = steady().numerics("other").build();
    let queen = queen()
        .worker(slow.clone())
        .worker(other.clone())
        .scheduler(first(slow.info().id))
        .build()
        .await
        .unwrap();
    let job = queen.submit(request(7, 60)).await.unwrap();
    let id = job.id();
    read(job).await.assert_whole(7, 60);
    assert_eq!(queen.job(id).await.unwrap().attempts, 1);
    assert!(other.runs().is_empty());
    assert!(is_trusted(&queen, &slow).await);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_is_not_mistaken_for_a_hang_where_there_are_heartbeats() {
    let slow = steady().first_delay(HOUR / 4).build();
    let other = steady().build();
    let queen = queen()
        .worker(slow.clone())
        .worker(other.clone())
        .scheduler(first(slow.info().id))
        .build()
        .await
        .unwrap();
    // Longer than the stall limit: only a stream without heartbeats has stalled.
    let job = queen.submit(request(7, 9).timeout(HOUR / 2)).await.unwrap();
    let id = job.id();
    read(job).await.assert_whole(7, 9);
    assert_eq!(queen.job(id).await.unwrap().attempts, 1);
    assert!(other.runs().is_empty());
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_silence_counts_only_if_a_probe_fails_too() {
    for is_well in [true, false] {
        let slow = echo().first_delay(Duration::from_secs(100)).build();
        let other = echo().build();
        let queen = queen()
            .worker(slow.clone())
            .worker(other.clone())
            .scheduler(first(slow.info().id))
            .build()
            .await
            .unwrap();
        let begun = Instant::now();
        let job = queen.submit(request(7, 9)).await.unwrap();
        slow.until_active(1).await;
        if !is_well {
            slow.set_health_error(Some(Error::new(ErrorKind::WorkerUnreachable, "stopped")));
        }
        read(job).await.assert_whole(7, 9);
        assert_eq!(begun.elapsed() < Duration::from_secs(5), !is_well, "{:?}", begun.elapsed());
        assert_eq!(other.runs().len(), usize::from(!is_well));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_accept_a_run_loses_it_at_no_cost() {
    let hung = echo().fault_times(EchoFault::HangInExecute, 1).build();
    let other = echo().build();
    let queen = queen()
        .worker(hung.clone())
        .worker(other.clone())
        .scheduler(first(hung.info().id))
        .build()
        .await
        .unwrap();
    let begun = Instant::now();
    let job = queen.submit(request(7, 9)).await.unwrap();
    let id = job.id();
    hung.until_started(1).await;
    hung.set_health_error(Some(Error::new(ErrorKind::WorkerUnreachable, "stopped")));
    read(job).await.assert_whole(7, 9);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(queen.job(id).await.unwrap().attempts, 1);
    assert_eq!(hung.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_attempt_costs_neither_a_try_nor_time() {
    let refuses = EchoFault::Refuse(ErrorKind::WorkerUnreachable);
    let doomed = echo().fault(refuses).build();
    doomed.set_health_error(Some(Error::new(ErrorKind::WorkerUnreachable, "refused")));
    let gate = EchoGate::new();
    let sound = echo().slots(8).gate(&gate).build();
    let queen = queen()
        .worker(doomed.clone())
        .worker(sound.clone())
        .scheduler(first(doomed.info().id))
        .build()
        .await
        .unwrap();
    let begun = Instant::now();
    let mut jobs = Vec::new();
    for seed in 0..8 {
        jobs.push(queen.submit(request(seed, 9)).await.unwrap());
    }
    sound.until_active(8).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(doomed.runs().len() <= 1, "one refusal is enough: {:?}", doomed.runs().len());
    gate.open();
    for (seed, job) in jobs.into_iter().enumerate() {
        let id = job.id();
        read(job).await.assert_whole(seed as u64, 9);
        assert_eq!(queen.job(id).await.unwrap().attempts, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_kills_every_worker_it_touches_ends_after_its_tries() {
    let kills = EchoFault::Fail { at: 3, kind: ErrorKind::WorkerLost };
    let workers: Vec<Arc<EchoWorker>> = (0..6).map(|_| echo().fault(kills).build()).collect();
    let mut builder = queen();
    for worker in &workers {
        builder = builder.worker(worker.clone());
    }
    let queen = builder.build().await.unwrap();
    let seen = read(queen.submit(request(7, 9)).await.unwrap()).await;
    assert_eq!((seen.error().kind(), seen.tokens), (ErrorKind::WorkerLost, 3));
    let runs: usize = workers.iter().map(|worker| worker.runs().len()).sum();
    assert_eq!(runs, 4);
}
