//! Machines with an address of their own, in network namespaces: `examples/ssh_machines/machines.sh` makes them. Each
//! has an SSH server, a user without any rights, and no route to anywhere.
//!
//! These tests need root. `RBEE_SKIP_MACHINES=1` leaves them out, and says so.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, ModelRef, Queen, Request, WorkerId, WorkerSpec,
    cluster::WorkerState,
    event::EventKind,
    hive::{ModelHost, ModelOrigin, Progress},
    id::Epoch,
    settings::Settings,
};
use rbee_transport_ssh::{ConfigOptions, SshHive};

use crate::programs;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ssh_machines/machines.sh");
const SKIP: &str = "RBEE_SKIP_MACHINES";
const GRACE: Duration = Duration::from_secs(5);

/// Machines, which are removed at the end. Tests with machines run one after the other: they share addresses.
struct Machines {
    directory: PathBuf,
    variables: BTreeMap<&'static str, String>,
    _lock: File,
}

impl Machines {
    /// `None` if they are to be left out.
    fn up(count: usize) -> Option<Self> {
        Self::with(count, &[])
    }

    fn with(count: usize, variables: &[(&'static str, &str)]) -> Option<Self> {
        if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
            eprintln!("{SKIP}=1: MACHINES IN NAMESPACES ARE NOT TESTED");
            return None;
        }
        let lock = File::create(std::env::temp_dir().join("rbee-test-machines.lock")).unwrap();
        lock.lock().unwrap();
        let directory = std::env::temp_dir().join("rbee-test-machines");
        let mut variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        variables.insert("MACHINES_DIR", directory.display().to_string());
        // A person's own machines have the other one.
        variables.insert("MACHINES_SUBNET", "198.19".into());
        let machines = Self { directory, variables, _lock: lock };
        // Those of a run that was killed.
        machines.script(&["down"]);
        machines.script(&["up", &count.to_string()]);
        Some(machines)
    }

    fn script(&self, arguments: &[&str]) -> String {
        let output = self.try_script(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "machines.sh {arguments:?}: {said}; {SKIP}=1 leaves these tests out"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_script(&self, arguments: &[&str]) -> Output {
        Command::new("sh").arg(SCRIPT).args(arguments).envs(&self.variables).output().unwrap()
    }

    fn hive(&self, machine: &str) -> SshHive {
        self.hive_named(machine, machine)
    }

    fn hive_named(&self, machine: &str, name: &str) -> SshHive {
        SshHive::new(name.parse().unwrap(), machine.parse().unwrap())
            .with_config(ConfigOptions::file(self.directory.join("ssh_config")))
            .with_programs(programs::with_echo_worker())
            .with_lease(Duration::from_secs(60))
    }

    /// A model that every machine can read, whose worker emits a token every 20 ms.
    fn model(&self) -> String {
        let target = self.directory.join("bee-ticks");
        if !target.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
            fs::create_dir(&target).unwrap();
            for file in fs::read_dir(source).unwrap().flatten() {
                if file.path().is_file() {
                    fs::copy(file.path(), target.join(file.file_name())).unwrap();
                }
            }
        }
        format!("file:{}", target.display())
    }

    fn spec(&self) -> WorkerSpec {
        let mut spec = WorkerSpec::new(self.model().parse().unwrap());
        (spec.slots, spec.devices) = (2, vec![0]);
        spec
    }

    /// What runs on a machine besides its SSH server and this question.
    fn processes(&self, machine: &str) -> Vec<String> {
        let all = self.script(&["run", machine, "ps", "-eo", "args="]);
        let is_ours = |line: &&str| !line.starts_with("sshd") && !line.starts_with("ps ");
        all.lines().filter(is_ours).map(str::to_owned).collect()
    }

    /// The addresses that anything listens on there, apart from the SSH server.
    fn listeners(&self, machine: &str) -> Vec<String> {
        let all = self.script(&["run", machine, "ss", "-Hlntu"]);
        let address = |line: &str| line.split_ascii_whitespace().nth(4).map(str::to_owned);
        all.lines().filter_map(address).filter(|address| !address.ends_with(":22")).collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::env::var_os("RBEE_KEEP_MACHINES").is_none() {
            self.try_script(&["down"]);
        }
    }
}

fn settings() -> Settings {
    Settings { stall_timeout: Duration::from_secs(10), ..Settings::default() }
}

async fn queen_of(hives: impl IntoIterator<Item = SshHive>, settings: Settings) -> Queen {
    let mut builder = Queen::builder().settings(settings);
    for hive in hives {
        builder = builder.hive(hive);
    }
    builder.build().await.unwrap()
}

async fn online(queen: &Queen, count: usize) {
    let wait = async {
        loop {
            let hives = queen.fleet().list().await.unwrap();
            let up = hives.iter().filter(|hive| hive.status.as_str() == "online").count();
            if up == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
        panic!("{:#?}", queen.fleet().list().await);
    }
}

async fn ready(queen: &Queen, count: usize) {
    let wait = async {
        loop {
            let cluster = queen.cluster().await.unwrap();
            let is_ready = |worker: &&rbee_core::cluster::WorkerView| {
                worker.state == WorkerState::Ready && !worker.suspected
            };
            if cluster.workers().map(|worker| &**worker).filter(is_ready).count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the workers are ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_link_is_cut_goes_on_from_another_machine_without_a_gap() {
    let Some(machines) = Machines::up(3) else { return };
    let names = ["bee-1", "bee-2", "bee-3"];
    let queen = queen_of(names.map(|name| machines.hive(name)), settings()).await;
    online(&queen, 3).await;
    let mut workers = BTreeMap::new();
    for name in names {
        let hive: HiveId = name.parse().unwrap();
        let worker = queen.fleet().start_worker(hive.clone(), machines.spec(), true).await.unwrap();
        workers.insert(worker, hive);
    }
    ready(&queen, 3).await;
    // Each machine gets a share of the work.
    let text = "honey ".repeat(30);
    let ask = || async {
        let request = Request::chat(machines.model()).user(&text).max_tokens(60).seed(7);
        queen.submit(request).await.unwrap()
    };
    let jobs = join_all((0..3).map(|_| ask())).await;
    let mut used = std::collections::BTreeSet::new();
    let mut expected = String::new();
    for mut job in jobs {
        expected.clear();
        while let Some(event) = job.next().await {
            match event.kind {
                EventKind::Started(started) => {
                    used.insert(workers[&started.worker.unwrap()].clone());
                }
                EventKind::Token { text, .. } => expected.push_str(&text),
                EventKind::Error(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
    assert_eq!(used.len(), 3, "{used:?}");

    // The link of the machine with a stream is cut.
    let mut job = ask().await;
    let (mut said, mut began_on, mut is_cut) = (String::new(), None, false);
    while let Some(event) = job.next().await {
        match event.kind {
            EventKind::Started(started) => {
                began_on = Some(workers[&started.worker.unwrap()].clone());
            }
            EventKind::Token { text, .. } => said.push_str(&text),
            EventKind::Error(error) => panic!("{error}"),
            _ => {}
        }
        if said.len() > 40 && !is_cut {
            is_cut = true;
            machines.script(&["cut", began_on.as_ref().unwrap().as_str()]);
        }
    }
    assert_eq!(said, expected, "no gap, and nothing twice");
    assert_eq!(queen.job(job.id()).await.unwrap().attempts, 2);
    let cut = began_on.unwrap();

    // The machine comes back with the worker that it had.
    machines.script(&["heal", cut.as_str()]);
    online(&queen, 3).await;
    let cluster = queen.cluster().await.unwrap();
    let again: Vec<_> = cluster.on_hive(&cut).map(|worker| worker.info.id).collect();
    assert_eq!(again.len(), 1);
    assert_eq!(workers[&again[0]], cut, "it was not started anew");

    for name in names {
        assert_eq!(machines.listeners(name), Vec::<String>::new(), "{name}");
    }
    queen.shutdown(GRACE).await.unwrap();
    for name in names {
        assert_eq!(machines.processes(name), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_parts_are_killed_or_that_starts_again_comes_back() {
    let Some(machines) = Machines::up(1) else { return };
    let queen = queen_of([machines.hive("bee-1")], settings()).await;
    online(&queen, 1).await;
    let hive: HiveId = "bee-1".parse().unwrap();
    let worker = queen.fleet().start_worker(hive.clone(), machines.spec(), true).await.unwrap();
    ready(&queen, 1).await;

    // The sessions of the SSH server: the connection is gone, the hive is not.
    machines.script(&["run", "bee-1", "pkill", "-9", "-f", "sshd: bee"]);
    offline(&queen).await;
    online(&queen, 1).await;
    ready(&queen, 1).await;
    assert_eq!(queen.cluster().await.unwrap().workers().next().unwrap().info.id, worker);

    // The hive: the next one takes its workers over.
    machines.script(&["run", "bee-1", "pkill", "-9", "-f", "rbee-hive --id"]);
    offline(&queen).await;
    online(&queen, 1).await;
    ready(&queen, 1).await;
    assert_eq!(queen.cluster().await.unwrap().workers().next().unwrap().info.id, worker);

    // The machine: nothing of before runs there.
    machines.script(&["reboot", "bee-1"]);
    offline(&queen).await;
    online(&queen, 1).await;
    let request = Request::chat(machines.model()).user("honey").max_tokens(2);
    assert!(queen.submit(request).await.unwrap().answer().await.is_ok());
    queen.shutdown(GRACE).await.unwrap();
    assert_eq!(machines.processes("bee-1"), Vec::<String>::new());
}

async fn offline(queen: &Queen) {
    let wait = async {
        while queen.fleet().list().await.unwrap()[0].status.as_str() == "online" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the hive is offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_hives_are_added_side_by_side_and_one_that_fails_does_not_hold_the_others() {
    let Some(machines) = Machines::up(3) else { return };
    let names: Vec<String> = (0..50).map(|n| format!("hive-{n}")).collect();
    let hives = names.iter().enumerate().map(|(n, name)| {
        // One of them has another user.
        let machine = match n {
            7 => "nobody@bee-1".to_owned(),
            n => format!("bee-{}", n % 3 + 1),
        };
        machines.hive_named(&machine, name)
    });
    let queen = queen_of(hives, settings()).await;
    online(&queen, 49).await;
    let hives = queen.fleet().list().await.unwrap();
    let failed: Vec<_> = hives.iter().filter(|hive| hive.error.is_some()).collect();
    assert_eq!(failed.len(), 1);
    let error = failed[0].error.as_ref().unwrap();
    assert_eq!(failed[0].id.as_str(), "hive-7");
    assert!(error.message().contains("accepts no key for user nobody"), "{error}");
    queen.shutdown(GRACE).await.unwrap();
    for name in ["bee-1", "bee-2", "bee-3"] {
        assert_eq!(machines.processes(name), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_full_or_runs_no_programs_is_no_obstacle_if_another_place_is_there() {
    for options in ["size=1m", "noexec"] {
        let Some(machines) = Machines::with(1, &[("MACHINES_HOME", options)]) else { return };
        let hive = machines.hive("bee-1");
        let _events = hive.watch(Epoch(1)).await.unwrap();
        let processes = machines.processes("bee-1").join("\n");
        assert!(processes.contains("/rbee-7001/versions/"), "{options}: {processes}");
        hive.shutdown(GRACE).await.unwrap();
        hive.uninstall(true).await.unwrap();
        assert_eq!(machines.processes("bee-1"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_process_list_or_the_log_of_a_machine() {
    let Some(machines) = Machines::up(1) else { return };
    let hive = machines.hive("bee-1");
    let _events = hive.watch(Epoch(1)).await.unwrap();
    hive.spawn(WorkerId::random(), &machines.spec(), Progress::ignore()).await.unwrap();
    let home = machines.directory.join("bee-1/home");
    let state = home.join(".local/share/rbee/hives/bee-1");
    let mut secrets = Vec::new();
    let mut logs = machines.processes("bee-1").join("\n");
    for directory in [state.clone(), state.join("workers")] {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            match path.extension().and_then(|kind| kind.to_str()) {
                Some("json") => {
                    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
                    secrets.push(record["token"].as_str().unwrap().to_owned());
                }
                Some("log") => logs += &text,
                _ => {}
            }
        }
    }
    logs += &fs::read_to_string(machines.directory.join("bee-1/log")).unwrap();
    assert_eq!(secrets.len(), 2);
    assert!(logs.contains("rbee-hive") && logs.contains("ready"), "{logs}");
    for secret in secrets {
        assert!(!logs.contains(&secret), "{logs}");
    }
    hive.shutdown(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_only_machine_is_cut_off_for_good_ends_with_an_error_that_names_it() {
    let Some(machines) = Machines::up(1) else { return };
    let queen = queen_of([machines.hive("bee-1")], settings()).await;
    online(&queen, 1).await;
    let request = Request::chat(machines.model())
        .user("honey ".repeat(30))
        .max_tokens(500)
        .deadline(Duration::from_secs(8));
    let mut job = queen.submit(request).await.unwrap();
    let mut tokens = 0;
    let error = loop {
        match job.next().await.unwrap().kind {
            EventKind::Token { .. } => tokens += 1,
            EventKind::Error(error) => break error,
            _ => {}
        }
        if tokens == 10 {
            machines.script(&["cut", "bee-1"]);
        }
    };
    assert!(tokens >= 10);
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    offline(&queen).await;
    let error = queen.fleet().list().await.unwrap()[0].error.clone();
    assert!(error.is_none_or(|error| error.message().contains("bee-1")));
    drop(queen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_copied_to_a_machine_and_from_there_to_another_through_the_connections() {
    let Some(machines) = Machines::up(2) else { return };
    // In a directory that the user of the machines cannot read.
    let directory = machines.directory.join("private");
    let _ = machines.model();
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    fs::rename(machines.directory.join("bee-ticks"), directory.join("bee-ticks")).unwrap();
    let model: ModelRef = format!("file:{}/bee-ticks", directory.display()).parse().unwrap();
    let mut spec = WorkerSpec::new(model.clone());
    (spec.slots, spec.devices) = (1, vec![0]);
    let (first, second) = (Arc::new(machines.hive("bee-1")), Arc::new(machines.hive("bee-2")));
    let queen = Queen::builder().hive(first.clone()).hive(second.clone()).build().await.unwrap();
    online(&queen, 2).await;
    let to_first =
        queen.models().provision(first.info().id.clone(), model.clone(), Progress::ignore());
    let held = to_first.await.unwrap();
    assert!(held.bytes > 100_000);
    // It is not on the queen's machine any more.
    fs::remove_dir_all(&directory).unwrap();
    let files = first.files(&model).await.unwrap();
    let copied = second.provision(&model, ModelOrigin::Files(files), Progress::ignore());
    assert_eq!(copied.await.unwrap().bytes, held.bytes);
    second.spawn(WorkerId::random(), &spec, Progress::ignore()).await.unwrap();
    assert_eq!(second.verify(&model, Progress::ignore()).await.unwrap(), []);
    queen.shutdown(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_programs_replace_the_hive_and_its_workers_go_on() {
    let Some(machines) = Machines::up(1) else { return };
    let old = machines.hive("bee-1");
    let events = old.watch(Epoch(1)).await.unwrap();
    let worker = old.spawn(WorkerId::random(), &machines.spec(), Progress::ignore()).await.unwrap();
    let id = worker.info().id;
    drop((events, worker, old));
    let before = machines.processes("bee-1");
    let new = machines.hive("bee-1").with_programs(programs::changed(&machines.directory));
    let _events = new.watch(Epoch(2)).await.unwrap();
    assert_eq!(new.worker(id).await.unwrap().info().id, id);
    let after = machines.processes("bee-1");
    let of = |all: &[String], name: &str| {
        all.iter().find(|line| line.contains(name) && !line.contains("--relay")).cloned()
    };
    assert_eq!(of(&before, "/llm-worker-rbee"), of(&after, "/llm-worker-rbee"));
    assert_ne!(of(&before, "/rbee-hive"), of(&after, "/rbee-hive"));
    // The worker still runs the old programs, so they are kept; those of nobody are not.
    let versions = machines.directory.join("bee-1/home/.local/share/rbee/versions");
    assert_eq!(fs::read_dir(versions).unwrap().count(), 2);
    new.shutdown(GRACE).await.unwrap();
    assert_eq!(machines.processes("bee-1"), Vec::<String>::new());
}
