//! [`LocalHive`]: this machine's hive, as a child daemon.

#[cfg(feature = "tunnel")]
mod socket_tunnel;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, ModelRef, Result, Worker, WorkerId, WorkerSpec,
    hive::{HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelFiles, ModelOnDisk},
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

#[cfg(feature = "tunnel")]
use crate::client::Tunnel;
use crate::{
    client::{Endpoint, HttpHive},
    dial::{Dial, Tcp},
    process::{Identity, Lock, Running, StateDir, free_port},
    process_hive::ProcessHive,
    program::Program,
    token::Token,
    wire::worker::EXIT_PORT_TAKEN,
};

/// The name of the hive's program.
const PROGRAM: &str = "rbee-hive";
/// The name of its record in the state directory.
const NAME: &str = "hive";
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The name of its socket in the state directory.
#[cfg(feature = "tunnel")]
const SOCKET: &str = "hive.sock";
/// How long a started daemon may take to respond.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between two checks of a daemon that starts.
const LOOK: Duration = Duration::from_millis(20);
/// How long a daemon that already runs may take to respond.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it has to stop its workers and to end, before it is killed.
const GRACE: Duration = Duration::from_secs(30);
/// How many ports are tried, in case another program takes one between the choice and the use.
const PORT_TRIES: usize = 5;

/// A hive on this machine that is a daemon of its own: it outlives a queen that is killed, and the next queen finds
/// it again with all its workers.
///
/// [`watch`](HiveBackend::watch) adopts the daemon recorded in the state directory if it is alive, and otherwise runs
/// `rbee-hive`. [`shutdown`](HiveBackend::shutdown) ends it: by request, then SIGTERM, 30 seconds, and SIGKILL.
/// Dropping this leaves it to the next queen, or until its lease expires.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// use rbee_core::{HiveId, Queen};
/// use rbee_transport_http::LocalHive;
///
/// let hive = LocalHive::new(HiveId::local(), "/var/lib/rbee/local-hive".into());
/// let queen = Queen::builder().hive(hive).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalHive {
    info: HiveInfo,
    path: PathBuf,
    state_dir: StateDir,
    program: Option<Program>,
    arguments: Vec<String>,
    lease: Duration,
    /// The socket of the daemon, if it has one instead of a port.
    #[cfg(feature = "tunnel")]
    socket: Option<PathBuf>,
    up: Mutex<Option<Up>>,
    /// Held during a start or an end, so that there is one at a time.
    changing: tokio::sync::Mutex<()>,
}

/// The running daemon.
#[derive(Clone, Debug)]
struct Up {
    running: Running,
    hive: Arc<HttpHive>,
    _lock: Arc<Lock>,
}

/// The record of the daemon in the state directory.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    process: Identity,
    port: u16,
    token: Token,
    /// Its program; records of older versions do not have it.
    #[serde(default)]
    program: PathBuf,
}

impl LocalHive {
    /// The hive of this name, recorded in this directory.
    pub fn new(id: HiveId, state_dir: PathBuf) -> Self {
        Self {
            info: HiveInfo::local(id),
            state_dir: StateDir::new(state_dir.clone()),
            path: state_dir,
            program: None,
            arguments: Vec::new(),
            lease: Duration::from_secs(90),
            #[cfg(feature = "tunnel")]
            socket: None,
            up: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Sets the program of the hive; by default `rbee-hive` in the directory of this process's program.
    pub fn with_program(mut self, program: impl Into<Program>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Adds arguments, for example `--engines` and a file; nothing secret, because every user of the machine sees
    /// them.
    pub fn with_arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments = arguments.into_iter().collect();
        self
    }

    /// Sets how long the hive continues without a queen; 90 seconds by default.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Lets the daemon and its workers listen on Unix sockets in the state directory instead of ports of the loopback
    /// interface. Only this user reaches them; [`socket`](Self::socket) is the daemon's.
    #[cfg(feature = "tunnel")]
    pub fn with_socket(mut self) -> Self {
        self.socket = Some(self.path.join(SOCKET));
        self
    }

    /// The path of the daemon's socket, which accepts [tunnels](crate::client::Tunnel), in a state directory.
    #[cfg(feature = "tunnel")]
    pub fn socket(state_dir: &Path) -> PathBuf {
        state_dir.join(SOCKET)
    }

    /// [Starts](Self::start) the daemon, and leaves it to others: to a queen on another machine that reaches its socket.
    /// One that runs another program is replaced; its workers continue.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "tunnel")]
    pub async fn detach(self) -> Result<crate::wire::hive::Detached> {
        self.state_dir.create()?;
        let _lock = self.state_dir.lock()?;
        let (running, hive, adopted) = match self.adopt(Some(&self.program()?.path)).await {
            Some((running, hive)) => (running, hive, true),
            None => self.run().await.map(|(running, hive)| (running, hive, false))?,
        };
        let process = running.identity().number().unwrap_or_default();
        let gone = || {
            let message = format!("hive {} has just ended", self.info.id);
            Error::new(ErrorKind::HiveUnreachable, message)
        };
        let record: Record = self.state_dir.read(NAME).ok_or_else(gone)?;
        let version = hive.health().await?.version;
        Ok(crate::wire::hive::Detached { process, token: record.token, adopted, version })
    }

    /// Adopts the daemon that is alive, or runs one, without taking its lease for a queen.
    /// [`watch`](HiveBackend::watch) does this first. Idempotent, also after a shutdown.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another queen uses the state directory, [`ErrorKind::Config`] if the program cannot
    /// be started, [`ErrorKind::HiveUnreachable`] with its last output if it ended.
    pub async fn start(&self) -> Result<()> {
        let _one = self.changing.lock().await;
        let mut lock = None;
        if let Some(up) = self.up() {
            if !up.running.has_ended() && up.hive.health().await.is_ok() {
                return Ok(());
            }
            // Another daemon is found or started in its place; the directory stays locked.
            lock = Some(up._lock);
            self.set(None);
        }
        let lock = match lock {
            Some(lock) => lock,
            None => {
                self.state_dir.create()?;
                Arc::new(self.state_dir.lock()?)
            }
        };
        let (running, hive) = match self.adopt(None).await {
            Some(found) => found,
            None => self.run().await?,
        };
        self.set(Some(Up { running, hive, _lock: lock }));
        Ok(())
    }

    fn up(&self) -> Option<Up> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, up: Option<Up>) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = up;
    }

    /// The client of the daemon.
    fn hive(&self) -> Result<Arc<HttpHive>> {
        self.up().map(|up| up.hive).ok_or_else(|| {
            let message = format!("hive {} is not started", self.info.id);
            Error::new(ErrorKind::HiveUnreachable, message)
        })
    }

    fn client(&self, port: u16, token: Token) -> Arc<HttpHive> {
        let endpoint = Endpoint::new(self.dial(), port, Some(token));
        Arc::new(HttpHive::new(self.info.id.clone(), endpoint))
    }

    /// How the daemon and its workers are reached.
    fn dial(&self) -> Arc<dyn Dial> {
        #[cfg(feature = "tunnel")]
        if let Some(socket) = &self.socket {
            return Arc::new(socket_tunnel::SocketTunnel::new(socket.clone()));
        }
        Arc::new(Tcp::loopback())
    }

    /// The program of the daemon.
    fn program(&self) -> Result<Program> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => Program::beside(PROGRAM).map_err(|cause| wrong(Path::new(PROGRAM), cause)),
        }
    }

    /// The directory with the daemon's records of its workers.
    fn workers_dir(&self) -> PathBuf {
        self.path.join("workers")
    }

    /// The daemon that a previous queen started, if it is alive and responds. If `program` is given, a daemon with
    /// another one is killed; its workers continue, and the next daemon adopts them.
    async fn adopt(&self, program: Option<&Path>) -> Option<(Running, Arc<HttpHive>)> {
        let record: Record = self.state_dir.read(NAME)?;
        let running = Running::found(record.process)?;
        if program.is_some_and(|program| *program != record.program) {
            tracing::info!(hive = %self.info.id, program = %record.program.display(), "a hive with another program is replaced");
            running.end(Duration::ZERO).await;
            return None;
        }
        let hive = self.client(record.port, record.token);
        match timeout(ANSWER, hive.health()).await {
            Ok(Ok(_)) => {
                tracing::info!(hive = %self.info.id, process = %running.identity(), "found the hive again");
                Some((running, hive))
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(hive = %self.info.id, "the hive is alive but does not respond; it is killed");
                running.end(Duration::ZERO).await;
                None
            }
        }
    }

    async fn run(&self) -> Result<(Running, Arc<HttpHive>)> {
        let program = self.program()?;
        for _ in 0..PORT_TRIES {
            let (port, token) = (self.free_port()?, Token::random()?);
            let running = self.spawn(&program, port, &token).await?;
            let hive = self.client(port, token);
            let ended = tokio::select! {
                biased;
                ended = running.ended() => ended,
                answered = self.answers(&hive) => match answered {
                    Ok(()) => return Ok((running, hive)),
                    Err(error) => {
                        running.end(Duration::ZERO).await;
                        return Err(error);
                    }
                },
            };
            if ended.code != Some(i32::from(EXIT_PORT_TAKEN)) {
                let words = self.state_dir.log(NAME).last_words();
                let message = format!(
                    "hive {} ended ({}); its last output was:\n{words}",
                    self.info.id, ended.how
                );
                return Err(Error::new(ErrorKind::HiveUnreachable, message));
            }
        }
        let message = format!("hive {} found {PORT_TRIES} ports taken in a row", self.info.id);
        Err(Error::new(ErrorKind::HiveUnreachable, message))
    }

    async fn spawn(&self, program: &Program, port: u16, token: &Token) -> Result<Running> {
        let log = self.state_dir.log(NAME);
        let output = log.create().map_err(|cause| wrong(log.path(), cause))?;
        let also = output.try_clone().map_err(|cause| wrong(log.path(), cause))?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments);
        command.args(["--id", self.info.id.as_str()]);
        command.args(["--lease", &self.lease.as_secs_f64().to_string()]);
        self.listen(&mut command, port);
        command.args(["--token-file", "-", "--state-dir"]).arg(self.workers_dir());
        command.args(&self.arguments);
        command.stdin(Stdio::piped()).stdout(output).stderr(also).process_group(0);
        let ours = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.starts_with("RBEE_"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|cause| wrong(&program.path, cause))?;
        let stdin = child.stdin.take();
        let running = Running::child(child).map_err(|cause| wrong(&program.path, cause))?;
        let record = Record {
            process: running.identity().clone(),
            port,
            token: token.clone(),
            program: program.path.clone(),
        };
        // Recorded before it gets its token; without the token it does not start.
        if let Err(error) = self.state_dir.write(NAME, &record) {
            running.kill();
            return Err(error);
        }
        if let Some(mut stdin) = stdin {
            let line = format!("{}\n", token.reveal());
            // If it does not read, it has ended; that error says more.
            let _ = timeout(ANSWER, stdin.write_all(line.as_bytes())).await;
        }
        Ok(running)
    }

    /// A port for the daemon.
    fn free_port(&self) -> Result<u16> {
        #[cfg(feature = "tunnel")]
        if self.socket.is_some() {
            return Ok(Tunnel::HIVE_PORT);
        }
        free_port(HOST)
    }

    /// Adds the arguments that say where the daemon listens.
    fn listen(&self, command: &mut Command, port: u16) {
        #[cfg(feature = "tunnel")]
        if let Some(socket) = &self.socket {
            command.arg("--socket").arg(socket);
            return;
        }
        command.args(["--host", &HOST.to_string(), "--port", &port.to_string()]);
    }

    async fn answers(&self, hive: &HttpHive) -> Result<()> {
        let began = Instant::now();
        loop {
            let error = match hive.health().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if began.elapsed() >= START_TIMEOUT {
                return Err(
                    error.context(format_args!("hive {} did not start in time", self.info.id))
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the workers of a daemon that was killed.
    async fn end_orphans(&self, grace: Duration) -> Result<()> {
        let orphans = ProcessHive::new(self.info.id.clone(), self.workers_dir());
        if StateDir::new(self.workers_dir()).names("json").is_empty() {
            return Ok(());
        }
        orphans.start().await?;
        orphans.shutdown(grace).await
    }
}

fn wrong(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{}: {cause}", path.display())).with_source(cause)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ModelHost for LocalHive {
    fn info(&self) -> &HiveInfo {
        &self.info
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.hive()?.provision(model, from, progress).await
    }

    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.hive()?.files(model).await
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.hive()?.verify(model, progress).await
    }

    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.hive()?.remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for LocalHive {
    /// # Errors
    /// Also those of [`start`](LocalHive::start).
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.start().await?;
        self.hive()?.watch(owner).await
    }

    /// Also keeps the log of the daemon small: queens call this regularly.
    async fn report(&self) -> Result<HiveReport> {
        let hive = self.hive()?;
        let log = self.state_dir.log(NAME);
        if let Err(error) = log.trim() {
            tracing::warn!(path = %log.path().display(), %error, "a log cannot be trimmed");
        }
        hive.report().await
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.hive()?.spawn(id, spec, progress).await
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.hive()?.worker(id).await
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.hive()?.stop(id, grace).await
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        let _one = self.changing.lock().await;
        let Some(up) = self.up() else { return Ok(()) };
        // If the request fails, the signal that follows has the same effect.
        if let Err(error) = up.hive.shutdown(grace).await {
            tracing::warn!(hive = %self.info.id, %error, "the hive did not accept the request to end");
        }
        up.running.end(GRACE).await;
        self.state_dir.remove(NAME);
        self.set(None);
        self.end_orphans(grace).await
    }
}
