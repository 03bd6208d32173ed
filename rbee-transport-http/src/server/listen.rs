//! What serves a router: connections with bounds on everything a client can make large or slow.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::Router;
use rbee_core::{Error, ErrorKind, Result};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    accept_report::{AcceptReport, Event},
    connection::Connection,
    connections::{Caps, Connected, ConnectionTable, Full},
    descriptors,
    shutdown_signal::ShutdownSignal,
    tls::TlsFiles,
};

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Fewer if the process cannot have that many files open: a quarter of its descriptors, 64 to
    /// 4,096, stays free for everything else. If all are used, one that serves nobody is closed for a new one; if there
    /// is none, more wait in the operating system's queue. 10,000.
    pub connections: usize,
    /// Connections at once from one address; an IPv6 address counts by its first 64 bits. `None` for half of all from
    /// any other machine, and three quarters from this one, where a reverse proxy may stand for many clients; all of
    /// them if the server listens for this machine alone.
    pub connections_per_peer: Option<usize>,
    /// How long a new connection may take until the head of its first request is there, after a TLS handshake. 10
    /// seconds.
    pub first_head_patience: Duration,
    /// How long the head of a later request may take, and how long a connection may be unused. 60 seconds.
    pub head_patience: Duration,
    /// How long a client may read nothing while there is something for it. 2 minutes.
    pub write_patience: Duration,
    /// How long a TLS handshake may take. 10 seconds.
    pub handshake_patience: Duration,
    /// Headers of one request. 100.
    pub headers: usize,
    /// The head of a request, in bytes. 64 KiB.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: None,
            first_head_patience: Duration::from_secs(10),
            head_patience: Duration::from_secs(60),
            write_patience: Duration::from_secs(120),
            handshake_patience: Duration::from_secs(10),
            headers: 100,
            head_bytes: 64 << 10,
        }
    }
}

/// Before the next try to accept, if the operating system has no room for a connection. It doubles with each.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connections that the operating system holds until they are accepted. With the 128 of the standard library a burst
/// makes it drop some, and their clients try again after a second.
const BACKLOG: u32 = 1_024;

/// A listening socket and how connections to it are served.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    tls: Option<TlsFiles>,
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
    /// [`ErrorKind::Config`] if that cannot be, because another program listens there for instance.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let wrong = |cause: std::io::Error| {
            Error::new(ErrorKind::Config, format!("cannot listen on {address}: {cause}"))
                .with_source(cause)
        };
        let listener = listen(address).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        Ok(Self { listener, address, limits: Limits::default(), tls: None })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other bounds.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Speaks TLS, with the certificates and the private key of these PEM files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, the two do not fit together, or this build has no TLS (feature
    /// `tls`).
    pub fn with_tls(mut self, certificates: &Path, key: &Path) -> Result<Self> {
        self.tls = Some(TlsFiles::open(certificates, key)?);
        Ok(self)
    }

    /// The files of [`with_tls`](Self::with_tls), to be read again while it serves.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        self.tls.clone()
    }

    /// Serves until told to stop; then takes no more connections, and gives requests under way `grace` to end.
    pub async fn run(self, router: Router, stop: CancellationToken, grace: Duration) {
        let mut tasks = JoinSet::new();
        let shutdown = Arc::new(ShutdownSignal::default());
        let accepting = self.accept_all(&router, &shutdown, &mut tasks);
        stop.run_until_cancelled(accepting).await;
        shutdown.send();
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tasks.shutdown().await;
        }
    }

    /// Accepts connections and serves them, without end.
    async fn accept_all(
        &self,
        router: &Router,
        shutdown: &Arc<ShutdownSignal>,
        tasks: &mut JoinSet<()>,
    ) {
        let table = ConnectionTable::new(self.caps(descriptors::limit()));
        let (mut report, mut pause) = (AcceptReport::default(), ACCEPT_PAUSE);
        loop {
            report.say(Instant::now(), table.open(), table.caps().all);
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = until(report.due()) => continue,
            };
            // Those that have ended are forgotten.
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok((stream, from)) => {
                    pause = ACCEPT_PAUSE;
                    let Some(connected) = admit(&table, from, &mut report).await else { continue };
                    self.serve(stream, connected, &table, router, shutdown, tasks);
                }
                // That one has gone away again.
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    // Out of descriptors, most likely: others than connections have taken more than was left to them.
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

    fn serve(
        &self,
        stream: TcpStream,
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
        };
        let task = tasks.spawn(connection.serve(stream));
        table.served_by(&id, task);
    }

    /// How many connections there may be, if so many files can be open.
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

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: a daemon that is started again gets its port back at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes a connection in, as soon as there is room. `None` if its peer has too many.
async fn admit(
    table: &Arc<ConnectionTable>,
    from: SocketAddr,
    report: &mut AcceptReport,
) -> Option<Arc<Connected>> {
    let mut has_waited = false;
    loop {
        let now = Instant::now();
        match table.admit(from.ip().into(), now) {
            Ok((connected, closed)) => {
                if let Some(why) = closed {
                    report.note(Event::Closed(why, from.ip()));
                }
                table.settled().await;
                return Some(connected);
            }
            Err(Full::Peer) => {
                report.note(Event::Refused(from.ip()));
                return None;
            }
            Err(Full::All) => {
                if !std::mem::replace(&mut has_waited, true) {
                    report.note(Event::Waits(from.ip()));
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

/// Is it about the one connection that would have been accepted, and not about all?
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
