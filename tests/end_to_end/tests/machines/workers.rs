//! Machines as real processes: hives and workers that are started, killed, found again, and ended.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::machine::{Machine, ask, bee_tiny, is_gone, kill, spawned, spec, until};
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, Queen, WorkerId,
    hive::{HiveEvent, Progress},
    id::Epoch,
};
use rbee_end_to_end::{built, built_example};
use rbee_transport_http::{LocalHive, Token, client::Endpoint};
use rustix::process::{Signal, kill_process};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_of_the_hive_its_workers_are_found_again_and_go_on_without_a_new_load() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    let id = spawned(&hive).await;
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    let began = std::fs::metadata(machine.dir.path().join(format!("workers/{id}.log"))).unwrap();
    kill(daemon);
    until("the daemon ends", || is_gone(daemon)).await;
    assert!(!is_gone(worker), "the worker goes on");
    hive.start().await.unwrap();
    assert_ne!(machine.hive_pid(), daemon);
    assert_eq!(machine.worker_pid(id), worker);
    let log = std::fs::metadata(machine.dir.path().join(format!("workers/{id}.log"))).unwrap();
    assert_eq!(log.created().unwrap(), began.created().unwrap(), "it was not started anew");
    let model = bee_tiny().model.to_string();
    let queen = Queen::builder().hive(hive).build().await.unwrap();
    assert!(ask(&queen, &model).await.contains("lily is a tall white flower"));
    assert_eq!(queen.cluster().await.unwrap().workers().count(), 1);
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(is_gone(worker) && machine.remembered().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_comes_back_finds_the_hive_and_its_workers_again() {
    let machine = Machine::new();
    let first = machine.hive(&[]);
    let id = spawned(&first).await;
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    // As if the queen were killed: it sends nothing.
    drop(first);
    let second = machine.hive(&[]);
    second.start().await.unwrap();
    assert_eq!((machine.hive_pid(), machine.worker_pid(id)), (daemon, worker));
    assert_eq!(second.worker(id).await.unwrap().info().id, id);
    second.shutdown(Duration::from_secs(5)).await.unwrap();
    assert!(is_gone(daemon) && is_gone(worker));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_hive_that_the_queen_has_started_stays_small() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    hive.start().await.unwrap();
    let path = machine.dir.path().join("hive.log");
    let length = || std::fs::metadata(&path).unwrap().len();
    let mut log = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut log, &vec![b'x'; 5 << 20]).unwrap();
    hive.report().await.unwrap();
    assert!(length() < 1 << 20, "{}", length());
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("earlier output was removed"), "{text:.100}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_and_its_workers_end_when_no_queen_comes() {
    let machine = Machine::new();
    let hive = machine.hive(&[]).with_lease(Duration::from_secs(2));
    let id = spawned(&hive).await;
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    let mut events = hive.watch(Epoch(1)).await.unwrap();
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_millis(3_500) {
        let _ = tokio::time::timeout(Duration::from_millis(50), poll(&mut events)).await;
    }
    assert!(!is_gone(daemon), "who watches renews the lease");
    drop(events);
    until("the hive and its worker end", || is_gone(daemon) && is_gone(worker)).await;
}

async fn poll(
    events: &mut (impl futures_util::Stream<Item = HiveEvent> + Unpin),
) -> Option<HiveEvent> {
    futures_util::StreamExt::next(events).await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_killed_hive_end_when_no_other_comes() {
    let machine = Machine::new();
    let hive = machine.hive(&["--worker-lease", "1"]);
    let id = spawned(&hive).await;
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    kill(daemon);
    until("the worker ends", || is_gone(worker)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_that_is_told_to_end_takes_its_workers_along() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    let ids = [spawned(&hive).await, spawned(&hive).await];
    let workers = ids.map(|id| machine.worker_pid(id));
    let daemon = machine.hive_pid();
    kill_process(daemon, Signal::TERM).unwrap();
    until("the daemon ends", || is_gone(daemon)).await;
    assert!(workers.into_iter().all(is_gone), "none is left when it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_loading_when_its_hive_was_killed_goes_on_loading() {
    let machine = Machine::new();
    let model = machine.dir.path().join("model-slow");
    std::fs::write(&model, "weights").unwrap();
    let echo = built_example("rbee-transport-http", "echo-worker").display().to_string();
    let hive = Arc::new(
        LocalHive::new(HiveId::local(), machine.dir.path().into())
            .with_program(built("rbee-hive"))
            .with_arguments(["--worker".to_owned(), echo]),
    );
    hive.start().await.unwrap();
    let (id, slow) = (WorkerId::random(), spec(&format!("file:{}", model.display())));
    let (told, mut telling) = tokio::sync::watch::channel(());
    let progress = Progress::new(move |_| {
        told.send_replace(());
    });
    let spawn = {
        let (hive, slow) = (hive.clone(), slow.clone());
        tokio::spawn(async move { hive.spawn(id, &slow, progress).await.map(drop) })
    };
    telling.changed().await.unwrap();
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    kill(daemon);
    assert_eq!(spawn.await.unwrap().unwrap_err().kind(), ErrorKind::HiveUnreachable);
    hive.start().await.unwrap();
    // A second request follows the load that is in progress.
    let (told, mut telling) = tokio::sync::watch::channel(());
    let progress = Progress::new(move |_| {
        told.send_replace(());
    });
    let spawn = {
        let hive = hive.clone();
        tokio::spawn(async move { hive.spawn(id, &slow, progress).await.map(drop) })
    };
    telling.changed().await.unwrap();
    assert_eq!(machine.worker_pid(id), worker);
    hive.stop(id, Duration::from_secs(5)).await.unwrap();
    assert_eq!(spawn.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(is_gone(worker));
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_model_is_a_typed_error_from_the_worker_through_the_hive() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    hive.start().await.unwrap();
    let bad = spec(&format!("file:{}", machine.dir.path().join("none").display()));
    let error = hive.spawn(WorkerId::random(), &bad, Progress::ignore()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{error}");
    assert!(error.message().contains("/none"), "{error}");
    assert!(hive.report().await.unwrap().workers.is_empty());
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_a_hive_stand_in_no_argument_no_variable_and_no_log() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    let id = spawned(&hive).await;
    let record = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let files = machine.remembered();
    assert_eq!(files.len(), 2);
    for (pid, log) in [
        (machine.hive_pid(), "hive.log".to_owned()),
        (machine.worker_pid(id), format!("workers/{id}.log")),
    ] {
        let places = [format!("/proc/{pid}/cmdline").into(), format!("/proc/{pid}/environ").into()];
        for place in places.into_iter().chain([machine.dir.path().join(log)]) {
            let text = String::from_utf8_lossy(&std::fs::read(&place).unwrap()).into_owned();
            for file in &files {
                let token = record(file)["token"].as_str().unwrap().to_owned();
                assert!(token.len() == 64 && !text.contains(&token), "{place:?}");
            }
        }
    }
    hive.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[test]
fn a_hive_refuses_a_state_directory_that_others_use_and_leaves_it_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("letter.txt"), "").unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    let token = dir.path().join("hive.token");
    std::fs::write(&token, "t".repeat(43)).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    let output = std::process::Command::new(built("rbee-hive"))
        .args(["--port", "0", "--token-file"])
        .arg(&token)
        .arg("--state-dir")
        .arg(&shared)
        .env_remove("RBEE_HIVE_TOKEN")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for words in ["--state-dir", "mode 0755", "shared/rbee", "mode 0640", "`chmod 600 "] {
        assert!(said.contains(words), "{words:?} is not said: {said}");
    }
    assert_eq!(std::fs::metadata(&shared).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 1, "nothing is made in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_ends_neither_the_hive_nor_its_workers() {
    let machine = Machine::new();
    let hive = machine.hive(&[]);
    let id = spawned(&hive).await;
    let (daemon, worker) = (machine.hive_pid(), machine.worker_pid(id));
    for pid in [daemon, worker] {
        kill_process(pid, Signal::HUP).unwrap();
    }
    let model = bee_tiny().model.to_string();
    let queen = Queen::builder().hive(hive).build().await.unwrap();
    assert!(ask(&queen, &model).await.contains("lily is a tall white flower"));
    assert_eq!((machine.hive_pid(), machine.worker_pid(id)), (daemon, worker));
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_takes_a_new_token_from_its_file_when_it_is_told_to() {
    let place = tempfile::tempdir().unwrap();
    let [old, new] = [Token::random().unwrap(), Token::random().unwrap()];
    let file = place.path().join("token");
    std::fs::write(&file, old.reveal()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = tokio::process::Command::new(built("rbee-hive"));
    command.args(["--port", &port.to_string(), "--token-file"]).arg(&file);
    command.arg("--state-dir").arg(place.path().join("state")).kill_on_drop(true);
    let log = place.path().join("log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut daemon = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.id().unwrap()).unwrap()).unwrap();
    let takes = async |token: &Token| {
        let dial = Arc::new(rbee_transport_http::dial::Tcp::loopback());
        let endpoint = Endpoint::new(dial, port, Some(token.clone()));
        let path = rbee_transport_http::wire::hive::WORKERS;
        endpoint.get::<serde_json::Value>(path, Duration::from_secs(5)).await.is_ok()
    };
    until_async("it serves", async || takes(&old).await).await;
    std::fs::write(&file, "too short").unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until_async("the broken one is refused", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("the token is refused; the old one stays in force") && takes(&old).await
    })
    .await;
    std::fs::write(&file, new.reveal()).unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    std::fs::set_permissions(&file, readable).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until_async("the new token holds", async || takes(&new).await).await;
    assert!(!takes(&old).await);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("mode 0604"), "others can read it now: {said}");
    assert_eq!(daemon.try_wait().unwrap(), None);
}

async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waited).await.is_ok(), "never: {what}");
}
