//! Hives on a "machine" that is reached by SSH alone: a real `sshd` and real programs, in a directory of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rbee_core::{
    ErrorKind, HiveBackend, Queen, Request, WorkerId, WorkerSpec, conformance, hive::Progress,
    id::Epoch,
};
use rbee_transport_ssh::{ConfigOptions, SshEvent, SshHive, SshStep, deploy::DeployStep};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    machine::{Machine, is_gone, pid_of},
    programs,
};

const GRACE: Duration = Duration::from_secs(5);

impl Machine {
    fn hive(&self) -> SshHive {
        SshHive::new("box".parse().unwrap(), "box".parse().unwrap())
            .with_config(ConfigOptions::file(self.config()))
            .with_programs(programs::real())
            .with_directory(self.root().to_str().unwrap())
            .with_arguments(["--threads", "1"].map(str::to_owned))
            .with_lease(Duration::from_secs(60))
    }
}

fn bee_tiny() -> WorkerSpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    spec(&format!("file:{}", path.canonicalize().unwrap().display()))
}

fn spec(model: &str) -> WorkerSpec {
    let mut spec = WorkerSpec::new(model.parse().unwrap());
    (spec.slots, spec.devices) = (2, vec![0]);
    spec
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

async fn ask(queen: &Queen, model: &str) -> String {
    let request =
        Request::chat(model).user("Tell me about a lily.").temperature(0.0).max_tokens(24);
    let mut answer = queen.submit(request).await.unwrap();
    let mut text = String::new();
    while let Some(more) = answer.next_text().await.unwrap() {
        text.push_str(&more);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_on_a_machine_with_nothing_but_ssh_keeps_the_contract_of_hives() {
    let machine = Machine::start();
    let hive = Arc::new(machine.hive());
    conformance::hive::check(hive, bee_tiny(), spec("file:/no/such/model")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_streams_from_a_worker_on_the_machine_and_nothing_listens_there_but_sockets() {
    let machine = Machine::start();
    let queen = Queen::builder().hive(machine.hive()).build().await.unwrap();
    let model = bee_tiny().model.to_string();
    assert!(ask(&queen, &model).await.contains("lily is a tall white flower"));
    let hive = machine.pid();
    let worker = queen.cluster().await.unwrap().workers().next().unwrap().info.id;
    let record = fs::read(machine.state().join(format!("workers/{worker}.json"))).unwrap();
    let worker = pid_of(&serde_json::from_slice(&record).unwrap()).unwrap();
    for pid in [hive, worker] {
        assert_eq!(tcp_sockets(pid), 0, "process {pid:?} has a TCP socket");
    }
    queen.shutdown(GRACE).await.unwrap();
    until("both have ended", || is_gone(hive) && is_gone(worker)).await;
}

/// How many sockets of the Internet a process has.
fn tcp_sockets(pid: Pid) -> usize {
    let pid = pid.as_raw_nonzero();
    let mut inodes = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        let inode = |line: &str| line.split_ascii_whitespace().nth(9).map(str::to_owned);
        inodes.extend(text.lines().skip(1).filter_map(inode));
    }
    let ends = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_one = |link: PathBuf| {
        let name = link.to_string_lossy().into_owned();
        inodes.iter().any(|inode| name == format!("socket:[{inode}]"))
    };
    ends.filter_map(|end| fs::read_link(end.path()).ok())
        .filter(|link| is_one(link.clone()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_outlives_its_connection_and_the_next_one_finds_it_without_an_upload() {
    let machine = Machine::start();
    let first = machine.hive();
    let events = first.watch(Epoch(1)).await.unwrap();
    let worker = first.spawn(WorkerId::random(), &bee_tiny(), Progress::ignore()).await.unwrap();
    let (daemon, id) = (machine.pid(), worker.info().id);
    // As if the queen were killed.
    drop((events, worker, first));
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    let show = move |event: SshEvent| {
        if let SshEvent::Finished { step, detail, .. } = event {
            seen.lock().unwrap().push((step, detail));
        }
    };
    let second = machine.hive().with_progress(Arc::new(show));
    let _events = second.watch(Epoch(2)).await.unwrap();
    assert_eq!(machine.pid(), daemon);
    assert_eq!(second.worker(id).await.unwrap().info().id, id);
    let steps = steps.lock().unwrap().clone();
    let did = |step: SshStep| steps.iter().find(|(is, _)| *is == step).map(|(_, text)| &**text);
    assert_eq!(did(SshStep::Deploy(DeployStep::Upload)), None, "{steps:?}");
    assert_eq!(did(SshStep::Start), None, "{steps:?}");
    assert!(did(SshStep::Tunnel).is_some_and(|text| text.contains("that runs")), "{steps:?}");
    assert!(did(SshStep::Health).is_some(), "{steps:?}");
    second.shutdown(GRACE).await.unwrap();
    until("the hive has ended", || is_gone(daemon)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_allows_one_session_at_a_time_and_no_forwarding_is_enough() {
    let machine = Machine::with_lines(&["MaxSessions 1", "DisableForwarding yes"]);
    let hive = machine.hive();
    let _events = hive.watch(Epoch(1)).await.unwrap();
    hive.report().await.unwrap();
    hive.shutdown(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_on_the_machine_is_removed_and_named() {
    let machine = Machine::start();
    let hive = machine.hive();
    let _events = hive.watch(Epoch(1)).await.unwrap();
    let daemon = machine.pid();
    hive.shutdown(GRACE).await.unwrap();
    until("it has ended", || is_gone(daemon)).await;
    let removed = hive.uninstall(true).await.unwrap();
    assert!(!machine.root().exists(), "{removed:?}");
    assert!(removed.kept.is_empty(), "{removed:?}");
    assert!(removed.removed.iter().any(|(path, _)| path.contains("hives/box")), "{removed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_that_is_not_connected_is_ended_with_its_workers_and_not_started_for_that() {
    let machine = Machine::start();
    let first = machine.hive();
    let _events = first.watch(Epoch(1)).await.unwrap();
    let worker = first.spawn(WorkerId::random(), &bee_tiny(), Progress::ignore()).await.unwrap();
    let record = machine.state().join(format!("workers/{}.json", worker.info().id));
    let pid_of_worker = || pid_of(&serde_json::from_slice(&fs::read(&record).unwrap()).unwrap());
    let (daemon, worker) = (machine.pid(), pid_of_worker().unwrap());
    machine.hive().shutdown(GRACE).await.unwrap();
    until("both have ended", || is_gone(daemon) && is_gone(worker)).await;
    // Now there is nothing to end.
    let other = machine.hive();
    other.shutdown(GRACE).await.unwrap();
    assert!(machine.record().is_none_or(|record| pid_of(&record).is_none_or(is_gone)));
    let removed = other.uninstall(true).await.unwrap();
    assert!(!machine.root().exists(), "{removed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_hive_that_was_killed_are_ended_without_it() {
    let machine = Machine::start();
    let first = machine.hive();
    let _events = first.watch(Epoch(1)).await.unwrap();
    let worker = first.spawn(WorkerId::random(), &bee_tiny(), Progress::ignore()).await.unwrap();
    let record = machine.state().join(format!("workers/{}.json", worker.info().id));
    let worker = pid_of(&serde_json::from_slice(&fs::read(&record).unwrap()).unwrap()).unwrap();
    kill_process(machine.pid(), Signal::KILL).unwrap();
    machine.hive().shutdown(Duration::from_secs(1)).await.unwrap();
    until("the worker has ended", || is_gone(worker)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_that_was_killed_is_started_again_and_takes_its_workers_over() {
    let machine = Machine::start();
    let hive = machine.hive();
    let events = hive.watch(Epoch(1)).await.unwrap();
    let worker = hive.spawn(WorkerId::random(), &bee_tiny(), Progress::ignore()).await.unwrap();
    let (daemon, id) = (machine.pid(), worker.info().id);
    kill_process(daemon, Signal::KILL).unwrap();
    // The relay ends with the hive, and the tunnel with the relay.
    let end = async { futures_util::StreamExt::count(events).await };
    tokio::time::timeout(GRACE, end).await.expect("the events end");
    let _events = hive.watch(Epoch(2)).await.unwrap();
    assert_ne!(machine.pid(), daemon);
    assert_eq!(hive.worker(id).await.unwrap().info().id, id);
    hive.shutdown(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_reached_or_trusted_is_refused_with_what_to_do() {
    let machine = Machine::start();
    machine.sshd.set_known_hosts("");
    let error = machine.hive().watch(Epoch(1)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.message();
    assert!(text.starts_with("hive box (box): the host key of [127.0.0.1]:"), "{text}");
    assert!(text.contains(&machine.sshd.host_keys[0].fingerprint()), "{text}");
    assert!(text.contains("--accept-new"), "{text}");
    assert!(!machine.root().exists(), "nothing was put there");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_a_hive_that_does_not_start_say_why() {
    let machine = Machine::start();
    let hive = machine.hive().with_arguments(["--no-such-flag".to_owned()]);
    let began = Instant::now();
    let error = hive.watch(Epoch(1)).await.err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(25), "it does not wait for an end that has come");
    let text = error.message();
    assert!(text.contains("does not start") && text.contains("--no-such-flag"), "{text}");
}
