//! Faults of workers, policies and machines. The job continues, or ends with an error that says what happened.

use std::{sync::Arc, time::Duration};

use crate::queen_support::{EchoFactory, Seen, echo, hive, queen, quiet, read, request};
use rbee_core::{
    Error, ErrorKind, FnScheduler, LeastLoaded, Placement, Result, Scheduler, Settings, Worker,
    WorkerId,
    scheduler::Sizing,
    worker::{EchoFault, EchoGate, EchoWorker},
};

#[tokio::test]
async fn a_stream_continues_on_another_worker_from_exactly_where_it_stopped() {
    for at in [0, 1, 17, 39] {
        let fault = EchoFault::Fail { at, kind: ErrorKind::WorkerLost };
        let broken = echo().fault(fault).build();
        let sound = echo().build();
        let queen = queen().worker(broken).worker(sound.clone()).build().await.unwrap();
        for seed in 0..2 {
            let job = queen.submit(request(seed, 40)).await.unwrap();
            read(job).await.assert_whole(seed, 40);
        }
        let resumed = sound.runs().into_iter().filter(|run| run.attempt == 2);
        let cuts: Vec<_> = resumed.map(|run| run.resume.tokens.len()).collect();
        assert!(!cuts.is_empty() && cuts.iter().all(|cut| *cut == at as usize), "cut at {at}");
        quiet(&queen).await;
    }
}

#[tokio::test]
async fn however_a_worker_breaks_the_job_is_done_by_another() {
    for fault in [
        EchoFault::Refuse(ErrorKind::WorkerFault),
        EchoFault::PanicInExecute,
        EchoFault::Panic { at: 3 },
        EchoFault::Cut { at: 3 },
        EchoFault::Overrun,
    ] {
        let broken = echo().fault(fault).build();
        let queen = queen().worker(broken).worker(echo().build()).build().await.unwrap();
        for seed in 0..2 {
            let seen = read(queen.submit(request(seed, 9)).await.unwrap()).await;
            match fault {
                // Tokens beyond the limit cannot be taken back.
                EchoFault::Overrun => assert_eq!(seen.tokens, 9),
                _ => seen.assert_whole(seed, 9),
            }
        }
        quiet(&queen).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stalls_is_given_up() {
    let broken = echo().fault(EchoFault::Stall { at: 3 }).build();
    let queen = queen().worker(broken).worker(echo().build()).build().await.unwrap();
    for seed in 0..2 {
        read(queen.submit(request(seed, 9)).await.unwrap()).await.assert_whole(seed, 9);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_retried_on_the_only_worker_and_the_retries_are_bounded() {
    let fault = EchoFault::Fail { at: 2, kind: ErrorKind::WorkerLost };
    let worker = echo().fault_times(fault, 2).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    read(queen.submit(request(1, 9)).await.unwrap()).await.assert_whole(1, 9);
    assert_eq!(worker.runs().len(), 3);

    worker.inject(EchoFault::Refuse(ErrorKind::WorkerFault), 100);
    let job = queen.submit(request(2, 9)).await.unwrap();
    let id = job.id();
    let error = read(job).await.error().clone();
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    assert!(error.message().contains("failed 4 times"), "{error}");
    assert_eq!(queen.job(id).await.unwrap().attempts, 4);
}

#[tokio::test]
async fn a_clients_error_is_not_retried_and_does_not_count_against_the_worker() {
    let worker = echo().fault_times(EchoFault::Refuse(ErrorKind::ContextExceeded), 10).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    for seed in 0..10 {
        let error = read(queen.submit(request(seed, 9)).await.unwrap()).await;
        assert_eq!(error.error().kind(), ErrorKind::ContextExceeded);
    }
    assert_eq!(worker.runs().len(), 10, "nothing was tried again");
    let cluster = queen.cluster().await.unwrap();
    assert!(cluster.workers().all(|view| view.faults == 0));
    read(queen.submit(request(1, 9)).await.unwrap()).await.assert_whole(1, 9);
}

#[tokio::test]
async fn a_stream_without_token_ids_is_not_continued_but_ends_with_an_error() {
    let fault = EchoFault::Fail { at: 4, kind: ErrorKind::WorkerLost };
    let broken = echo().without_ids().fault(fault).build();
    let queen = queen().worker(broken).build().await.unwrap();
    let seen = read(queen.submit(request(1, 9)).await.unwrap()).await;
    assert_eq!((seen.error().kind(), seen.tokens), (ErrorKind::WorkerLost, 4));
    assert!(seen.error().message().contains("cannot be continued"), "{}", seen.error());
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_continued_only_where_the_numerics_are_equal() {
    let fault = EchoFault::Fail { at: 4, kind: ErrorKind::WorkerLost };
    let broken = echo().numerics("a").fault_times(fault, 1).build();
    let other = echo().numerics("b").build();
    let gate = EchoGate::new();
    let busy = echo().numerics("a").gate(&gate).build();
    let queen = queen()
        .worker(broken.clone())
        .worker(other.clone())
        .worker(busy)
        .scheduler(first(broken.info().id))
        .build()
        .await
        .unwrap();
    gate.open();
    read(queen.submit(request(1, 9)).await.unwrap()).await.assert_whole(1, 9);
    assert!(other.runs().is_empty(), "other numerics continued the stream");
}

/// The built-in policy, but new jobs go to this worker.
fn first(worker: WorkerId) -> impl Scheduler {
    FnScheduler::new("first", move |ask, cluster| match ask.attempts {
        0 => Ok(Placement::Assign(worker)),
        _ => LeastLoaded::default().place(ask, cluster),
    })
}

#[tokio::test]
async fn a_worker_that_exits_under_a_stream_is_replaced_by_another() {
    let gate = EchoGate::new();
    let doomed = echo().hive("h".parse().unwrap()).gate(&gate).build();
    let sound = echo().hive("h".parse().unwrap()).build();
    let machine = Arc::new(hive("h").with_worker(doomed.clone()).with_worker(sound.clone()));
    let queen =
        queen().hive(machine.clone()).scheduler(first(doomed.info().id)).build().await.unwrap();
    let mut job = queen.submit(request(7, 60)).await.unwrap();
    gate.release(20);
    let mut seen = Seen::default();
    while seen.tokens < 20 {
        seen.take(job.next().await.unwrap());
    }
    assert!(machine.kill(doomed.info().id));
    while let Some(event) = job.next().await {
        seen.take(event);
    }
    seen.assert_whole(7, 60);
    quiet(&queen).await;
}

#[tokio::test]
async fn fifty_jobs_for_a_cold_model_start_one_worker() {
    let (factory, made) = EchoFactory::new();
    let policy = LeastLoaded::new(Sizing::default().with_slots(64));
    let queen =
        queen().hive(hive("h").with_factory(factory)).scheduler(policy).build().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("weights"), "w").unwrap();
    let name = format!("file:{}", dir.path().display());
    let mut jobs = Vec::new();
    for seed in 0..50 {
        let request = rbee_core::Request::chat(&name).user("hi").seed(seed).max_tokens(5);
        jobs.push(queen.submit(request).await.unwrap());
    }
    for (seed, job) in jobs.into_iter().enumerate() {
        read(job).await.assert_whole(seed as u64, 5);
    }
    assert_eq!(made.lock().unwrap().len(), 1);
    quiet(&queen).await;
}

#[tokio::test]
async fn a_model_that_is_nowhere_ends_its_jobs_with_the_path_in_the_error() {
    let (factory, _) = EchoFactory::new();
    let queen = queen().hive(hive("h").with_factory(factory)).build().await.unwrap();
    let request = rbee_core::Request::chat("file:/no/such/model").user("hi");
    let seen = read(queen.submit(request).await.unwrap()).await;
    assert_eq!(seen.error().kind(), ErrorKind::ModelNotFound);
    assert!(seen.error().message().contains("/no/such/model"), "{}", seen.error());
    quiet(&queen).await;
}

#[tokio::test]
async fn a_policy_that_panics_errs_or_talks_nonsense_is_replaced_for_that_job() {
    let broken: [fn() -> Result<Placement>; 4] = [
        || panic!("out of ideas"),
        || Err(Error::new(ErrorKind::Internal, "no idea")),
        || Ok(Placement::Assign(WorkerId::from_random_bits(7))),
        || {
            let mut spec = rbee_core::WorkerSpec::new(crate::queen_support::model());
            spec.devices = vec![0];
            Ok(Placement::Spawn { hive: "nowhere".parse()?, spec, evict: Vec::new() })
        },
    ];
    for (n, policy) in broken.into_iter().enumerate() {
        let scheduler = FnScheduler::new("broken", move |_, _| policy());
        let queen = queen().worker(echo().build()).scheduler(scheduler).build().await.unwrap();
        let job = queen.submit(request(n as u64, 9)).await.unwrap();
        read(job).await.assert_whole(n as u64, 9);
        quiet(&queen).await;
    }
}

#[tokio::test]
async fn a_slow_policy_has_a_thread_of_its_own_and_a_limit() {
    let scheduler = FnScheduler::new("slow", |_, _| {
        std::thread::sleep(Duration::from_secs(1));
        Ok(Placement::Wait)
    })
    .with_limit(Duration::from_millis(20));
    let queen = queen().worker(echo().build()).scheduler(scheduler).build().await.unwrap();
    let begun = std::time::Instant::now();
    for seed in 0..20 {
        read(queen.submit(request(seed, 9)).await.unwrap()).await.assert_whole(seed, 9);
    }
    assert!(begun.elapsed() < Duration::from_millis(900), "the policy held up the queue");
}

#[tokio::test(start_paused = true)]
async fn a_hive_that_goes_away_gets_no_jobs_and_its_streams_go_on_elsewhere() {
    let gate = EchoGate::new();
    let far = echo().hive("far".parse().unwrap()).gate(&gate).build();
    let near = echo().hive("near".parse().unwrap()).build();
    let machine = Arc::new(hive("far").with_worker(far.clone()));
    let queen = queen()
        .hive(machine.clone())
        .hive(hive("near").with_worker(near.clone()))
        .scheduler(first(far.info().id))
        .build()
        .await
        .unwrap();
    let mut job = queen.submit(request(7, 60)).await.unwrap();
    gate.release(20);
    let mut seen = Seen::default();
    while seen.tokens < 20 {
        seen.take(job.next().await.unwrap());
    }
    machine.disconnect();
    while let Some(event) = job.next().await {
        seen.take(event);
    }
    seen.assert_whole(7, 60);
    // It comes back, and joins the fleet again.
    machine.reconnect();
    gate.open();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let cluster = queen.cluster().await.unwrap();
    assert!(cluster.hive(machine_id(&machine)).unwrap().online);
    assert_eq!(cluster.available(&crate::queen_support::model()).count(), 2);
}

fn machine_id(hive: &rbee_core::InProcessHive) -> &rbee_core::HiveId {
    &rbee_core::hive::ModelHost::info(hive).id
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_failing_is_left_alone_until_a_probe_succeeds() {
    let worker = echo().fault_times(EchoFault::Refuse(ErrorKind::WorkerFault), 3).build();
    worker.set_health_error(Some(Error::new(ErrorKind::WorkerFault, "sick")));
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    let job = queen.submit(request(1, 9)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(queen.position(job.id()).await.unwrap().is_some(), "it waits for a sound worker");
    worker.set_health_error(None);
    read(job).await.assert_whole(1, 9);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn every_wait_has_a_bound() {
    let settings = Settings { interactive_wait: Duration::from_secs(60), ..Settings::default() };
    let worker = echo().gate(&EchoGate::new()).build();
    let queen = queen().settings(settings).worker(worker).build().await.unwrap();
    let begun = tokio::time::Instant::now();
    let runs = queen.submit(request(1, 9).timeout(Duration::from_secs(90))).await.unwrap();
    let hurries = queen.submit(request(2, 9).deadline(Duration::from_secs(20))).await.unwrap();
    let waits = queen.submit(request(3, 9)).await.unwrap();
    assert_eq!(read(hurries).await.error().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(begun.elapsed().as_secs(), 20);
    let error = read(waits).await.error().clone();
    assert_eq!(error.kind(), ErrorKind::QueueTimeout);
    assert!(error.message().contains("interactive_wait"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(read(runs).await.error().kind(), ErrorKind::JobTimeout);
    assert_eq!(begun.elapsed().as_secs(), 90);
    quiet(&queen).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_asks_to_wait_as_long_as_it_has_taken_no_job_to_end() {
    let settings = Settings { queue_capacity: 2, ..Settings::default() };
    let gate = EchoGate::new();
    let queen =
        queen().settings(settings).worker(echo().gate(&gate).build()).build().await.unwrap();
    let mut jobs = Vec::new();
    for seed in 0..3 {
        jobs.push(queen.submit(request(seed, 5)).await.unwrap());
    }
    let error = queen.submit(request(9, 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SystemAtCapacity);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(40)).await;
    let error = queen.submit(request(9, 5)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(64)), "40 s, coarsely");
    assert_eq!(queen.position(jobs[2].id()).await.unwrap(), Some(1));
    gate.open();
    for (seed, job) in jobs.into_iter().enumerate() {
        read(job).await.assert_whole(seed as u64, 5);
    }
    assert_eq!(EchoWorker::text(0, 0), "");
}
