//! Hives on a "machine" that is reached by SSH alone: a real `sshd` and real programs, in a directory of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rbee_core::{
    ErrorKind, HiveBackend, Queen, Request, WorkerId, WorkerSpec, conformance, hive::Progress,
    id::Epoch,
};
use rbee_end_to_end::built;
use rbee_transport_ssh::{
    ConfigOptions, SshEvent, SshHive, SshStep,
    deploy::{DeployStep, Programs},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::sshd::{Sshd, user};

const PROGRAMS: [&str; 2] = ["rbee-hive", "llm-worker-rbee"];
const GRACE: Duration = Duration::from_secs(5);

/// A directory with the programs of this build, without the symbols for debuggers.
fn programs() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ssh-programs");
    fs::create_dir_all(&directory).unwrap();
    for name in PROGRAMS {
        let (source, target) = (built(name), directory.join(name));
        let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        if modified(&target) >= modified(&source) {
            continue;
        }
        // Other tests may do the same at this moment.
        let new = directory.join(format!("{name}.{}", std::process::id()));
        let strip = Command::new("strip").arg("-o").arg(&new).arg(&source).status();
        assert!(strip.unwrap().success(), "strip is a part of binutils");
        fs::rename(new, target).unwrap();
    }
    directory
}

/// A machine with a server, and a directory for rbee on it. Processes that are left there are killed at the end.
struct Machine {
    sshd: Sshd,
}

impl Machine {
    fn start() -> Self {
        Self::with_lines(&[])
    }

    fn with_lines(lines: &[&str]) -> Self {
        Self { sshd: Sshd::with_lines(lines) }
    }

    fn root(&self) -> PathBuf {
        self.sshd.path("rbee")
    }

    fn state(&self) -> PathBuf {
        self.root().join("hives/box")
    }

    /// The configuration of a person who calls this machine `box`.
    fn config(&self) -> ConfigOptions {
        let text = format!(
            "Host box\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n \
             UserKnownHostsFile {}\n GlobalKnownHostsFile none\n",
            self.sshd.port,
            user(),
            self.sshd.client_key.path.display(),
            self.sshd.path("known_hosts").display()
        );
        let path = self.sshd.path("ssh_config");
        fs::write(&path, text).unwrap();
        ConfigOptions::file(path)
    }

    fn hive(&self) -> SshHive {
        let found =
            Programs::new(env!("CARGO_PKG_VERSION")).without_defaults().with_path(programs());
        SshHive::new("box".parse().unwrap(), "box".parse().unwrap())
            .with_config(self.config())
            .with_programs(Arc::new(found))
            .with_directory(self.root().to_str().unwrap())
            .with_arguments(["--threads", "1"].map(str::to_owned))
            .with_lease(Duration::from_secs(60))
    }

    fn record(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.state().join("hive.json")).ok()?).ok()
    }

    fn pid(&self) -> Pid {
        pid_of(&self.record().expect("the hive is recorded")).unwrap()
    }
}

fn pid_of(record: &serde_json::Value) -> Option<Pid> {
    Pid::from_raw(i32::try_from(record["process"]["pid"].as_i64()?).ok()?)
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

impl Drop for Machine {
    fn drop(&mut self) {
        let workers = fs::read_dir(self.state().join("workers")).into_iter().flatten().flatten();
        let records = workers.map(|entry| entry.path()).chain([self.state().join("hive.json")]);
        for path in records.filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
            let record = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(pid) = record.as_ref().and_then(pid_of) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
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
    assert!(did(SshStep::Start).is_some_and(|text| text.starts_with("found")), "{steps:?}");
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
    assert!(is_gone(daemon));
    let removed = hive.uninstall(true).await.unwrap();
    assert!(!machine.root().exists(), "{removed:?}");
    assert!(removed.kept.is_empty(), "{removed:?}");
    assert!(removed.removed.iter().any(|(path, _)| path.contains("hives/box")), "{removed:?}");
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
