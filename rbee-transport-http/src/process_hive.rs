//! [`ProcessHive`]: a hive whose workers are processes of their own.

mod adopt;
mod factory;
mod keep;
mod measured;
mod table;

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::future::join_all;
use http::Method;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Result, Worker, WorkerId,
    WorkerInfo, WorkerSpec,
    hive::{
        Device, Devices, EngineSupport, HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin,
        Progress,
    },
    id::Epoch,
    models::{CachePool, Damage, ModelFiles, ModelOnDisk, ModelStore},
    time::WallTime,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    dial::Sockets,
    hive_files::HiveFiles,
    process::{Lock, StateDir},
    program::Program,
    wire::{
        LogStyle,
        engine::EngineCommand,
        hive::WorkerAddress,
        worker::{RELOAD, WorkerTls},
    },
};
use factory::ProcessFactory;
use table::{Process, Record, Table};

/// The name of the worker's program.
const PROGRAM: &str = "llm-worker-rbee";
/// The longest path of a directory that any system allows sockets in, in bytes. A socket's path has at most 103 of
/// them on macOS and 107 on Linux, and `/65535.sock.new` is 15 of these.
const MOST_SOCKET_DIRECTORY: usize = 88;
/// How long a worker may take to read the files of its TLS again.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A hive that runs every worker as a process of its own, on this machine.
///
/// - A worker reads its order, including its token, from its standard input; its output goes to a log in the state
///   directory.
/// - The state directory also records each worker. A hive that starts on it again, after a kill or an update, adopts
///   the workers that are alive, without loading anything again. One hive at a time may use it.
/// - A worker holds a lease that the hive renews. Without a hive, workers end when their lease expires.
/// - Dropping the hive leaves its workers to the next one; [`shutdown`](HiveBackend::shutdown) stops them.
/// - A worker sees only the GPUs it was given (`CUDA_VISIBLE_DEVICES`).
/// - Workers are in process groups of their own: Ctrl-C in a terminal does not reach them.
///
/// Unix only. On Linux the end of a worker is noticed at once. Elsewhere the end of a worker that a previous hive
/// started is noticed within a second.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// use rbee_core::{HiveId, Queen};
/// use rbee_transport_http::ProcessHive;
///
/// let hive = ProcessHive::new(HiveId::local(), "/var/lib/rbee/hive".into());
/// let queen = Queen::builder().hive(hive).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcessHive {
    config: Config,
    machine: Devices,
    table: Arc<Table>,
    /// The bookkeeping: workers, watchers, loads in progress.
    books: Arc<InProcessHive>,
    running: Mutex<Option<Running>>,
    /// Held during a start, so that there is one at a time.
    starting: tokio::sync::Mutex<()>,
}

/// The tasks that run while the hive is up.
#[derive(Debug)]
struct Running {
    _lock: Lock,
    _keeping: DropGuard,
}

#[derive(Clone, Debug)]
struct Config {
    id: HiveId,
    state_dir: StateDir,
    program: Option<Program>,
    /// The arguments before the other arguments of a worker.
    arguments: Vec<String>,
    lease: Duration,
    engines: Vec<EngineCommand>,
    /// What the worker's program reads; that of rbee's own if `None`.
    support: Option<EngineSupport>,
    bind: IpAddr,
    /// True if workers listen on sockets in the state directory instead.
    has_sockets: bool,
    /// The TLS of the workers' addresses.
    tls: Option<TlsPaths>,
    threads: Option<NonZeroUsize>,
    context: Option<u32>,
    cache: CachePool,
    log: LogStyle,
    store: Option<ModelStore>,
    devices: Option<Vec<Device>>,
    answer_limit: Duration,
    load_limit: Duration,
}

/// The files of TLS.
#[derive(Clone, Debug)]
struct TlsPaths {
    certificates: PathBuf,
    key: PathBuf,
}

impl Config {
    /// The TLS of a worker.
    fn worker_tls(&self) -> Option<WorkerTls> {
        let TlsPaths { certificates, key } = self.tls.clone()?;
        Some(WorkerTls { certificates, key, sockets: self.state_dir.directory().to_owned() })
    }
}

impl ProcessHive {
    /// A hive of this name that records its workers in this directory.
    pub fn new(id: HiveId, state_dir: PathBuf) -> Self {
        Self::build(Config {
            id,
            state_dir: StateDir::new(state_dir),
            program: None,
            arguments: Vec::new(),
            lease: Duration::from_secs(90),
            engines: Vec::new(),
            support: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            has_sockets: false,
            tls: None,
            threads: None,
            context: None,
            cache: CachePool::default(),
            log: LogStyle::default(),
            store: None,
            devices: None,
            answer_limit: Duration::from_secs(30),
            load_limit: Duration::from_secs(3600),
        })
    }

    /// Makes the state directory, for its user alone, or checks an existing one; [`start`](Self::start) does
    /// so too. For files that must be below it before the hive starts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it belongs to another user, or if others can read it and it has files that no hive
    /// has made.
    pub fn make_state_dir(&self) -> Result<()> {
        self.config.state_dir.create()
    }

    /// Sets the worker's program; by default `llm-worker-rbee` in the directory of this process's program. A program
    /// that reads other models than rbee's own needs [`with_support`](Self::with_support) too.
    pub fn with_program(self, program: impl Into<Program>) -> Self {
        self.changed(|config| config.program = Some(program.into()))
    }

    /// Adds arguments before all others: for a program that is a worker only with such an argument.
    pub fn with_arguments(self, arguments: impl IntoIterator<Item = String>) -> Self {
        let arguments = arguments.into_iter().collect();
        self.changed(|config| config.arguments = arguments)
    }

    /// Sets how long a worker continues without a heartbeat from its hive; 90 seconds by default, at least 1.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.changed(|config| config.lease = lease)
    }

    /// Adds other engines; the first that serves a model runs it, or rbee's own if none does.
    pub fn with_engines(self, engines: Vec<EngineCommand>) -> Self {
        self.changed(|config| config.engines = engines)
    }

    /// Sets the models that the [worker's program](Self::with_program) itself can read: for a program that is not
    /// rbee's own.
    pub fn with_support(self, support: EngineSupport) -> Self {
        self.changed(|config| config.support = Some(support))
    }

    /// Sets the address that workers listen on; 127.0.0.1 by default.
    pub fn with_bind(self, host: IpAddr) -> Self {
        self.changed(|config| config.bind = host)
    }

    /// Lets workers listen on Unix sockets in the state directory instead of an address: for a hive that is reached
    /// through a [tunnel](crate::client::Tunnel). Only its user reaches them.
    pub fn with_sockets(self) -> Self {
        self.changed(|config| config.has_sockets = true)
    }

    /// Gives the workers' addresses TLS, with the certificates and the private key of these PEM files: for a hive
    /// whose own address has it, because queens reach both alike. The hive itself reaches them at Unix sockets in the
    /// state directory. Workers of a previous hive that have other files, or none, are ended by
    /// [`start`](Self::start).
    pub fn with_tls(self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let paths = TlsPaths { certificates: certificates.into(), key: key.into() };
        self.changed(|config| config.tls = Some(paths))
    }

    /// Lets every worker read the files of its TLS again. A worker that does not is logged, and keeps what it has.
    pub async fn reload_tls(&self) {
        let reload = async |process: &Process| {
            let told = process.endpoint.open(Method::POST, RELOAD, None::<&()>, RELOAD_TIMEOUT);
            if let Err(error) = told.await {
                let worker = process.record.id;
                tracing::warn!(%worker, %error, "a worker goes on with the old certificate");
            }
        };
        let all = self.table.all();
        join_all(all.iter().map(reload)).await;
    }

    /// Where the sockets of its workers are.
    pub fn sockets(&self) -> Sockets {
        Sockets::new(self.config.state_dir.directory())
    }

    /// Sets the threads that a worker computes with on the CPU; all cores by default.
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        self.changed(|config| config.threads = Some(threads))
    }

    /// Sets the longest prompt and answer together, in tokens; the model's own limit by default.
    pub fn with_context(self, tokens: u32) -> Self {
        self.changed(|config| config.context = Some(tokens))
    }

    /// Sets the size and the data type of the KV cache in rbee's own engine.
    pub fn with_cache(self, cache: CachePool) -> Self {
        self.changed(|config| config.cache = cache)
    }

    /// Sets the log level and format of its workers; by default `info`, for people.
    pub fn with_log(self, log: LogStyle) -> Self {
        self.changed(|config| config.log = log)
    }

    /// Keeps the models that it downloads in this store. Without a store it downloads none.
    pub fn with_store(self, store: ModelStore) -> Self {
        self.changed(|config| config.store = Some(store))
    }

    /// Reports these devices instead of those of the machine.
    pub fn with_devices(self, devices: Vec<Device>) -> Self {
        self.changed(|config| config.devices = Some(devices))
    }

    /// Sets how long a worker process may take to respond for the first time, before it loads; 30 seconds by default.
    pub fn with_answer_limit(self, limit: Duration) -> Self {
        self.changed(|config| config.answer_limit = limit)
    }

    /// Sets how long a load may take; one hour by default. A queen gives up earlier, by its own settings.
    pub fn with_load_limit(self, limit: Duration) -> Self {
        self.changed(|config| config.load_limit = limit)
    }

    fn changed(self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.config;
        change(&mut config);
        Self::build(config)
    }

    fn build(config: Config) -> Self {
        let machine = match &config.devices {
            Some(devices) => Devices::fixed(devices.clone()),
            None => Devices::new(),
        };
        let mut table = None;
        let books = Arc::new_cyclic(|books: &Weak<InProcessHive>| {
            let shared = Arc::new(Table::new(books.clone(), config.state_dir.clone()));
            table = Some(shared.clone());
            let factory = ProcessFactory::new(config.clone(), shared, machine.clone());
            let books = InProcessHive::new().with_id(config.id.clone()).with_factory(factory);
            // A run of the hive has fewer changes than milliseconds.
            let books = books.with_revision(WallTime::now().as_millis());
            let books = match &config.store {
                Some(store) => books.with_store(store.clone()),
                None => books,
            };
            match &config.devices {
                Some(devices) => books.with_devices(devices.clone()),
                None => books,
            }
        });
        let table = table.unwrap_or_else(|| {
            Arc::new(Table::new(Arc::downgrade(&books), config.state_dir.clone()))
        });
        let (running, starting) = (Mutex::new(None), tokio::sync::Mutex::new(()));
        Self { config, machine, table, books, running, starting }
    }

    /// Starts the hive without taking its lease for a queen: adopts the workers that are alive, and renews their
    /// leases from then on. [`watch`](HiveBackend::watch) does this first. Idempotent, also after a shutdown.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another hive uses the state directory, [`ErrorKind::Storage`] if it cannot be used,
    /// [`ErrorKind::Config`] for a setting that is not allowed.
    pub async fn start(&self) -> Result<()> {
        let _one = self.starting.lock().await;
        self.books.start().await?;
        if self.running().is_some() {
            return Ok(());
        }
        self.check()?;
        self.config.state_dir.create()?;
        let lock = self.config.state_dir.lock()?;
        adopt::adopt(&self.config, &self.machine, &self.table, &self.books).await;
        let keeping = CancellationToken::new();
        tokio::spawn(
            keeping
                .clone()
                .run_until_cancelled_owned(keep::keep(self.table.clone(), self.config.lease / 3)),
        );
        *self.running() = Some(Running { _lock: lock, _keeping: keeping.drop_guard() });
        Ok(())
    }

    /// The files in its state directory for queens of the same user.
    pub fn hive_files(&self) -> HiveFiles {
        HiveFiles::new(self.config.state_dir.clone())
    }

    /// Drops the hive without its workers, which run until their lease expires or the next hive adopts them.
    pub fn release(self) {}

    /// The address of a worker from outside this process.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such worker.
    pub async fn address(&self, id: WorkerId) -> Result<WorkerAddress> {
        let worker = self.books.worker(id).await?;
        let gone = || Error::new(ErrorKind::NotFound, format!("worker {id} has just ended"));
        let Process { record: Record { port, token, .. }, links, .. } =
            self.table.get(id).ok_or_else(gone)?;
        Ok(WorkerAddress { info: WorkerInfo::clone(worker.info()), port, token, links })
    }

    fn check(&self) -> Result<()> {
        let (least, lease) = (Duration::from_secs(1), self.config.lease);
        if lease < least || lease > Duration::from_secs(24 * 3600) {
            let message = format!("the lease of workers is {lease:?}; allowed is {least:?} to 24h");
            return Err(Error::new(ErrorKind::Config, message));
        }
        if self.config.tls.is_some() && self.config.has_sockets {
            let message =
                "workers that listen on sockets have no TLS; give the hive one of the two";
            return Err(Error::new(ErrorKind::Config, message));
        }
        let directory = self.config.state_dir.directory();
        let length = directory.as_os_str().len();
        if self.config.tls.is_some() && length > MOST_SOCKET_DIRECTORY {
            let message = format!(
                "the state directory {} has a path of {length} bytes; allowed with TLS are up to \
                 {MOST_SOCKET_DIRECTORY}, because workers have sockets in it; choose another one",
                directory.display()
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.config.engines.iter().try_for_each(EngineCommand::validate)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ModelHost for ProcessHive {
    fn info(&self) -> &HiveInfo {
        self.books.info()
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.books.provision(model, from, progress).await
    }

    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.books.files(model).await
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.books.verify(model, progress).await
    }

    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.books.remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for ProcessHive {
    /// # Errors
    /// Also those of [`start`](ProcessHive::start).
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.start().await?;
        self.books.watch(owner).await
    }

    async fn report(&self) -> Result<HiveReport> {
        self.books.report().await
    }

    /// # Errors
    /// Also [`ErrorKind::HiveUnreachable`] if the hive was not started, [`ErrorKind::WorkerLost`] with the last
    /// output of a process that ended, [`ErrorKind::SpawnTimeout`] for one that does not respond in time.
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        if self.running().is_none() {
            let message = format!("hive {} is not started", self.config.id);
            return Err(Error::new(ErrorKind::HiveUnreachable, message));
        }
        self.books.spawn(id, spec, progress).await
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.books.worker(id).await
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        let stopping = self.table.stopping(id);
        // Concurrently: a load ends when its process does.
        let (stopped, ()) = tokio::join!(self.books.stop(id, grace), stopping.end(grace));
        stopped
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        let _one = self.starting.lock().await;
        let (down, ()) = tokio::join!(self.books.shutdown(grace), self.table.end_all(grace));
        // Loads in progress are over now, and have left nothing or a process to end.
        self.table.end_all(Duration::ZERO).await;
        *self.running() = None;
        down
    }
}
