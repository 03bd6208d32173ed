//! A hive whose workers are processes.

use std::{sync::Arc, time::Duration};

use crate::support::{self, echo_worker, hive, kill, pid_of, run, spec, until_gone};
use futures_util::StreamExt;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, Output, Worker, WorkerId, WorkerSpec, conformance,
    hive::{Device, DeviceKind, HiveEvent, Progress},
    id::Epoch,
};
use rbee_transport_http::ProcessHive;
use tempfile::TempDir;

/// An existing model whose name controls what its worker does.
fn model(dir: &TempDir, name: &str) -> WorkerSpec {
    let path = dir.path().join(name);
    std::fs::write(&path, "weights").unwrap();
    spec(&format!("file:{}", path.display()))
}

/// Starts a worker.
async fn spawned(hive: &ProcessHive, spec: &WorkerSpec) -> Arc<dyn Worker> {
    hive.start().await.unwrap();
    hive.spawn(WorkerId::random(), spec, Progress::ignore()).await.unwrap()
}

async fn refused(hive: &ProcessHive, spec: &WorkerSpec) -> Error {
    hive.start().await.unwrap();
    let error = hive.spawn(WorkerId::random(), spec, Progress::ignore()).await.unwrap_err();
    assert_eq!(hive.report().await.unwrap().workers, []);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_of_processes_keeps_the_contract_of_a_hive() {
    let dir = tempfile::tempdir().unwrap();
    let hive: Arc<dyn HiveBackend> = Arc::new(hive(&dir));
    conformance::hive::check(hive, model(&dir, "model"), spec("file:/no/such/model")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_told_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let hive = Arc::new(hive(&dir));
    let kill = |id| {
        let pid = pid_of(&dir, id);
        async move { kill(pid) }
    };
    conformance::hive::a_death_is_told(hive.clone(), model(&dir, "model"), kill).await;
    hive.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_a_worker_that_is_killed_is_lost_and_the_death_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let hive = hive(&dir);
    let worker = spawned(&hive, &model(&dir, "model-ticks")).await;
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    let mut answer = worker.execute(run(1_000)).await.unwrap();
    assert!(matches!(answer.next().await, Some(Ok(Output::Token { .. }))));
    kill(pid_of(&dir, worker.info().id));
    let killed = std::time::Instant::now();
    let why = loop {
        match events.next().await.unwrap() {
            HiveEvent::Exited { worker: gone, why } if gone == worker.info().id => break why,
            _ => {}
        }
    };
    assert!(killed.elapsed() < Duration::from_millis(900), "{:?}", killed.elapsed());
    assert_eq!(why.kind(), ErrorKind::WorkerLost);
    assert!(why.message().contains("signal: 9"), "{why}");
    assert!(why.message().contains("echo-worker: devices [0]"), "{why}");
    let error = loop {
        match answer.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    assert!(hive.report().await.unwrap().workers.is_empty());
    hive.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_hive_that_let_go_of_them_are_found_again_without_a_new_load() {
    let dir = tempfile::tempdir().unwrap();
    let first = hive(&dir);
    let worker = spawned(&first, &model(&dir, "model")).await;
    let (id, pid) = (worker.info().id, pid_of(&dir, worker.info().id));
    first.release();
    let second = hive(&dir);
    // It was not started explicitly: watching it is enough.
    let mut events = second.watch(Epoch(1)).await.unwrap();
    let Some(HiveEvent::Report(report)) = events.next().await else { panic!("no report") };
    assert_eq!(report.workers[0].info.id, id);
    let found = second.worker(id).await.unwrap();
    assert_eq!(found.info().url, worker.info().url);
    assert_eq!(pid_of(&dir, id), pid, "it is the same process");
    let outputs: Vec<_> = found.execute(run(3)).await.unwrap().collect().await;
    assert!(matches!(outputs.last(), Some(Ok(Output::End { .. }))), "{outputs:?}");
    second.stop(id, Duration::from_secs(5)).await.unwrap();
    until_gone(pid).await;
    second.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_workers_that_are_gone_is_forgotten_and_one_that_hangs_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let first = hive(&dir);
    let worker = spawned(&first, &model(&dir, "model")).await;
    let gone = spawned(&first, &model(&dir, "model")).await;
    let (pid, other) = (pid_of(&dir, worker.info().id), pid_of(&dir, gone.info().id));
    let remembered = dir.path().join("state").join(format!("{}.json", gone.info().id));
    let record = std::fs::read(&remembered).unwrap();
    first.release();
    kill(other);
    until_gone(other).await;
    // As if the same cause had killed the hive too.
    std::fs::write(&remembered, record).unwrap();
    support::signal(pid, rustix::process::Signal::STOP);
    let second = hive(&dir);
    second.start().await.unwrap();
    assert_eq!(second.report().await.unwrap().workers, []);
    until_gone(pid).await;
    assert!(!remembered.exists());
    second.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_by_itself_when_no_hive_renews_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let hive = hive(&dir).with_lease(Duration::from_secs(1));
    let worker = spawned(&hive, &model(&dir, "model")).await;
    let pid = pid_of(&dir, worker.info().id);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    worker.health().await.expect("the hive renews the lease");
    hive.release();
    until_gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_be_started_is_an_error_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = hive(&dir).with_program("/no/such/program");
    let error = refused(&missing, &model(&dir, "model")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("/no/such/program"), "{error}");
    drop(missing);

    let hive = hive(&dir).with_answer_limit(Duration::from_millis(1_000));
    let error = refused(&hive, &model(&dir, "model-fails")).await;
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    assert!(error.message().ends_with("model-fails has no weights"), "{error}");

    let error = refused(&hive, &model(&dir, "model-exits")).await;
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    assert!(error.message().contains("exit status: 3"), "{error}");
    assert!(error.message().ends_with("echo-worker: out of honey"), "{error}");

    let error = refused(&hive, &model(&dir, "model-taken")).await;
    assert_eq!(error.kind(), ErrorKind::WorkerLost);
    assert!(error.message().contains("found 5 ports taken"), "{error}");

    let error = refused(&hive, &model(&dir, "model-imposter")).await;
    assert_eq!(error.kind(), ErrorKind::SpawnTimeout, "another worker answers on the port");

    let error = refused(&hive, &model(&dir, "model-silent")).await;
    assert_eq!(error.kind(), ErrorKind::SpawnTimeout);
    assert!(error.message().contains("did not answer within 1s"), "{error}");
    drop(hive);

    let hive = support::hive(&dir).with_load_limit(Duration::from_millis(500));
    let error = refused(&hive, &model(&dir, "model-slow")).await;
    assert_eq!(error.kind(), ErrorKind::SpawnTimeout);
    assert!(error.message().contains("did not load its model within 500ms"), "{error}");
    let left = std::fs::read_dir(dir.path().join("state")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".json")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_while_it_loads_is_cancelled_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (id, slow) = (WorkerId::random(), model(&dir, "model-slow"));
    let first = Arc::new(hive(&dir));
    first.start().await.unwrap();
    let (told, mut telling) = tokio::sync::watch::channel(());
    let progress = Progress::new(move |_| {
        told.send_replace(());
    });
    let spawn = {
        let first = first.clone();
        tokio::spawn(async move { first.spawn(id, &slow, progress).await.map(drop) })
    };
    telling.changed().await.unwrap();
    let pid = pid_of(&dir, id);
    first.stop(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(spawn.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    until_gone(pid).await;
    first.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hive_at_a_time_uses_a_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (hive(&dir), hive(&dir));
    first.start().await.unwrap();
    let error = second.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    first.release();
    second.start().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_in_no_argument_no_variable_and_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let hive = hive(&dir);
    let worker = spawned(&hive, &model(&dir, "model")).await;
    let id = worker.info().id;
    let secret = hive.address(id).await.unwrap().token.reveal().to_owned();
    let pid = pid_of(&dir, id);
    let log = dir.path().join("state").join(format!("{id}.log"));
    for path in [format!("/proc/{pid}/cmdline").into(), format!("/proc/{pid}/environ").into(), log]
    {
        let text = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains(&secret), "{path:?}");
        assert!(!text.contains(&id.to_string()), "{path:?}");
        if path.ends_with("environ") {
            assert!(text.contains("CUDA_VISIBLE_DEVICES=\0"), "it sees no GPU: {text:?}");
        }
    }
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
    until_gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_sees_the_gpu_it_was_given_and_is_reported_on_it() {
    let device = |index, kind| Device {
        index,
        kind,
        name: "device".into(),
        memory_total: 2,
        memory_free: 1,
    };
    let cuda = DeviceKind::Cuda;
    let devices =
        vec![device(0, DeviceKind::Cpu), device(1, cuda), device(2, cuda), device(3, cuda)];
    let dir = tempfile::tempdir().unwrap();
    let hive = hive(&dir).with_devices(devices);
    let mut on_the_third = model(&dir, "model");
    on_the_third.devices = vec![3];
    let worker = spawned(&hive, &on_the_third).await;
    assert_eq!(worker.info().devices, [3]);
    let id = worker.info().id;
    let environ = std::fs::read(format!("/proc/{}/environ", pid_of(&dir, id))).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("CUDA_VISIBLE_DEVICES=2\0"));
    let log = std::fs::read_to_string(dir.path().join("state").join(format!("{id}.log"))).unwrap();
    assert!(log.contains("echo-worker: devices [1]"), "{log}");
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_reports_what_its_worker_processes_take() {
    let dir = tempfile::tempdir().unwrap();
    let first = hive(&dir);
    spawned(&first, &model(&dir, "model")).await;
    let taken = |report: rbee_core::hive::HiveReport| report.workers[0].health.vram_bytes;
    let bytes = taken(first.report().await.unwrap()).expect("it is measured");
    assert!((1 << 20..1 << 30).contains(&bytes), "{bytes}");
    first.release();
    let next = hive(&dir);
    next.start().await.unwrap();
    assert!(taken(next.report().await.unwrap()) > Some(1 << 20), "of one that was found, too");
    next.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let hive = ProcessHive::new(HiveId::local(), dir.path().into())
        .with_program(echo_worker())
        .with_lease(Duration::from_millis(10));
    let error = hive.start().await.unwrap_err();
    assert_eq!(error.message(), "the lease of workers is 10ms; allowed is 1s to 24h");
}
