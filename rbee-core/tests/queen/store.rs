//! A store that fails while the queen runs: nothing is accepted that cannot be recorded, and ends are recorded however
//! long the store is unavailable.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::queen_support::{Seen, echo, hive, queen, quiet, read, request};
use rbee_core::{
    Error, ErrorKind, HiveId, JobId, JobState, Queen, Registry,
    id::QueenId,
    registry::{Change, GuardedRegistry},
    worker::{EchoFault, EchoGate},
};
use tokio::time::Instant;

/// A store whose writes fail on request.
fn moody() -> (GuardedRegistry, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (GuardedRegistry::with_switch(fails.clone()), fails)
}

fn id() -> QueenId {
    "queen".parse().unwrap()
}

/// Waits until the queen has noticed that its store is writable again.
async fn until_written(queen: &Queen) {
    let began = Instant::now();
    while queen.status().await.unwrap().store_fault.is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not notice that the store is back"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn state(queen: &Queen, job: JobId) -> JobState {
    queen.job(job).await.unwrap().status.state()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_write_accepts_nothing_and_the_queen_goes_on() {
    let (registry, fails) = moody();
    let gate = EchoGate::new();
    let worker = echo().slots(2).gate(&gate).build();
    let queen = queen().registry(registry).worker(worker.clone()).build().await.unwrap();
    let running = queen.submit(request(1, 9)).await.unwrap();
    assert!(queen.status().await.unwrap().store_fault.is_none());

    fails.store(true, Ordering::SeqCst);
    for seed in 2..5 {
        let error = queen.submit(request(seed, 9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(10)), "{error:?}");
        assert!(!error.message().contains("disk"), "the client does not get the cause: {error:?}");
    }
    let fault = queen.status().await.unwrap().store_fault.expect("the store fails");
    assert_eq!(fault.error.message(), "the disk is full");
    assert_eq!(queen.check_store().await.unwrap_err().message(), "the disk is full");
    worker.until_active(1).await;
    gate.open();
    let seen = read(running).await;
    seen.assert_whole(1, 9);

    fails.store(false, Ordering::SeqCst);
    until_written(&queen).await;
    queen.check_store().await.unwrap();
    read(queen.submit(request(9, 9)).await.unwrap()).await.assert_whole(9, 9);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_is_recorded_however_long_the_store_was_away_and_nothing_runs_again() {
    for away in [Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(3_600)] {
        let (registry, fails) = moody();
        let gate = EchoGate::new();
        let worker = echo().slots(4).gate(&gate).build();
        let first = queen().id(id()).registry(registry.clone()).worker(worker.clone());
        let first = first.build().await.unwrap();
        let mut jobs = Vec::new();
        for seed in 0..4 {
            jobs.push(first.submit(request(seed, 9)).await.unwrap());
        }
        let names: Vec<_> = jobs.iter().map(|job| job.id()).collect();
        worker.until_active(4).await;
        fails.store(true, Ordering::SeqCst);
        first.cancel(names[3]);
        gate.open();

        let began = Instant::now();
        let readers = tokio::spawn(async move {
            let mut seen = Vec::new();
            for job in jobs {
                seen.push(read(job).await);
            }
            (seen, began.elapsed())
        });
        tokio::time::sleep(away).await;
        fails.store(false, Ordering::SeqCst);
        let (seen, waited) = readers.await.unwrap();
        assert!(waited <= Duration::from_secs(11), "a reader waited for {waited:?}");
        for (seed, seen) in seen.iter().take(3).enumerate() {
            seen.assert_whole(seed as u64, 9);
        }
        assert_eq!(seen[3].error().kind(), ErrorKind::Cancelled);

        until_written(&first).await;
        quiet(&first).await;
        for name in &names[..3] {
            let record = first.job(*name).await.unwrap();
            assert_eq!(record.status.state(), JobState::Complete);
            assert!(record.status.started_at().is_some(), "its start is recorded, too");
        }
        assert_eq!(state(&first, names[3]).await, JobState::Cancelled);
        first.crash();
        let second = queen().id(id()).registry(registry).worker(worker.clone());
        let second = second.build().await.unwrap().status().await.unwrap();
        assert!(second.restored.is_empty(), "an ended job runs again");
        assert_eq!(worker.runs().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_must_be_repaired_is_waited_for_too() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = broken.clone();
    let registry = GuardedRegistry::new(move |_| {
        Box::pin(ready(match switch.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Storage, "read-only")),
            false => Ok(()),
        }))
    });
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let queen = queen().registry(registry).worker(worker).build().await.unwrap();
    let job = queen.submit(request(1, 9)).await.unwrap();
    let name = job.id();
    broken.store(true, Ordering::SeqCst);
    gate.open();
    read(job).await.assert_whole(1, 9);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    let error = queen.submit(request(2, 9)).await.unwrap_err();
    assert!(error.message().contains("an operator must repair it"), "{error:?}");
    broken.store(false, Ordering::SeqCst);
    until_written(&queen).await;
    assert_eq!(state(&queen, name).await, JobState::Complete);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_late_was_written_in_order() {
    let (fails, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (switch, log) = (fails.clone(), written.clone());
    let registry = GuardedRegistry::new(move |changes| {
        let full = switch.load(Ordering::SeqCst);
        if !full {
            log.lock().unwrap().extend_from_slice(changes);
        }
        Box::pin(ready(match full {
            true => Err(Error::new(ErrorKind::Storage, "full")),
            false => Ok(()),
        }))
    });
    let gate = EchoGate::new();
    // Its first attempt fails while the store is unavailable, and its second one ends.
    let worker = echo().gate(&gate).fault_times(EchoFault::Cut { at: 3 }, 1).build();
    let queen = queen().registry(registry).worker(worker).build().await.unwrap();
    let job = queen.submit(request(1, 9)).await.unwrap();
    let name = job.id();
    fails.store(true, Ordering::SeqCst);
    queen.submit(request(2, 9)).await.unwrap_err();
    gate.open();
    read(job).await.assert_whole(1, 9);
    fails.store(false, Ordering::SeqCst);
    until_written(&queen).await;
    let written = written.lock().unwrap().clone();
    let kind = |change: &Change| match change {
        Change::JobQueued(record) if record.id == name => Some("queued".to_owned()),
        Change::JobRunning { job, attempt, .. } if *job == name => {
            Some(format!("running {attempt}"))
        }
        Change::JobRequeued { job, .. } if *job == name => Some("requeued".to_owned()),
        Change::JobEnded { job, .. } if *job == name => Some("ended".to_owned()),
        _ => None,
    };
    let kinds: Vec<_> = written.iter().filter_map(kind).collect();
    assert_eq!(kinds, ["queued", "running 1", "running 2", "ended"]);
    assert_eq!(queen.job(name).await.unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_store_that_is_away_and_says_what_is_not_recorded() {
    let (registry, fails) = moody();
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let first = queen().id(id()).registry(registry.clone()).worker(worker).build().await.unwrap();
    let job = first.submit(request(1, 9).detached()).await.unwrap().detach();
    fails.store(true, Ordering::SeqCst);
    gate.open();
    let events = first.attach(job, None).await.unwrap();
    read(events).await.assert_whole(1, 9);
    let began = Instant::now();
    let error = first.shutdown(Duration::from_secs(5)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("the ends of 1 jobs"), "{error:?}");
    assert!(error.message().contains("the disk is full"), "{error:?}");

    fails.store(false, Ordering::SeqCst);
    let second = queen().id(id()).registry(registry).worker(echo().build()).build().await.unwrap();
    assert_eq!(*second.status().await.unwrap().restored, [job]);
    read(second.attach(job, None).await.unwrap()).await.assert_whole(1, 9);
}

#[tokio::test(start_paused = true)]
async fn a_hive_that_was_removed_while_the_store_was_away_stays_removed() {
    let (registry, fails) = moody();
    let first = queen().id(id()).registry(registry.clone()).hive(hive("a")).hive(hive("b"));
    let first = first.build().await.unwrap();
    fails.store(true, Ordering::SeqCst);
    first.fleet().remove("a".parse().unwrap(), Duration::ZERO).await.unwrap();
    while first.status().await.unwrap().store_fault.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fails.store(false, Ordering::SeqCst);
    until_written(&first).await;
    first.crash();
    let found = registry.open(&id(), Duration::from_secs(60)).await.unwrap();
    let hives: Vec<HiveId> = found.hives.into_iter().map(|hive| hive.id).collect();
    assert_eq!(hives, ["b".parse().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_while_nothing_is_done_is_noticed() {
    let (registry, fails) = moody();
    let queen = queen().registry(registry).worker(echo().build()).build().await.unwrap();
    fails.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(queen.status().await.unwrap().store_fault.is_some());
    fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(queen.status().await.unwrap().store_fault.is_none());
}

#[tokio::test]
async fn a_job_that_the_store_refuses_does_not_refuse_those_recorded_with_it() {
    // It refuses every change of one job, as a store does if it has given the job to another queen.
    let registry = GuardedRegistry::new(|changes| {
        let is_foreign = |change: &Change| match change {
            Change::JobQueued(record) => record.correlation_id.as_str() == "foreign",
            _ => false,
        };
        Box::pin(ready(match changes.iter().any(is_foreign) {
            true => Err(Error::new(ErrorKind::Fenced, "it is another queen's")),
            false => Ok(()),
        }))
    });
    let worker = echo().slots(8).build();
    let queen = queen().registry(registry).worker(worker).build().await.unwrap();
    let submit = |seed: u64| {
        let name = if seed == 3 { "foreign".to_owned() } else { format!("job-{seed}") };
        queen.submit(request(seed, 5).correlation_id(name.parse().unwrap()))
    };
    let submitted = futures_util::future::join_all((0..8).map(submit)).await;
    for (seed, job) in submitted.into_iter().enumerate() {
        match job {
            Ok(job) => read(job).await.assert_whole(seed as u64, 5),
            Err(error) => assert_eq!((seed, error.kind()), (3, ErrorKind::Fenced)),
        }
    }
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_detached_result_is_whole_in_the_store_although_the_store_failed_meanwhile() {
    let (registry, fails) = moody();
    let gate = EchoGate::new();
    let worker = echo().gate(&gate).build();
    let queen = queen().registry(registry).worker(worker).build().await.unwrap();
    let id = queen.submit(request(1, 100).detached()).await.unwrap().detach();
    let mut events = queen.attach(id, None).await.unwrap();
    fails.store(true, Ordering::SeqCst);
    gate.release(70);
    let mut seen = Seen::default();
    while seen.tokens < 70 {
        seen.take(events.next().await.unwrap());
    }
    // Long enough for the checkpoints to have failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fails.store(false, Ordering::SeqCst);
    gate.open();
    while let Some(event) = events.next().await {
        seen.take(event);
    }
    seen.assert_whole(1, 100);
    assert_eq!(queen.job(id).await.unwrap().chunks.len(), 100);
}
