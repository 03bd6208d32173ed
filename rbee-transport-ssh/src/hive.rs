//! [`SshHive`]: a machine that is reached by SSH alone.

mod link;
mod machine;
mod progress;
mod sessions;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, ModelRef, Result, Worker, WorkerId, WorkerSpec,
    hive::{HiveAddress, HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelFiles, ModelOnDisk},
};
use rbee_transport_http::{
    SharedToken, Token,
    client::{Endpoint, HttpHive, Tunnel},
    wire::queen::LogLine,
};

use crate::{
    config::{ConfigOptions, HostConfig},
    connection::{ConnectOptions, Connection},
    deploy::{self, DeployError, DeployOptions, HiveStart, Installed, Programs},
    error::SshError,
    local_user::LocalUser,
    target::SshTarget,
};

use link::Link;
use progress::Reporter;

pub use progress::{SshEvent, SshProgress, SshStep};

/// How long a hive continues without a queen, unless it is set.
const LEASE: Duration = Duration::from_secs(300);

/// A hive on a machine that is reached by SSH. Nothing else is needed there: no root, no package, no open port.
///
/// [`watch`](HiveBackend::watch) connects, copies the programs if they are not there yet, starts `rbee-hive` or finds
/// the one that runs, and reaches it and its workers through one channel of the SSH connection. If the connection
/// breaks off, the hive and its workers continue until the lease is over, and the next `watch` finds them again.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use rbee_core::Queen;
/// use rbee_transport_ssh::SshHive;
///
/// let queen = Queen::builder().build().await?;
/// queen.fleet().add(SshHive::new("gpu-box".parse()?, "ada@gpu-box".parse()?)).await?;
/// # Ok(())
/// # }
/// ```
pub struct SshHive {
    info: HiveInfo,
    target: SshTarget,
    config: ConfigOptions,
    connect: ConnectOptions,
    programs: Arc<Programs>,
    directory: Option<String>,
    lease: Duration,
    arguments: Vec<String>,
    progress: Arc<dyn SshProgress>,
    link: Arc<Link>,
    token: SharedToken,
    hive: HttpHive,
    /// Held while the machine is connected or let go, so that there is one at a time.
    changing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for SshHive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SshHive({} at {})", self.info.id, self.target)
    }
}

impl SshHive {
    /// The hive of this name on this machine. The person's `ssh_config` says the rest.
    pub fn new(id: HiveId, target: SshTarget) -> Self {
        let link = Arc::new(Link::new(&id));
        let token = SharedToken::pending();
        let endpoint =
            Endpoint::new(link.clone(), Tunnel::HIVE_PORT, None).with_token(token.clone());
        let mut info = HiveInfo::http(id.clone(), target.host(), 0);
        info.address = HiveAddress::Network {
            ssh_host: target.host().to_owned(),
            ssh_port: target.port().unwrap_or(0),
            ssh_user: target.user().unwrap_or_default().to_owned(),
            ssh_key_path: None,
        };
        Self {
            info,
            target,
            config: ConfigOptions::default(),
            connect: ConnectOptions::default(),
            programs: Arc::new(Programs::new(env!("CARGO_PKG_VERSION"))),
            directory: None,
            lease: LEASE,
            arguments: Vec::new(),
            progress: Arc::new(()),
            link,
            token,
            hive: HttpHive::new(id, endpoint),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Sets where the SSH configuration comes from; by default it is that of `ssh`.
    pub fn with_config(mut self, config: ConfigOptions) -> Self {
        self.config = config;
        self
    }

    /// Sets how the connection is opened.
    pub fn with_connection(mut self, connect: ConnectOptions) -> Self {
        self.connect = connect;
        self
    }

    /// Sets where the programs for the machine are on this one. Share it between hives.
    pub fn with_programs(mut self, programs: Arc<Programs>) -> Self {
        self.programs = programs;
        self
    }

    /// Sets the directory on the machine, absolute or beginning with `~/`; by default the first that can take the
    /// programs.
    pub fn with_directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets how long the hive and its workers continue without a queen, at least a second; 5 minutes by default.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Adds arguments of `rbee-hive`, for example `--models-budget` and `200GiB`; nothing secret, because every user of
    /// the machine sees them. A hive that runs already keeps its own.
    pub fn with_arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments = arguments.into_iter().collect();
        self
    }

    /// Adds labels to the machine.
    pub fn with_labels(mut self, labels: impl IntoIterator<Item = (String, String)>) -> Self {
        self.info.labels.extend(labels);
        self
    }

    /// Reports the steps to this display.
    pub fn with_progress(mut self, progress: Arc<dyn SshProgress>) -> Self {
        self.progress = progress;
        self
    }

    /// Shows the user and the port of this configuration in [`ModelHost::info`]; by default those of the target, if it
    /// names any.
    pub fn with_address_of(mut self, config: &HostConfig) -> Self {
        if let HiveAddress::Network { ssh_port, ssh_user, .. } = &mut self.info.address {
            *ssh_port = config.port;
            ssh_user.clone_from(&config.user);
        }
        self
    }

    /// The machine.
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Connects to the hive as [`watch`](HiveBackend::watch) does, unless it is connected. The next `watch` uses this
    /// connection.
    ///
    /// # Errors
    /// As [`watch`](HiveBackend::watch). The source is an [`SshError`] or a [`DeployError`].
    pub async fn connect(&self) -> Result<()> {
        let _one = self.changing.lock().await;
        self.up().await.map(drop)
    }

    /// The directory on the machine with its programs and its state, as far as this process knows it.
    pub fn directory(&self) -> Option<String> {
        let known = self.link.installed().map(|installed| installed.root);
        known.or_else(|| self.directory.clone())
    }

    /// The last lines of its log, at most this many, the oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it is not connected.
    pub async fn logs(&self, lines: usize) -> Result<Vec<LogLine>> {
        self.hive.logs(lines).await
    }

    fn reporter(&self) -> Reporter<'_> {
        Reporter { host: self.info.id.as_str(), progress: &self.progress }
    }

    async fn connection(&self) -> Result<Connection, SshError> {
        let mut options = self.connect.clone();
        if options.progress.is_none() {
            options.progress = Some(progress::of_connection(self.progress.clone()));
        }
        Connection::connect(&self.target, &self.config, &options).await
    }

    /// Connects to the hive, unless it is connected. Returns true if it has connected now.
    async fn up(&self) -> Result<bool> {
        if self.link.is_up() {
            return Ok(false);
        }
        self.reconnect().await.map(|()| true)
    }

    async fn reconnect(&self) -> Result<()> {
        // What is left of a connection whose tunnel has ended.
        if let Some(connection) = self.link.disconnect() {
            connection.close().await;
        }
        let connection = self.connection().await.map_err(|error| self.refused(error))?;
        let opened = self.open(&connection).await;
        let (installed, tunnel, token) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                connection.close().await;
                return Err(error);
            }
        };
        self.token.replace(token);
        self.link.connected(connection, tunnel, installed);
        Ok(())
    }

    async fn open(&self, connection: &Connection) -> Result<(Installed, Tunnel, Token)> {
        let hive = HiveStart {
            id: self.info.id.as_str().to_owned(),
            lease: self.lease,
            arguments: self.arguments.clone(),
        };
        // What this queen has put there before is most likely still there.
        if let Some(installed) = self.link.installed() {
            match self.start(connection, &installed, &hive).await {
                Ok((tunnel, token)) => return Ok((installed, tunnel, token)),
                Err(DeployError::Gone { .. }) => self.link.forget(),
                Err(error) => return Err(self.failed(error)),
            }
        }
        let uploader = uploader(&self.info.id);
        let mut options = DeployOptions::new(self.programs.clone(), uploader);
        options.directory.clone_from(&self.directory);
        let reporter = self.reporter();
        let began = async {
            let deployment = deploy::deploy(connection, &options, &reporter).await?;
            let installed = deployment.installed;
            if installed.sent_bytes > 0 {
                // The hive runs the new programs before the old ones are removed. This comes before the tunnel, because
                // a server may allow one session at a time.
                let step = reporter.start(SshStep::Start);
                deploy::start_only(connection, &installed, &hive).await?;
                step.finish("with the new programs");
                let keep = installed.directory.rsplit('/').next().unwrap_or_default();
                deploy::remove_old_versions(connection, &installed.root, &[keep], &reporter)
                    .await?;
            }
            let (tunnel, token) = self.start(connection, &installed, &hive).await?;
            Ok((installed, tunnel, token))
        };
        began.await.map_err(|error: DeployError| self.failed(error))
    }

    async fn start(
        &self,
        connection: &Connection,
        installed: &Installed,
        hive: &HiveStart,
    ) -> Result<(Tunnel, Token), DeployError> {
        let reporter = self.reporter();
        let step = reporter.start(SshStep::Tunnel);
        let (detached, stream) = deploy::start(connection, installed, hive).await?;
        let tunnel = Tunnel::open(stream, self.info.id.as_str()).await;
        let tunnel = tunnel.map_err(|cause| DeployError::Session { what: "the tunnel", cause })?;
        let how = if detached.adopted { "that runs" } else { "that was started" };
        step.finish(format!("to the hive {how}, process {}", detached.process));
        Ok((tunnel, detached.token))
    }

    fn refused(&self, error: SshError) -> Error {
        self.error(error.is_transient(), error)
    }

    fn failed(&self, error: DeployError) -> Error {
        self.error(error.is_transient(), error)
    }

    fn error(
        &self,
        is_transient: bool,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        let kind = match is_transient {
            true => ErrorKind::HiveUnreachable,
            false => ErrorKind::Config,
        };
        let message = format!("hive {} ({}): {error}", self.info.id, self.target);
        Error::new(kind, message).with_source(error)
    }
}

/// Names who copies programs: the same after a restart of the queen, so that it removes what it left behind.
fn uploader(hive: &HiveId) -> String {
    match LocalUser::current() {
        Some(user) => format!("{}-{}-{hive}", user.host_name, user.uid),
        None => format!("{}-{hive}", std::process::id()),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ModelHost for SshHive {
    fn info(&self) -> &HiveInfo {
        &self.info
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.hive.provision(model, from, progress).await
    }

    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.hive.files(model).await
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.hive.verify(model, progress).await
    }

    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.hive.remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for SshHive {
    /// Connects, puts the programs there if needed, and starts the hive, unless it is connected.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it can be tried again later. [`ErrorKind::Config`] for what a person must
    /// mend, with what to do: an unknown or changed host key, keys that are not accepted, a machine that the programs
    /// do not fit.
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        let _one = self.changing.lock().await;
        let is_new = self.up().await?;
        let reporter = self.reporter();
        let step = reporter.start(SshStep::Health);
        // It has this name, because it was started or found by it.
        let events = match self.hive.claim(owner).await {
            // The connection is about to end, or the hive at its end: its streams notice that before the tunnel does.
            Err(error) if error.kind() == ErrorKind::HiveUnreachable && !is_new => {
                self.reconnect().await?;
                self.hive.claim(owner).await?
            }
            events => events?,
        };
        step.finish("it answers");
        Ok(events)
    }

    async fn report(&self) -> Result<HiveReport> {
        self.hive.report().await
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.hive.spawn(id, spec, progress).await
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.hive.worker(id).await
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.hive.stop(id, grace).await
    }

    /// A hive that is not connected is looked for on its machine, and ended if it runs. It is not started for that.
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        let _one = self.changing.lock().await;
        let is_up = self.link.is_up();
        let down = match is_up {
            true => self.hive.shutdown(grace).await,
            false => Ok(()),
        };
        if let Some(connection) = self.link.disconnect() {
            connection.close().await;
        }
        match down {
            Ok(()) if is_up => Ok(()),
            // Also if the connection broke off before the hive had ended.
            Ok(()) => self.end(grace).await,
            Err(error) if error.kind() == ErrorKind::HiveUnreachable => self.end(grace).await,
            Err(error) => Err(error),
        }
    }
}
