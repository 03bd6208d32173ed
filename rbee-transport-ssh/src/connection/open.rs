//! Opening a connection, hop by hop.

use std::{any::Any, sync::Arc, time::Duration};

use russh::{Preferred, SshId, cipher, client, client::Handle};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    authentication,
    config::HostConfig,
    error::SshError,
    progress::{ConnectStep, RunningStep},
    socket::{Io, Socket},
};

use super::{
    ConnectOptions, Connection, Inner, dial, explain,
    handler::{ClientHandler, Reports, SessionError},
    trust::Trust,
};

/// What servers see and log.
const CLIENT: &str = concat!("SSH-2.0-rbee_", env!("CARGO_PKG_VERSION"));

/// The ciphers, the best first: AES-GCM is by far the fastest on processors with AES instructions.
const CIPHERS: [cipher::Name; 3] =
    [cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];

/// Opens the connection to each jump host, then to the machine.
pub(super) async fn open(
    config: &HostConfig,
    options: &ConnectOptions,
) -> Result<Connection, SshError> {
    let mut previous: Option<Connection> = None;
    for hop in &config.jump {
        let reached = open_hop(hop, options, previous).await;
        previous = Some(reached.map_err(|cause| on_the_way(config, cause))?);
    }
    match previous {
        // The last jump host refuses the way to the machine.
        Some(last) => {
            let is_refusal = |cause: &SshError| matches!(cause, SshError::ChannelRefused { .. });
            open_hop(config, options, Some(last)).await.map_err(|cause| match is_refusal(&cause) {
                true => on_the_way(config, cause),
                false => cause,
            })
        }
        None => open_hop(config, options, None).await,
    }
}

fn on_the_way(config: &HostConfig, cause: SshError) -> SshError {
    SshError::Jump { target: config.target.clone(), cause: Box::new(cause) }
}

/// Connects to one machine, directly or by the one before, and authenticates.
async fn open_hop(
    config: &HostConfig,
    options: &ConnectOptions,
    previous: Option<Connection>,
) -> Result<Connection, SshError> {
    let config = Arc::new(config.clone());
    let progress = options.progress.as_deref();
    let limit = config.connect_timeout.unwrap_or(options.connect_timeout);
    let step = RunningStep::start(progress, &config.target, ConnectStep::HostKey);
    let trust = Trust::read(&config, options.accept_new).await?;
    let (stream, mut carrier) = stream(&config, previous, limit).await?;

    let (reports, refusals) = Reports::new();
    let client = Arc::new(settings(&config, options, &trust));
    let interval = client.keepalive_interval.unwrap_or(options.keep_alive_interval);
    let silence = interval * (config.keep_alive_max.clamp(1, 1000) + 1);
    let abort = CancellationToken::new();
    let end = abort.clone().drop_guard();
    let socket = Socket::new(stream, silence, abort.clone());
    let handler = ClientHandler { reports: reports.clone(), trust };
    let mut handle = match handshake(&config, client, socket, handler, limit).await {
        Ok(handle) => handle,
        Err(cause) => return Err(carrier.explain(cause).await),
    };
    step.finish(reports.host_key().map(|key| key.to_string()).unwrap_or_default());

    let step = RunningStep::start(progress, &config.target, ConnectStep::Authentication);
    let used =
        authentication::authenticate(&mut handle, &config, options.passphrases.as_ref(), &|| {
            reports.end()
        })
        .await?;
    step.finish(used);
    let opening = Mutex::new(refusals);
    let _carrier = carrier.keep();
    Ok(Connection {
        inner: Arc::new(Inner { config, handle, reports, opening, abort, _end: end, _carrier }),
    })
}

/// What carries the bytes of a connection.
enum Carrier {
    Network,
    Hop(Connection),
    Process(dial::Proxy),
}

impl Carrier {
    /// Adds what a proxy said.
    async fn explain(&mut self, cause: SshError) -> SshError {
        match (self, cause) {
            (Self::Process(proxy), SshError::Handshake { host, reason }) => {
                let said = match proxy.said().await {
                    said if said.is_empty() => "nothing".into(),
                    said => format!("{said:?}"),
                };
                SshError::Handshake { host, reason: format!("{reason}; ProxyCommand said {said}") }
            }
            (_, cause) => cause,
        }
    }

    fn keep(self) -> Option<Box<dyn Any + Send + Sync>> {
        match self {
            Self::Network => None,
            Self::Hop(connection) => Some(Box::new(connection)),
            Self::Process(proxy) => Some(Box::new(proxy)),
        }
    }
}

async fn stream(
    config: &HostConfig,
    previous: Option<Connection>,
    limit: Duration,
) -> Result<(Box<dyn Io>, Carrier), SshError> {
    if let Some(hop) = previous {
        // A reader that stalls stalls this hop alone, which carries nothing else.
        let channel = hop.tcp(&config.host_name, config.port, None).await?;
        return Ok((Box::new(channel), Carrier::Hop(hop)));
    }
    match &config.proxy_command {
        Some(command) => {
            let (stream, proxy) = dial::proxy(config, command)?;
            Ok((stream, Carrier::Process(proxy)))
        }
        None => Ok((Box::new(dial::tcp(config, limit).await?), Carrier::Network)),
    }
}

async fn handshake(
    config: &HostConfig,
    client: Arc<client::Config>,
    socket: Socket,
    handler: ClientHandler,
    limit: Duration,
) -> Result<Handle<ClientHandler>, SshError> {
    let failed = |reason| SshError::Handshake { host: config.address(), reason };
    match timeout(limit, client::connect_stream(client, socket, handler)).await {
        Ok(Ok(handle)) => Ok(handle),
        Ok(Err(SessionError::Refused(cause))) => Err(*cause),
        Ok(Err(SessionError::Ssh(cause))) => Err(failed(explain::handshake(&cause))),
        Err(_) => Err(failed(format!(
            "it was silent for {:.1} s; it may be overloaded, or no SSH server: check the port",
            limit.as_secs_f32()
        ))),
    }
}

fn settings(config: &HostConfig, options: &ConnectOptions, trust: &Trust) -> client::Config {
    let interval = config.keep_alive_interval.unwrap_or(options.keep_alive_interval);
    client::Config {
        client_id: SshId::Standard(CLIENT.into()),
        preferred: Preferred { cipher: (&CIPHERS[..]).into(), ..trust.preferred() },
        keepalive_interval: Some(interval),
        keepalive_max: config.keep_alive_max.clamp(1, 1000) as usize,
        window_size: options.window_size,
        nodelay: true,
        ..client::Config::default()
    }
}
