//! The server of a router: connections with limits on everything that a client can make large or slow.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use rbee_core::{Error, ErrorKind, Result};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::wire::ListenHost;

#[cfg(unix)]
use super::socket_listener::SocketListener;
#[cfg(all(feature = "tunnel", unix))]
use super::tunnel::TunnelListener;
use super::{
    accept_report::{AcceptReport, Event},
    connection::Connection,
    connections::{Caps, Connected, ConnectionTable, Full},
    descriptors,
    limits::Limits,
    listener::{self, Accepted, Listener},
    shutdown_signal::ShutdownSignal,
    tls::TlsFiles,
};

/// The pause before the next attempt to accept, if the operating system has no room for a connection. It doubles each
/// time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How many ports are tried if the system chooses the port, and another program has it on the second address.
const PORT_TRIES: usize = 16;

/// The address of a server that listens on a Unix socket: nobody can connect to it.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The listening sockets and the settings for their connections.
pub struct Server {
    listeners: Vec<Listener>,
    /// That of the first listener.
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsFiles>,
    draining: CancellationToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "Server({scheme}://{})", self.address)
    }
}

impl Server {
    /// Listens on this address; port 0 lets the operating system choose one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if that is not possible, for example because another program listens there.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = listener::listen(address).map_err(|cause| unusable(address, cause))?;
        let address = listener.local_addr().map_err(|cause| unusable(address, cause))?;
        Ok(Self::on(Listener::Tcp(listener), address))
    }

    /// Listens on a Unix socket at this path, which only this user can reach. A socket that nobody listens on any more
    /// is replaced. The socket is removed when this is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if that is not possible, for example because another program listens there or the path is
    /// longer than a socket's path may be.
    #[cfg(unix)]
    pub fn bind_socket(path: &Path) -> Result<Self> {
        let listener =
            SocketListener::bind(path).map_err(|cause| unusable(path.display(), cause))?;
        Ok(Self::on(Listener::Socket(listener), NO_ADDRESS))
    }

    /// Listens for [tunnels](crate::client::Tunnel) on a Unix socket at this path, as
    /// [`bind_socket`](Self::bind_socket) does. The server serves those of their connections that are for port 0; the
    /// others are connected to the sockets of workers.
    ///
    /// # Errors
    /// As [`bind_socket`](Self::bind_socket).
    #[cfg(all(feature = "tunnel", unix))]
    pub fn bind_tunnel(path: &Path, workers: crate::dial::Sockets) -> Result<Self> {
        let listener =
            SocketListener::bind(path).map_err(|cause| unusable(path.display(), cause))?;
        Ok(Self::on(Listener::Tunnel(TunnelListener::new(listener, workers)), NO_ADDRESS))
    }

    /// Listens on a Unix socket at this path as well, as [`bind_socket`](Self::bind_socket) does. It never has TLS.
    ///
    /// # Errors
    /// As [`bind_socket`](Self::bind_socket).
    #[cfg(unix)]
    pub fn with_socket(mut self, path: &Path) -> Result<Self> {
        let listener =
            SocketListener::bind(path).map_err(|cause| unusable(path.display(), cause))?;
        self.listeners.push(Listener::Socket(listener));
        Ok(self)
    }

    fn on(listener: Listener, address: SocketAddr) -> Self {
        let (limits, draining) = (Limits::default(), CancellationToken::new());
        Self { listeners: vec![listener], address, limits, tls: None, draining }
    }

    /// Listens on all addresses of this host, with the same port; port 0 lets the operating system choose one. If this
    /// machine has no `::1`, `localhost` is `127.0.0.1` alone.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if that is not possible, for example because another program listens on one of them.
    pub async fn bind_host(host: ListenHost, port: u16) -> Result<Self> {
        // Kept until the end, so that the system chooses another port.
        let mut tried = Vec::new();
        loop {
            let mut addresses = host.addresses(port);
            let Some(first) = addresses.next() else {
                return Err(Error::new(ErrorKind::Internal, "a host without an address"));
            };
            let mut server = Self::bind(first).await?;
            let mut failed = None;
            for mut address in addresses {
                address.set_port(server.address.port());
                match listener::listen(address) {
                    Ok(listener) => server.listeners.push(Listener::Tcp(listener)),
                    Err(cause) if is_absent(&cause) => {
                        tracing::debug!(%address, %cause, "this machine does not have this address");
                    }
                    Err(cause) => failed = Some((address, cause)),
                }
            }
            match failed {
                None => return Ok(server),
                Some((_, cause))
                    if port == 0
                        && cause.kind() == io::ErrorKind::AddrInUse
                        && tried.len() < PORT_TRIES =>
                {
                    tried.push(server);
                }
                Some((address, cause)) => return Err(unusable(address, cause)),
            }
        }
    }

    /// The address it listens on; of several the first. A server on a Unix socket has none, and gives `127.0.0.1:0`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Once this is cancelled, every response ends its connection (`Connection: close`): the server will stop soon, and
    /// clients that keep connections would send their next request into its end.
    pub fn with_drain(mut self, draining: CancellationToken) -> Self {
        self.draining = draining;
        self
    }

    /// Uses TLS on its addresses, with the certificates and the private key of these PEM files. Unix sockets have none.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, if the two do not match, or if this build has no TLS (feature
    /// `tls`).
    pub fn with_tls(mut self, certificates: &Path, key: &Path) -> Result<Self> {
        self.tls = Some(TlsFiles::open(certificates, key)?);
        Ok(self)
    }

    /// The same, with files that were read before.
    pub fn with_tls_files(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// The files of [`with_tls`](Self::with_tls), to read them again while it serves.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        self.tls.clone()
    }

    /// Serves until `stop` is cancelled; then accepts no more connections, and gives requests in progress `grace` to
    /// end.
    pub async fn run(self, router: Router, stop: CancellationToken, grace: Duration) {
        let mut tasks = JoinSet::new();
        let shutdown = Arc::new(ShutdownSignal::default());
        let accepting = self.accept_all(&router, &shutdown, &mut tasks);
        let announcing = async {
            self.draining.cancelled().await;
            shutdown.announce();
        };
        stop.run_until_cancelled(futures_util::future::join(accepting, announcing)).await;
        shutdown.send();
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tasks.shutdown().await;
        }
    }

    /// Accepts connections and serves them; never returns.
    async fn accept_all(
        &self,
        router: &Router,
        shutdown: &Arc<ShutdownSignal>,
        tasks: &mut JoinSet<()>,
    ) {
        let table = ConnectionTable::new(self.caps(descriptors::limit()));
        let (mut report, mut pause) = (AcceptReport::default(), ACCEPT_PAUSE);
        let mut turn = 0_usize;
        loop {
            report.say(Instant::now(), table.open(), table.caps().all);
            // Each listener is the first in turn, so that a flood on one does not shut out the other.
            turn = turn.wrapping_add(1);
            let accepted = tokio::select! {
                accepted = std::future::poll_fn(|cx| self.poll_accept(turn, cx)) => accepted,
                () = until(report.due()) => continue,
            };
            // Tasks that have ended are removed.
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok(stream) => {
                    pause = ACCEPT_PAUSE;
                    let from = stream.peer();
                    let Some(connected) = admit(&table, from, &mut report).await else { continue };
                    self.serve(stream, connected, &table, router, shutdown, tasks);
                }
                // That client has disconnected.
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    // Most likely out of descriptors: other parts of the process use more than was reserved for them.
                    report.note(Event::Failed(&error));
                    if let Some(why) = table.close_one(Instant::now()) {
                        tracing::debug!(?why, "a connection was closed for its descriptor");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
    }

    fn poll_accept(&self, turn: usize, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let first = turn % self.listeners.len();
        let (last, next) = self.listeners.split_at(first);
        for listener in next.iter().chain(last) {
            let accepted = listener.poll_accept(cx);
            if accepted.is_ready() {
                return accepted;
            }
        }
        Poll::Pending
    }

    fn serve(
        &self,
        stream: Accepted,
        connected: Arc<Connected>,
        table: &ConnectionTable,
        router: &Router,
        shutdown: &Arc<ShutdownSignal>,
        tasks: &mut JoinSet<()>,
    ) {
        let id = connected.id();
        let connection = Connection {
            limits: self.limits,
            tls: self.tls.as_ref().map(TlsFiles::acceptor),
            router: router.clone(),
            shutdown: shutdown.clone(),
            connected,
            reach: stream.reach(self.address),
        };
        let task = tasks.spawn(connection.serve(stream));
        table.served_by(&id, task);
    }

    /// The limits on connections, given this many descriptors.
    fn caps(&self, descriptors: Option<u64>) -> Caps {
        let all = descriptors::connection_cap(self.limits.connections, descriptors);
        if all < self.limits.connections {
            tracing::info!(
                address = %self.address, connections = all, open_files = descriptors,
                "fewer connections than allowed are taken at once, because of the limit on open files (`ulimit -n`)"
            );
        }
        let share =
            |default: usize| self.limits.connections_per_peer.unwrap_or(default).clamp(1, all);
        let loopback = if self.address.ip().is_loopback() { all } else { all - all / 4 };
        Caps { all, loopback: share(loopback), peer: share(all.div_ceil(2)) }
    }
}

fn unusable(address: impl std::fmt::Display, cause: io::Error) -> Error {
    let message = format!("cannot listen on {address}: {cause}");
    Error::new(ErrorKind::Config, message).with_source(cause)
}

/// True if this machine does not have such an address: IPv6 may be off, or not allowed to this process.
fn is_absent(cause: &io::Error) -> bool {
    #[cfg(unix)]
    let has_no_family = cause.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    #[cfg(not(unix))]
    let has_no_family = false;
    has_no_family || cause.kind() == io::ErrorKind::AddrNotAvailable
}

/// Admits a connection as soon as there is room. `None` if its peer has too many.
async fn admit(
    table: &Arc<ConnectionTable>,
    from: IpAddr,
    report: &mut AcceptReport,
) -> Option<Arc<Connected>> {
    let mut has_waited = false;
    loop {
        let now = Instant::now();
        match table.admit(from.into(), now) {
            Ok((connected, closed)) => {
                if let Some(why) = closed {
                    report.note(Event::Closed(why, from));
                }
                table.settled().await;
                return Some(connected);
            }
            Err(Full::Peer) => {
                report.note(Event::Refused(from));
                return None;
            }
            Err(Full::All) => {
                if !std::mem::replace(&mut has_waited, true) {
                    report.note(Event::Waits(from));
                }
                report.say(now, table.open(), table.caps().all);
                table.changed().await;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// True if it concerns only the connection that would have been accepted, not all.
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
