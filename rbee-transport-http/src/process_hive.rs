//! [`ProcessHive`]: a machine whose workers are processes of their own.

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
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Result, Worker, WorkerId,
    WorkerInfo, WorkerSpec,
    hive::{Device, Devices, HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelFiles, ModelOnDisk, ModelStore},
    time::WallTime,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    hive_files::HiveFiles,
    process::{Lock, StateDir},
    wire::{LogStyle, engine::Engine, hive::WorkerAddress},
};
use factory::ProcessFactory;
use table::{Record, Table};

/// The program that a worker is.
const PROGRAM: &str = "llm-worker-rbee";

/// A hive that runs every worker as a process of its own, on this machine.
///
/// - What a worker needs to know, its token included, it reads from its standard input; what it says goes to a log in
///   the state directory.
/// - The state directory also remembers each worker. A hive that starts on it again, after a kill as after an update,
///   takes in the workers that live, without loading anything anew. One hive at a time may use it.
/// - A worker holds a lease that the hive renews. Without a hive its workers end by themselves when it runs out.
/// - Dropping the hive leaves its workers to the next one; [`shutdown`](HiveBackend::shutdown) stops them.
/// - A worker sees only the GPUs it was given (`CUDA_VISIBLE_DEVICES`).
/// - Workers are in process groups of their own: Ctrl-C in a terminal does not reach them.
///
/// Unix only. On Linux the end of a worker is noticed at once, elsewhere the end of one that an earlier hive had
/// started within a second.
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
    /// Keeps the books: who is there, who watches, which loads are under way.
    books: Arc<InProcessHive>,
    running: Mutex<Option<Running>>,
    /// One start at a time.
    starting: tokio::sync::Mutex<()>,
}

/// What goes on while the hive is up.
#[derive(Debug)]
struct Running {
    _lock: Lock,
    _keeping: DropGuard,
}

#[derive(Clone, Debug)]
struct Config {
    id: HiveId,
    state_dir: StateDir,
    program: Option<PathBuf>,
    /// What goes before the other arguments of a worker.
    arguments: Vec<String>,
    lease: Duration,
    engines: Vec<Engine>,
    bind: IpAddr,
    threads: Option<NonZeroUsize>,
    context: Option<u32>,
    log: LogStyle,
    store: Option<ModelStore>,
    devices: Option<Vec<Device>>,
    answer_limit: Duration,
    load_limit: Duration,
}

impl ProcessHive {
    /// A hive of this name, that remembers its workers in this directory.
    pub fn new(id: HiveId, state_dir: PathBuf) -> Self {
        Self::build(Config {
            id,
            state_dir: StateDir::new(state_dir),
            program: None,
            arguments: Vec::new(),
            lease: Duration::from_secs(90),
            engines: Vec::new(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            threads: None,
            context: None,
            log: LogStyle::default(),
            store: None,
            devices: None,
            answer_limit: Duration::from_secs(30),
            load_limit: Duration::from_secs(3600),
        })
    }

    /// Makes the state directory, for its user alone, or checks that it is one; [`start`](HiveBackend::start) does so
    /// too. For what is to lie below it before the hive starts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is another user's, or others can look into it and it has files that no hive has made.
    pub fn make_state_dir(&self) -> Result<()> {
        self.config.state_dir.create()
    }

    /// The program that a worker is; `llm-worker-rbee` beside this process's own by default.
    pub fn with_program(self, program: impl Into<PathBuf>) -> Self {
        self.changed(|config| config.program = Some(program.into()))
    }

    /// What the program is given before all other arguments: for one that is a worker only when it is told so.
    pub fn with_arguments(self, arguments: impl IntoIterator<Item = String>) -> Self {
        let arguments = arguments.into_iter().collect();
        self.changed(|config| config.arguments = arguments)
    }

    /// How long a worker goes on without a sign of life from its hive; 90 seconds by default, and 1 at least.
    pub fn with_lease(self, lease: Duration) -> Self {
        self.changed(|config| config.lease = lease)
    }

    /// Other engines; the first that serves a model runs it, and rbee's own where none does.
    pub fn with_engines(self, engines: Vec<Engine>) -> Self {
        self.changed(|config| config.engines = engines)
    }

    /// Where workers listen; 127.0.0.1 by default.
    pub fn with_bind(self, host: IpAddr) -> Self {
        self.changed(|config| config.bind = host)
    }

    /// Threads that a worker computes with on the processor; all cores by default.
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        self.changed(|config| config.threads = Some(threads))
    }

    /// The longest prompt and answer together, in tokens; the model's own limit by default.
    pub fn with_context(self, tokens: u32) -> Self {
        self.changed(|config| config.context = Some(tokens))
    }

    /// What its workers log, and how it looks; `info`, for people, by default.
    pub fn with_log(self, log: LogStyle) -> Self {
        self.changed(|config| config.log = log)
    }

    /// Keeps the models that it fetches in this store. Without one it fetches none.
    pub fn with_store(self, store: ModelStore) -> Self {
        self.changed(|config| config.store = Some(store))
    }

    /// Reports these devices, whatever the machine has.
    pub fn with_devices(self, devices: Vec<Device>) -> Self {
        self.changed(|config| config.devices = Some(devices))
    }

    /// How long a worker process may take until it answers, which it does before it loads; 30 seconds by default.
    pub fn with_answer_limit(self, limit: Duration) -> Self {
        self.changed(|config| config.answer_limit = limit)
    }

    /// How long a load may take; an hour by default. A queen gives up earlier, by her own settings.
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
            // A life of the hive has fewer changes than milliseconds.
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

    /// Makes it ready without claiming it for a queen: takes in the workers that live, and keeps them alive from then on.
    /// [`watch`](HiveBackend::watch) does this first. Idempotent, also after a shutdown.
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

    /// What it keeps in its state directory for queens of the same user.
    pub fn hive_files(&self) -> HiveFiles {
        HiveFiles::new(self.config.state_dir.clone())
    }

    /// Lets go of the workers, which live on until their lease runs out, or the next hive takes them in.
    pub fn release(self) {}

    /// How a worker is reached from outside this process.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there.
    pub async fn address(&self, id: WorkerId) -> Result<WorkerAddress> {
        let worker = self.books.worker(id).await?;
        let gone = || Error::new(ErrorKind::NotFound, format!("worker {id} has just ended"));
        let Record { port, token, .. } = self.table.get(id).ok_or_else(gone)?.record;
        Ok(WorkerAddress { info: WorkerInfo::clone(worker.info()), port, token })
    }

    fn check(&self) -> Result<()> {
        let (least, lease) = (Duration::from_secs(1), self.config.lease);
        if lease < least || lease > Duration::from_secs(24 * 3600) {
            let message = format!("the lease of workers is {lease:?}; allowed is {least:?} to 24h");
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.config.engines.iter().try_for_each(Engine::validate)
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
    /// words of a process that ended, [`ErrorKind::SpawnTimeout`] for one that does not answer in time.
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
        // Side by side: a load ends when its process does.
        let (stopped, ()) = tokio::join!(self.books.stop(id, grace), stopping.end(grace));
        stopped
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        let _one = self.starting.lock().await;
        let (down, ()) = tokio::join!(self.books.shutdown(grace), self.table.end_all(grace));
        // Loads that were under way are over now, and have left nothing or a process to end.
        self.table.end_all(Duration::ZERO).await;
        *self.running() = None;
        down
    }
}
