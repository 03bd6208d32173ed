//! An authenticated SSH connection: [`Connection`].

mod dial;
mod explain;
mod handler;
mod open;
mod trust;

use std::{
    any::Any,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{
    ChannelOpenFailure, Disconnect,
    client::{Handle, Msg},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    channel::{Channel, NO_COMMANDS, Started},
    config::{ConfigOptions, HostConfig},
    error::SshError,
    fingerprint::Fingerprint,
    passphrases::{NoPassphrases, Passphrases},
    progress::{ConnectStep, Progress, RunningStep},
    target::SshTarget,
};

use handler::{ClientHandler, Refusal, Reports};

/// How long opening a channel may take, and the command's start.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long a server is asked again that opens no further session, and the first pause.
const SESSIONS_LIMIT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a reader may take nothing while the buffer of its channel is full.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// What a server refuses, for errors.
const TO_RUN: &str = "to run a command";
/// How long the end of a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How connections are opened.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Accept and record the host key of a machine that has none recorded, and of its jump hosts. A changed or revoked
    /// key is refused in any case.
    pub accept_new: bool,
    /// Who knows the passphrases of key files.
    pub passphrases: Arc<dyn Passphrases>,
    /// Who is informed of the steps.
    pub progress: Option<Arc<dyn Progress>>,
    /// How long connecting may take, and the exchange of keys, unless `ConnectTimeout` is set.
    pub connect_timeout: Duration,
    /// How long the machine may be silent before it is asked for a sign, unless `ServerAliveInterval` is set.
    pub keep_alive_interval: Duration,
    /// How many bytes of one channel may be on the way to this machine. It bounds the throughput of a channel: this
    /// many bytes in each round trip.
    pub window_size: u32,
}

impl Default for ConnectOptions {
    /// Unknown host keys are refused; 15 s to connect; a sign after 10 s of silence; windows of 8 MiB.
    fn default() -> Self {
        Self {
            accept_new: false,
            passphrases: Arc::new(NoPassphrases),
            progress: None,
            connect_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(10),
            window_size: 8 << 20,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectOptions")
            .field("accept_new", &self.accept_new)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_alive_interval", &self.keep_alive_interval)
            .field("window_size", &self.window_size)
            .finish_non_exhaustive()
    }
}

/// An authenticated connection to a machine. Clones share it, and it ends with the last one and the last [`Channel`].
///
/// A machine that is gone is noticed by keep-alive messages: [`closed`](Self::closed) returns then.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<HostConfig>,
    handle: Handle<ClientHandler>,
    reports: Arc<Reports>,
    /// Channels are opened one at a time, so that a refusal belongs to the one that is being opened.
    opening: Mutex<mpsc::Receiver<Refusal>>,
    /// Ends the session's task, also if it is stuck.
    abort: CancellationToken,
    _end: DropGuard,
    /// The hop before, or the process that carries the connection.
    _carrier: Option<Box<dyn Any + Send + Sync>>,
}

impl Connection {
    /// Connects to a machine, by its jump hosts if it has any, and authenticates.
    ///
    /// # Errors
    /// [`SshError`] with the step that failed. Host keys that are unknown, changed or revoked have errors of their own,
    /// and so have keys that the server does not accept. Errors of jump hosts are in [`SshError::Jump`].
    pub async fn open(config: &HostConfig, options: &ConnectOptions) -> Result<Self, SshError> {
        open::open(config, options).await
    }

    /// Reads the configuration of a machine and connects to it: [`HostConfig::resolve`] and [`open`](Self::open).
    ///
    /// # Errors
    /// As both of them.
    pub async fn connect(
        target: &SshTarget,
        configuration: &ConfigOptions,
        options: &ConnectOptions,
    ) -> Result<Self, SshError> {
        let name = target.to_string();
        let step =
            RunningStep::start(options.progress.as_deref(), &name, ConnectStep::Configuration);
        let config = HostConfig::resolve(target, configuration).await?;
        step.finish(format!("{}@{}", config.user, config.address()));
        Self::open(&config, options).await
    }

    /// Starts a command, which the user's login shell reads. It should be one word, `sh`, with the script on its
    /// input: shells differ in everything else.
    ///
    /// A server that opens no further session is asked again for 5 seconds (`MaxSessions` counts a session a little
    /// longer than it lasts).
    ///
    /// # Errors
    /// [`SshError::SessionsFull`], [`SshError::ChannelRefused`], [`SshError::Closed`], [`SshError::Timeout`].
    pub async fn exec(&self, command: &str) -> Result<Channel, SshError> {
        let (channel, is_started) = self.request(command).await?;
        match timeout(OPEN_LIMIT, is_started).await {
            Err(_) => Err(self.timeout("the start of a command")),
            Ok(Ok(Ok(()))) => Ok(channel),
            Ok(Ok(Err(_))) => Err(self.refused(TO_RUN.into(), NO_COMMANDS.into())),
            Ok(Err(_)) if self.is_closed() => Err(self.ended()),
            Ok(Err(_)) => Err(self.refused(TO_RUN.into(), "it closed the channel".into())),
        }
    }

    /// Starts a command and does not wait for the answer of the server, which saves a round trip. If the server refuses
    /// the command, the first read fails.
    pub(crate) async fn exec_at_once(&self, command: &str) -> Result<Channel, SshError> {
        Ok(self.request(command).await?.0)
    }

    async fn request(&self, command: &str) -> Result<(Channel, Started), SshError> {
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        let channel = loop {
            let opening = self.inner.handle.channel_open_session();
            match self.opened(opening, || TO_RUN.to_owned()).await? {
                Ok(channel) => break channel,
                Err(Refused { is_full: true, reason }) => {
                    if begin.elapsed() + pause > SESSIONS_LIMIT {
                        let (host, waited) = (self.host().to_owned(), begin.elapsed());
                        return Err(SshError::SessionsFull { host, reason, waited });
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(Refused { reason, .. }) => return Err(self.refused(TO_RUN.into(), reason)),
            }
        };
        channel.exec(true, command).await.map_err(|_| self.ended())?;
        Ok(Channel::start(channel, Some(STALL_LIMIT), self.inner.clone()))
    }

    /// Connects from the machine to an address that it can reach.
    ///
    /// # Errors
    /// [`SshError::ChannelRefused`] if the server forbids forwarding or nothing listens there,
    /// [`SshError::Closed`], [`SshError::Timeout`].
    pub async fn open_tcp(&self, host: &str, port: u16) -> Result<Channel, SshError> {
        self.tcp(host, port, Some(STALL_LIMIT)).await
    }

    async fn tcp(
        &self,
        host: &str,
        port: u16,
        stall_limit: Option<Duration>,
    ) -> Result<Channel, SshError> {
        let what = || format!("to connect to {host}:{port}");
        // The origin is for its logs; a loopback address discloses nothing.
        let opening =
            self.inner.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0);
        match self.opened(opening, what).await? {
            Ok(channel) => Ok(Channel::start(channel, stall_limit, self.inner.clone()).0),
            Err(Refused { reason, .. }) => Err(self.refused(what(), reason)),
        }
    }

    /// The machine as the person named it.
    pub fn host(&self) -> &str {
        &self.inner.config.target
    }

    /// The configuration of the connection.
    pub fn config(&self) -> &HostConfig {
        &self.inner.config
    }

    /// The text that the server shows before authentication, at most 16 KiB. It is from the server: do not trust it.
    pub fn banner(&self) -> String {
        self.inner.reports.banner()
    }

    /// The server's software: `SSH-2.0-OpenSSH_9.2p1`.
    pub fn server(&self) -> String {
        self.inner.reports.server()
    }

    /// The accepted host key.
    pub fn host_key(&self) -> Option<Fingerprint> {
        self.inner.reports.host_key()
    }

    /// Returns true if the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.handle.is_closed()
    }

    /// Waits until the connection has ended, and returns why: [`SshError::Closed`].
    pub async fn closed(&self) -> SshError {
        self.inner.reports.closed.cancelled().await;
        self.ended()
    }

    /// Ends the connection for all clones and channels, within 2 seconds.
    pub async fn close(&self) {
        let reports = &self.inner.reports;
        reports.ends("it was closed here".into());
        let ending = async {
            let handle = &self.inner.handle;
            if handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                reports.closed.cancelled().await;
            }
        };
        if timeout(CLOSE_LIMIT, ending).await.is_err() {
            self.inner.abort.cancel();
        }
    }

    /// Waits for a channel to be opened. The inner error is the answer of the server.
    async fn opened(
        &self,
        opening: impl Future<Output = Result<russh::Channel<Msg>, russh::Error>>,
        what: impl Fn() -> String,
    ) -> Result<Result<russh::Channel<Msg>, Refused>, SshError> {
        let attempt = async {
            let mut refusals = self.inner.opening.lock().await;
            // Whoever waited for these was dropped.
            while refusals.try_recv().is_ok() {}
            match opening.await {
                Ok(channel) => Ok(Ok(channel)),
                Err(russh::Error::ChannelOpenFailure(code)) => {
                    let description = refusals.recv().await.map(|refusal| refusal.description);
                    Ok(Err(Refused::new(&code, description.unwrap_or_default())))
                }
                Err(_) => Err(self.ended()),
            }
        };
        match timeout(OPEN_LIMIT, attempt).await {
            Ok(result) => result,
            Err(_) => Err(self.timeout(&format!("the answer to the request {}", what()))),
        }
    }

    fn ended(&self) -> SshError {
        let reason = self.inner.reports.end().unwrap_or_else(|| "it is being closed".into());
        SshError::Closed { host: self.host().into(), reason }
    }

    fn refused(&self, what: String, reason: String) -> SshError {
        SshError::ChannelRefused { host: self.host().into(), what, reason }
    }

    fn timeout(&self, what: &str) -> SshError {
        SshError::Timeout { host: self.host().into(), what: what.into(), limit: OPEN_LIMIT }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("host", &self.host()).finish_non_exhaustive()
    }
}

/// A channel that the server did not open.
struct Refused {
    /// It opens no more sessions than it has.
    is_full: bool,
    reason: String,
}

impl Refused {
    fn new(code: &ChannelOpenFailure, description: String) -> Self {
        let (is_full, hint) = match code {
            // OpenSSH's answer to a session above MaxSessions; a port that does not answer has another text.
            ChannelOpenFailure::ConnectFailed => (description == "open failed", ""),
            ChannelOpenFailure::ResourceShortage => (true, ""),
            ChannelOpenFailure::AdministrativelyProhibited => (
                false,
                " (its sshd_config forbids it: AllowTcpForwarding, DisableForwarding, PermitOpen)",
            ),
            ChannelOpenFailure::UnknownChannelType => (false, " (it does not support this)"),
            ChannelOpenFailure::Other { .. } => (false, ""),
        };
        let description = match description.trim() {
            "" => "no reason given",
            text => text,
        };
        Self { is_full, reason: format!("{description}{hint}") }
    }
}
