//! The queen with everything around it: start, serving, graceful shutdown.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rbee_core::{
    Error, ErrorKind, HiveId, LeastLoaded, ModelRef, Queen, QueenBuilder, Result, SqliteRegistry,
    registry::Backups, scheduler::Sizing,
};
#[cfg(feature = "metrics")]
use rbee_transport_http::server::Metrics;
use rbee_transport_http::{
    LocalHive, ProcessHive, Program,
    client::Endpoint,
    dial::Tcp,
    server::{LogRing, QueenServer, Server, TlsFiles, raise_file_limit},
    wire::{self, queen::ShutdownOrder},
};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Config, Embedded, aliases, bundled, config,
    fleet::Fleet,
    home::{Home, unusable, write_private},
    own_log::OwnLog,
    prepare::{Prepared, prepare},
    reload::Reloader,
    repair, worker,
};

/// The variable with the file for the recording of the queen's run: for debugging, so it is not a key.
pub(crate) const RECORD_RUN: &str = "RBEE_RECORD_RUN";
/// How often the recorded metrics are aggregated.
#[cfg(feature = "metrics")]
const UPKEEP: Duration = Duration::from_secs(5);
/// How long responses may take to reach their readers once every job has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the daemon that has the port may take to identify itself.
const WHO_TIMEOUT: Duration = Duration::from_secs(1);

/// A running queen with its server. Dropping it stops the server and drops the queen, like a kill of the process.
#[derive(Debug)]
pub struct Running {
    queen: Queen,
    address: SocketAddr,
    url: String,
    drain_grace: Duration,
    database: PathBuf,
    models: Vec<(String, ModelRef)>,
    /// Cancelled when the queen begins to shut down.
    draining: CancellationToken,
    /// Cancelled when nothing more is served.
    closed: CancellationToken,
    ordered: Ordered,
    serving: JoinHandle<()>,
    reloader: Reloader,
    _measuring: DropGuard,
    /// Dropped last.
    _home: Home,
}

/// How an operator has ordered the queen over HTTP to shut down; each is cancelled by the order.
#[derive(Clone, Debug, Default)]
struct Ordered {
    /// Shut down gracefully.
    end: CancellationToken,
    /// Do not wait for jobs that have not ended.
    hurry: CancellationToken,
    /// Shut down and leave hives and workers to the next queen.
    hand_over: CancellationToken,
}

impl Ordered {
    fn take(&self, order: ShutdownOrder) {
        match order.keep_hives {
            // A queen that is handed over leaves its jobs to the next one in any case.
            true => self.hand_over.cancel(),
            false => {
                if order.now {
                    self.hurry.cancel();
                }
                self.end.cancel();
            }
        }
    }
}

/// Starts a queen and serves it. `logs` are the lines for `/v1/logs`.
///
/// The queen accepts an order to shut down over HTTP (`rbee shutdown`), and the caller carries it out: it ends the queen
/// as soon as [`Running::shutdown_ordered`] returns.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// let config = queen_rbee::Config {
///     data_dir: "/tmp/rbee".into(),
///     local_hive: queen_rbee::Embedded::Inside,
///     ..Default::default()
/// };
/// let running = queen_rbee::start(config, None).await?;
/// println!("{}", running.url());
/// match running.shutdown_ordered().await {
///     true => running.hand_over().await,
///     false => running.shutdown().await,
/// }
/// # }
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] for a configuration that is not allowed or impossible, [`ErrorKind::Conflict`] if another
/// queen has the data directory or the port, and the errors of the store.
pub async fn start(config: Config, logs: Option<LogRing>) -> Result<Running> {
    let prepared = prepare(&config)?;
    raise_file_limit();
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    // Before any worker can be started.
    for root in config.file_roots.iter() {
        rbee_core::models::confine_model_files(root);
    }
    let mut home = Home::take(&config.data_dir)?;
    let Prepared { token, token_file, tls, policy, program, .. } = prepared;
    let draining = CancellationToken::new();
    let server = listen(&config, tls).await?.with_drain(draining.clone());
    let address = server.address();
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    home.announce(&url)?;

    let database = home.join(repair::DATABASE);
    let mut options =
        SqliteRegistry::options().durability(config.durability).keep_ended(*config.keep_ended);
    if config.backups_kept > 0 {
        options = options.backups(Backups {
            directory: home.join(repair::BACKUPS),
            interval: *config.backup_interval,
            kept: config.backups_kept,
        });
    }
    let store = options.open(&database)?;
    let backups = store.backup_status();
    let id = match &config.name {
        Some(name) => name.clone(),
        None => home.queen_id()?,
    };
    let mut builder = Queen::builder().id(id).registry(store).settings(config.settings());
    let built_in = LeastLoaded::new(Sizing::default().with_slots(config.worker_slots));
    let policy = policy.map(|(file, scheduler)| {
        builder = std::mem::take(&mut builder).scheduler(scheduler.with_builtin(built_in.clone()));
        file
    });
    builder = builder.built_in(built_in);
    if let Some(path) = std::env::var_os(RECORD_RUN) {
        tracing::warn!(path = %path.display(), "the run is recorded, with the text of every prompt");
        builder = builder.record_run(path);
    }
    let mut models = Vec::new();
    for (name, model) in named_models(&config, &home)? {
        builder = builder.alias(&name, model.as_str());
        models.push((name, model));
    }
    #[cfg(feature = "hub")]
    let mut builder = builder.hub(prepared.hub);
    builder = with_local_hive(builder, &config, &home, program)?;
    let closed = CancellationToken::new();
    // The default state directory of `rbee-hive`, whatever the data directory of this queen is.
    let local = config::default_data_dir().ok().map(|data| data.join("hives"));
    let fleet = Arc::new(Fleet::new(home.join("hives"), local, &config, draining.clone())?);
    let reloader = Reloader {
        token: token_file,
        tls: server.tls_files(),
        fleet: fleet.clone(),
        policy: Arc::default(),
    };
    for hive in fleet.all(&config).await? {
        builder = builder.hive(hive);
    }
    let queen = builder.build().await?;
    let id = queen.status().await?.id;
    for (tenant, limits) in config.tenants.iter() {
        let set = queen.tenants().put(tenant.clone(), limits.0.clone()).await;
        set.map_err(|error| error.context(format_args!("tenants: {tenant}")))?;
    }
    if !config.tenants.is_empty() {
        warn_of_other_tenants(&queen, &config).await?;
    }
    if let Some(file) = policy {
        let watching = draining.clone();
        tokio::spawn(
            watching.run_until_cancelled_owned(file.watch(queen.clone(), reloader.policy.clone())),
        );
    }

    let mut api = QueenServer::new(queen.clone()).with_connector(fleet).stop(draining.clone());
    api = api.with_batches(home.join("batches"), config.batch_limits.limits())?;
    let ordered = Ordered::default();
    let orders = ordered.clone();
    api = api.with_shutdown(Arc::new(move |order| orders.take(order)));
    let measuring = CancellationToken::new();
    #[cfg(feature = "metrics")]
    {
        let metrics = Metrics::install()?;
        api = api.with_metrics(metrics.renderer());
        tokio::spawn(measuring.clone().run_until_cancelled_owned(keep_up(metrics)));
    }
    if let Some(backups) = backups {
        api = api.with_health_check(Arc::new(repair::BackupHealth(backups)));
    }
    if let Some(token) = token {
        api = api.with_token(token);
    }
    if config.open_metrics {
        api = api.with_open_metrics();
    }
    for host in config.allow_hosts.iter() {
        api = api.with_allowed_host(host.clone());
    }
    for origin in config.allow_origins.iter() {
        api = api.with_allowed_origin(origin.clone());
    }
    if !config.local_files {
        api = api.without_local_users();
    }
    if config.raw_completions {
        api = api.with_raw_completions();
    }
    for root in config.file_roots.iter() {
        api = api.with_file_root(root);
    }
    if let Some(logs) = logs {
        api = api.with_logs(logs);
    }
    if let Some(log) = OwnLog::of(&config.data_dir) {
        tokio::spawn(measuring.clone().run_until_cancelled_owned(log.keep_small()));
    }
    let serving = tokio::spawn(server.run(api.router(), closed.clone(), LAST_WORDS));
    tracing::info!(url, pid = std::process::id(), queen = %id, "serving");
    Ok(Running {
        queen,
        address,
        url,
        drain_grace: *config.drain_grace,
        database,
        models,
        draining,
        closed,
        ordered,
        serving,
        reloader,
        _measuring: measuring.drop_guard(),
        _home: home,
    })
}

/// Warns of tenants that can use the queen although the configuration, which names tenants, does not name them.
async fn warn_of_other_tenants(queen: &Queen, config: &Config) -> Result<()> {
    let stored = queen.tenants().list().await?;
    for tenant in stored.iter().map(|tenant| &tenant.id) {
        if !config.tenants.contains_key(tenant) {
            tracing::warn!(
                "tenant {tenant} and its keys are still valid, but it is not in the configuration; \
                 `rbee tenants rm {tenant}` removes it"
            );
        }
    }
    Ok(())
}

/// Listens; if the port is taken, finds out by whom.
async fn listen(config: &Config, tls: Option<TlsFiles>) -> Result<Server> {
    let (host, port) = (config.listen_host, config.listen_port);
    let server = match Server::bind_host(host, port).await {
        Ok(server) => server,
        Err(error) => return Err(explain(host.addresses(port), error).await),
    };
    Ok(match tls {
        Some(files) => server.with_tls_files(files),
        None => server,
    })
}

async fn explain(mut addresses: impl Iterator<Item = SocketAddr>, error: Error) -> Error {
    let is_in_use = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::AddrInUse;
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    if !cause.is_some_and(is_in_use) {
        return error;
    }
    let is_taken = |address: &SocketAddr| {
        std::net::TcpListener::bind(address).is_err_and(|cause| is_in_use(&cause))
    };
    // None if it has become free meanwhile.
    let Some(address) = addresses.find(is_taken) else { return error };
    let endpoint =
        Endpoint::new(Arc::new(Tcp::new(address.ip().to_string())), address.port(), None);
    let who = match endpoint.get::<wire::queen::Health>(wire::HEALTH, WHO_TIMEOUT).await {
        Ok(wire::queen::Health { details: Some(details), .. }) => {
            format!("the queen {}, PID {},", details.queen, details.pid)
        }
        Ok(_) => "another queen".into(),
        Err(_) => "another program".into(),
    };
    let message = format!(
        "cannot listen on {address}: {who} listens there already; choose another port with --listen-port"
    );
    Error::new(ErrorKind::Conflict, message).with_source(error)
}

/// The aliases of models. The files of the bundled one are written if it has its alias.
fn named_models(config: &Config, home: &Home) -> Result<Vec<(String, ModelRef)>> {
    let unpack = || bundled::unpack(&bundled::directory(home.path()));
    let bundled = aliases::is_bundled(config).then(unpack).transpose()?;
    aliases::resolved(config, bundled)
}

/// The directory of downloaded models.
const STORE: &str = "models-fetched";

fn with_local_hive(
    builder: QueenBuilder,
    config: &Config,
    home: &Home,
    program: Option<Program>,
) -> Result<QueenBuilder> {
    Ok(match config.local_hive {
        Embedded::Off => builder,
        Embedded::Inside => inside(builder, config, home)?,
        Embedded::Processes => {
            let program = match program {
                Some(program) => program,
                None => worker::program(config.worker_program.as_deref())?,
            };
            let hive = ProcessHive::new(HiveId::local(), home.join("hive"))
                .with_program(program)
                .with_engines(config.engines.iter().map(|engine| engine.0.clone()).collect())
                .with_lease(*config.lease)
                .with_log(config.log_style()?)
                .with_cache(config.worker_cache())
                .with_store(config.model_store(home.join(STORE))?);
            builder.hive(match config.worker_context {
                Some(context) => hive.with_context(context),
                None => hive,
            })
        }
        Embedded::Daemon => {
            let roots =
                config.file_roots.iter().map(|root| format!("--file-root={}", root.display()));
            let engines = engines_file(config, home)?;
            let engines = engines.map(|path| format!("--engines={}", path.display()));
            let hive = LocalHive::new(HiveId::local(), home.join("local-hive"))
                .with_lease(*config.lease)
                .with_arguments(roots.chain(engines).chain(worker_flags(config)));
            builder.hive(match &config.hive_program {
                Some(path) => hive.with_program(Program::new(path, "rbee-hive")),
                None => hive,
            })
        }
    })
}

/// Runs models in this process.
#[cfg(feature = "inside")]
fn inside(builder: QueenBuilder, config: &Config, home: &Home) -> Result<QueenBuilder> {
    let store = config.model_store(home.join(STORE))?;
    let factory = rbee_core::CandleFactory {
        context: config.worker_context,
        cache_tokens: config.worker_cache_tokens,
        cache_type: config.worker_cache_type,
        ..rbee_core::CandleFactory::default()
    };
    let hive = rbee_core::InProcessHive::new().with_factory(factory).with_store(store);
    Ok(builder.hive(hive))
}

/// The configuration was refused before: see [`crate::features`].
#[cfg(not(feature = "inside"))]
fn inside(_: QueenBuilder, _: &Config, _: &Home) -> Result<QueenBuilder> {
    let message = "local_hive is inside; this program was built without the feature `inside`";
    Err(Error::new(ErrorKind::Config, message))
}

/// The flags about workers for the hive that is a daemon.
fn worker_flags(config: &Config) -> impl Iterator<Item = String> {
    let context = config.worker_context.map(|tokens| format!("--context={tokens}"));
    let tokens = config.worker_cache_tokens.map(|tokens| format!("--cache-tokens={tokens}"));
    let kind = format!("--cache-type={}", config.worker_cache_type);
    context.into_iter().chain(tokens).chain([kind])
}

/// Writes the engines to a file for the hive that is a daemon. Only its user can read the file: the environment of an
/// engine may contain a secret.
fn engines_file(config: &Config, home: &Home) -> Result<Option<PathBuf>> {
    if config.engines.is_empty() {
        return Ok(None);
    }
    let path = home.join("local-hive-engines.json");
    let text = serde_json::to_vec(&config.engines).map_err(|cause| {
        Error::new(ErrorKind::Internal, "the engines cannot be written as JSON").with_source(cause)
    })?;
    write_private(&path, &text).map_err(|cause| unusable(&path, cause))?;
    Ok(Some(path))
}

/// Aggregates the metrics regularly, so that memory stays bounded even if nothing scrapes them.
#[cfg(feature = "metrics")]
async fn keep_up(metrics: Metrics) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.upkeep();
    }
}

impl Running {
    /// The queen.
    pub fn queen(&self) -> &Queen {
        &self.queen
    }

    /// The URL of the API: `http://127.0.0.1:7833`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The path of its database.
    pub fn database(&self) -> &std::path::Path {
        &self.database
    }

    /// The aliases of models, and their references.
    pub fn models(&self) -> &[(String, ModelRef)] {
        &self.models
    }

    /// Reads again what may have changed while it serves: the token of clients and those of hives, the certificate
    /// with its key, and the policy, each if it is in a file. A file that cannot be used is refused, and its old
    /// content stays in force. The result of each is logged.
    pub fn reload(&self) {
        self.reloader.reload();
    }

    /// Waits until an operator orders over HTTP to shut down: call [`shutdown`](Self::shutdown) then, or
    /// [`hand_over`](Self::hand_over) if this returns true.
    pub async fn shutdown_ordered(&self) -> bool {
        tokio::select! {
            () = self.ordered.end.cancelled() => false,
            () = self.ordered.hand_over.cancelled() => true,
        }
    }

    /// Shuts down gracefully: accepts no more jobs and reports so, gives existing ones `drain_grace` to end, leaves
    /// the others in the store for the next run, and stops the hives with their workers.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the last changes could not be written.
    pub async fn shutdown(self) -> Result<()> {
        let never = CancellationToken::new();
        self.shutdown_until(&never).await
    }

    /// The same; once `hurry` is cancelled, or an operator orders it over HTTP, jobs that have not ended are left for
    /// the next run at once.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_until(self, hurry: &CancellationToken) -> Result<()> {
        self.draining.cancel();
        let (queen, grace) = (self.queen.clone(), self.drain_grace);
        let hurried = async {
            tokio::select! {
                () = hurry.cancelled() => {}
                () = self.ordered.hurry.cancelled() => {}
            }
        };
        let mut down = tokio::spawn(async move { queen.shutdown(grace).await });
        let result = tokio::select! {
            result = &mut down => result,
            () = hurried => {
                // If the drain was already over, the first call stops the hives, and this one waits for it.
                match self.queen.shutdown(Duration::ZERO).await {
                    Ok(()) => Ok(Ok(())),
                    Err(error) if error.kind() == ErrorKind::Storage => Ok(Err(error)),
                    Err(_) => down.await,
                }
            }
        };
        self.close().await;
        result.unwrap_or_else(|cause| {
            Err(Error::new(ErrorKind::Internal, "the shutdown broke off").with_source(cause))
        })
    }

    /// Lets another queen on the same data directory take over: writes all changes and ends. The hives and their
    /// workers continue for as long as their lease lasts.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the last changes could not be written.
    pub async fn hand_over(self) -> Result<()> {
        self.draining.cancel();
        let result = self.queen.hand_over().await;
        self.close().await;
        result
    }

    async fn close(self) {
        self.closed.cancel();
        // The server limits the time of its own end; one that panicked has ended too.
        let _ = self.serving.await;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rbee_transport_http::wire::engine::EngineCommand;

    use super::*;
    use crate::{Checked, Yaml};

    #[test]
    fn a_hive_that_is_a_daemon_gets_the_engines_of_the_queen() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::take(&data.path().join("data")).unwrap();
        let mut config = Config { local_hive: Embedded::Daemon, ..Config::default() };
        assert_eq!(engines_file(&config, &home).unwrap(), None);
        let engine = serde_json::json!({
            "name": "other", "models": ["*.gguf"], "command": "serve {model_path} --port {port}",
            "environment": {"KEY": "secret"},
        });
        let engine: EngineCommand = serde_json::from_value(engine).unwrap();
        config.engines = Yaml(vec![Checked(engine.clone())]);
        config.check().unwrap();
        let path = engines_file(&config, &home).unwrap().unwrap();
        let read: Vec<EngineCommand> =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, [engine]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
