//! Machines as real processes, which end with the test.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{HiveBackend, HiveId, Queen, Request, WorkerId, WorkerSpec, hive::Progress};
use rbee_end_to_end::{built, private_tempdir};
use rbee_transport_http::LocalHive;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A hive on this machine, in its own directory. Processes that it leaves are killed at the end.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { dir: private_tempdir() }
    }

    pub(crate) fn hive(&self, more: &[&str]) -> LocalHive {
        self.hive_named(HiveId::local(), more)
    }

    pub(crate) fn hive_named(&self, name: HiveId, more: &[&str]) -> LocalHive {
        let worker = built("llm-worker-rbee").display().to_string();
        let arguments =
            ["--threads", "1", "--worker", &worker].into_iter().chain(more.iter().copied());
        let arguments: Vec<_> = arguments.map(str::to_owned).collect();
        LocalHive::new(name, self.dir.path().into())
            .with_program(built("rbee-hive"))
            .with_arguments(arguments)
    }

    pub(crate) fn hive_pid(&self) -> Pid {
        pid_in(&self.dir.path().join("hive.json"))
    }

    pub(crate) fn worker_pid(&self, id: WorkerId) -> Pid {
        pid_in(&self.dir.path().join("workers").join(format!("{id}.json")))
    }

    /// The processes that are recorded.
    pub(crate) fn remembered(&self) -> Vec<PathBuf> {
        let in_dir = |dir: &Path| {
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let mut all = in_dir(self.dir.path());
        all.extend(in_dir(&self.dir.path().join("workers")));
        all.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        all
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for path in self.remembered() {
            let _ = kill_process(pid_in(&path), Signal::KILL);
        }
    }
}

pub(crate) fn pid_in(path: &Path) -> Pid {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

pub(crate) fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

pub(crate) async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

pub(crate) fn bee_tiny() -> WorkerSpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    spec(&format!("file:{}", path.canonicalize().unwrap().display()))
}

pub(crate) fn spec(model: &str) -> WorkerSpec {
    let mut spec = WorkerSpec::new(model.parse().unwrap());
    (spec.slots, spec.devices) = (2, vec![0]);
    spec
}

/// A worker with the bundled model.
pub(crate) async fn spawned(hive: &LocalHive) -> WorkerId {
    hive.start().await.unwrap();
    let model = bee_tiny();
    let spawn = hive.spawn(WorkerId::random(), &model, Progress::ignore());
    spawn.await.unwrap().info().id
}

pub(crate) async fn ask(queen: &Queen, model: &str) -> String {
    let request =
        Request::chat(model).user("Tell me about a lily.").temperature(0.0).max_tokens(24);
    let mut answer = queen.submit(request).await.unwrap();
    let mut text = String::new();
    while let Some(more) = answer.next_text().await.unwrap() {
        text.push_str(&more);
    }
    text
}
