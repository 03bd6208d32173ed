//! A queen that is served on a loopback port of the test's own process, and the program `rbee` that connects to it.
#![allow(unreachable_pub, reason = "a module of a test binary")]

#[cfg(unix)]
pub mod terminal;
pub mod well_said;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, HiveId, InProcessHive, Queen, QueenBuilder, Result, Worker, WorkerId,
    WorkerSpec, async_trait,
    hive::{Device, DeviceKind, Progress, WorkerFactory},
    registry::{JobFilter, JobRecord},
    worker::{EchoBuilder, EchoWorker},
};
use rbee_transport_http::server::{QueenServer, Server};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The timeout of everything in a test.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A queen with an echo worker under the name `bee`, at an address.
pub struct Hall {
    pub queen: Queen,
    pub echo: Arc<EchoWorker>,
    pub url: String,
    stop: DropGuard,
}

pub fn echo() -> EchoBuilder {
    EchoWorker::builder("echo".parse().unwrap()).slots(8)
}

impl Hall {
    pub async fn new() -> Self {
        Self::with(echo()).await
    }

    pub async fn with(echo: EchoBuilder) -> Self {
        Self::built(echo, |queen| queen, |server| server).await
    }

    /// Makes one with this queen and this server.
    pub async fn built(
        echo: EchoBuilder,
        queen: impl FnOnce(QueenBuilder) -> QueenBuilder,
        server: impl FnOnce(QueenServer) -> QueenServer,
    ) -> Self {
        let echo = echo.build();
        let builder = Queen::builder().seed(1).worker(echo.clone()).alias("bee", "echo");
        let queen = queen(builder).build().await.unwrap();
        let listener = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.address());
        let router = server(QueenServer::new(queen.clone())).router();
        let stop = CancellationToken::new();
        tokio::spawn(listener.run(router, stop.clone(), Duration::ZERO));
        Self { queen, echo, url, stop: stop.drop_guard() }
    }

    /// The program, with this queen's address.
    pub fn rbee(&self, arguments: &[&str]) -> Rbee {
        Rbee::new(arguments).env("RBEE_HOST", &self.url)
    }

    /// Stops the queen's server, with all its connections.
    pub fn vanish(self) -> Queen {
        let Self { queen, stop, .. } = self;
        drop(stop);
        queen
    }

    /// The job that was submitted last.
    pub async fn last_job(&self) -> JobRecord {
        let filter = JobFilter { limit: 1, with_text: true, ..JobFilter::default() };
        self.queen.jobs(&filter).await.unwrap().remove(0)
    }
}

/// Waits until the condition is true.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, waited).await.is_ok(), "never: {what}");
}

/// Spawns echo workers; loading a model that ends in `.toml` fails.
#[derive(Debug)]
pub struct Echoes;

#[async_trait]
impl WorkerFactory for Echoes {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        _: Progress,
    ) -> Result<Arc<dyn Worker>> {
        if spec.model.as_str().ends_with(".toml") {
            return Err(Error::new(ErrorKind::ModelIncompatible, "there is no echo in it"));
        }
        let builder = EchoWorker::builder(spec.model.clone());
        let builder = builder.id(id).hive(hive.clone()).slots(spec.slots);
        Ok(builder.info(|info| info.devices = spec.devices.clone()).build())
    }
}

/// A machine that loads echo workers, independent of the real hardware.
pub fn hive(name: &str) -> InProcessHive {
    let memory = 64_000_000_000;
    let device = |index, kind, name: &str| Device {
        index,
        kind,
        name: name.into(),
        memory_total: memory,
        memory_free: memory / 2,
    };
    let devices =
        vec![device(0, DeviceKind::Cpu, "a processor"), device(1, DeviceKind::Cuda, "a card")];
    let hive = InProcessHive::new().with_id(HiveId::new(name).unwrap());
    hive.with_factory(Echoes).with_devices(devices)
}

/// The program before its start.
pub struct Rbee {
    command: Command,
    input: Option<String>,
    home: tempfile::TempDir,
}

impl Rbee {
    pub fn new(arguments: &[&str]) -> Self {
        Self::at(PathBuf::from(env!("CARGO_BIN_EXE_rbee")), arguments)
    }

    /// A copy of the program at another path.
    pub fn at(program: PathBuf, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        Self { command, input: None, home }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn directory(mut self, path: &std::path::Path) -> Self {
        self.command.current_dir(path);
        self
    }

    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    /// Starts it with this for all three standard streams.
    #[cfg(unix)]
    pub fn start_on(mut self, stream: impl Fn() -> Stdio) -> Running {
        self.command.stdin(stream()).stdout(stream()).stderr(stream());
        Running { child: self.command.spawn().unwrap(), _home: self.home }
    }

    pub fn start(mut self) -> Running {
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let (Some(text), Some(mut stdin)) = (self.input, child.stdin.take()) {
            tokio::spawn(async move {
                let _ = stdin.write_all(text.as_bytes()).await;
            });
        }
        Running { child, _home: self.home }
    }

    pub async fn run(self) -> Ended {
        self.start().end().await
    }
}

/// The running program. It is killed when it is dropped.
pub struct Running {
    pub child: Child,
    _home: tempfile::TempDir,
}

impl Running {
    /// Waits until standard output has this many bytes more, and returns them.
    pub async fn read(&mut self, bytes: usize) -> String {
        let mut read = vec![0; bytes];
        let out = self.child.stdout.as_mut().unwrap().read_exact(&mut read);
        tokio::time::timeout(TIMEOUT, out).await.unwrap().unwrap();
        String::from_utf8(read).unwrap()
    }

    /// The next line of standard output.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line += &self.read(1).await;
        }
        line
    }

    #[cfg(unix)]
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    pub async fn end(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        let ended = async {
            let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
            let read_out = async {
                if let Some(mut stdout) = stdout {
                    stdout.read_to_string(&mut out).await.unwrap();
                }
            };
            let read_err = async { stderr.unwrap().read_to_string(&mut err).await.unwrap() };
            tokio::join!(read_out, read_err);
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(TIMEOUT, ended).await;
        let Ok(status) = status else { panic!("it does not end") };
        Ended { code: status.code(), out, err }
    }
}

/// The exit code and the output of the program.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Checks that it failed with this exit code, and that standard error contains all of this.
    #[track_caller]
    pub fn failed(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        // An error in JSON has its own quotes.
        if !self.err.starts_with('{') {
            well_said::assert_well_said(&self.err);
        }
        for said in says {
            assert!(self.err.contains(said), "{said:?} is not said: {self:?}");
        }
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard output as one JSON object a line.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The cells of a table, by row.
    pub fn rows(&self) -> Vec<Vec<&str>> {
        self.out
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect()
    }
}
